"""The agent's end: which links the network is on a KVM host."""

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend, bridge_link, own_fields
from viaduct_agent.links.model import Desired
from viaduct_l2_isolated.fields import L2_ISOLATED, IsolatedFields


class IsolatedBackend(LinkBackend):
    """`ip link add br_iso_7 type bridge`, and nothing plugged into it but VMs.

    LinkBackend brings realize, check and release, written once around the planner: observe, plan, do, observe again.
    All that a type of plain links adds is `desired_links`. A type that needs more than links implements
    `viaduct_agent.backends.api.L2Backend` itself.
    """

    l2_type = L2_ISOLATED  # the key, with hypervisor_type (KVM): two backends of one key stop the agent's start

    def desired_links(self, want: L2OnHost) -> Desired:
        """The whole desired state, made anew from each command; the planner compares it with the kernel's."""
        # Validated here again: the command comes from a manager that may be another version. Raises InvalidRequest.
        own_fields(want, IsolatedFields)
        return Desired(
            owner=want.network.uuid,  # the mark on every device, with the generation
            generation=want.generation,
            # The host's own device for `physicalInterface`. It lends the bridge its MAC and bounds its MTU; without
            # `uplink_master` nothing is plugged together.
            uplink=want.interface,
            # In the order of creation. `bridge_link` is the bridge that every type has: no STP, no forward delay, name
            # and MTU of the inventory.
            links=(bridge_link(want),),
        )
