"""The L2 types: extension point `viaduct.l2_types`."""
