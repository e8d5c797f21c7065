"""Backends: how each type of L2 network is built on this host; found by entry points, see `api`."""
