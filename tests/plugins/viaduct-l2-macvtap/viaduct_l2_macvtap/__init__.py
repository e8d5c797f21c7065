"""`L2MacvtapNetwork`: the untagged frames of a physical interface, for VMs on macvtap devices instead of a bridge."""
