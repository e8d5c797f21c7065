"""What IPAM decides, as pure functions: plain values in and out, no I/O."""
