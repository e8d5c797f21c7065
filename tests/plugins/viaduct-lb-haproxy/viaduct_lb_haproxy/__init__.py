"""`LoadBalancer`: one address of an L3 network in front of several NICs, served by HAProxy."""
