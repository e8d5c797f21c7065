"""Security groups on this host: a distributed, stateful filter at every NIC."""
