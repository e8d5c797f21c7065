"""What IPAM remembers. `api` is what the rest of the service may ask of it."""
