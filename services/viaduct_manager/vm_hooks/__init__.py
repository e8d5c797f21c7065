"""Who has a say in VMs' networks: extension point `viaduct.vm_network_hooks`."""
