"""`VirtualRouter`: one router for each L3 network, on a gateway host."""
