"""The network manager: the model and its desired state, operations, and convergence of the hosts."""
