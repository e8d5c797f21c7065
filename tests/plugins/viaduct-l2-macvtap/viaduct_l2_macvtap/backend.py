"""The agent's end: which links the network is on a KVM host."""

from dataclasses import replace
from typing import Any, ClassVar

from viaduct_agent.backends.api import Action, L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend, device_name, own_fields
from viaduct_agent.links import kinds
from viaduct_agent.links.host import Checked
from viaduct_agent.links.model import DRAWN, Desired, Link
from viaduct_common.errors import InUse
from viaduct_l2_macvtap.fields import BACKEND, L2_MACVTAP, MacvtapFields

# enum macvlan_mode of linux/if_link.h
_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
_NAMES = {number: name for name, number in _MODES.items()}


def _pack(mode: Any) -> bytes:
    return kinds.U32.pack(_MODES[mode])


def _unpack(raw: bytes) -> Any:
    """None, as if it had no mode, for one that is not known yet."""
    return _NAMES.get(kinds.U32.unpack(raw))


# A kind of link that Viaduct does not know: once it is registered, planning, netlink, drift and the `ip` commands in
# answers can all do with it. IFLA_MACVLAN_MODE is 1, and can be changed while the device lives.
_MODE = kinds.Option("mode", 1, kinds.Form(_pack, _unpack), "mode", fixed=False)
kinds.register(kinds.LinkKind("macvlan", (_MODE,), takes_over=True))


class MacvtapBackend(LinkBackend):
    """`ip link add link eth1 name mvl_eth1 type macvlan mode bridge`; hypervisors make VMs' macvtap devices on it.

    The macvlan device carries the mark, has the same name on every host, and is the host's own end in the network:
    eth1 itself does not hear what VMs on it say. The kernel puts a macvtap device that is made on mvl_eth1 on eth1,
    beside it (`macvlan_common_newlink`), so it outlives mvl_eth1; hence `release` looks for such devices.

    LinkBackend brings realize, check and release, written once around the planner: observe, plan, do, observe again.
    All that a type of plain links adds is `desired_links`. A type that needs more than links implements
    `viaduct_agent.backends.api.L2Backend` itself.
    """

    l2_type: ClassVar[str] = L2_MACVTAP  # the key, with hypervisor_type (KVM) and name
    name: ClassVar[str] = BACKEND

    def desired_links(self, want: L2OnHost) -> Desired:
        """The whole desired state, made anew from each command; the planner compares it with the kernel's."""
        # Validated here again: the command comes from a manager that may be another version. Raises InvalidRequest.
        fields = own_fields(want, MacvtapFields)
        end = Link(
            name=device_name(want),
            kind="macvlan",
            owner=want.network.uuid,  # the mark on every device, with the generation
            generation=want.generation,
            mtu=want.network.mtu,
            mac=DRAWN,  # the kernel refuses to set up one with the MAC of the device below
            parent=want.interface,
            up=True,
            options=kinds.options(mode=fields.mode),
        )
        # `uplink` is the host's own device for `physicalInterface`: it must be there, is set up, and bounds the MTU.
        return Desired(owner=want.network.uuid, generation=want.generation, uplink=want.interface, links=(end,))

    async def check(self, want: L2OnHost, action: Action = "realize") -> Checked:
        checked = await super().check(want, action)
        refusal = await self._users(want) if action == "release" and checked.refusal is None else None
        return checked if refusal is None else replace(checked, steps=(), refusal=refusal)

    async def release(self, want: L2OnHost) -> tuple[str, ...]:
        """Forced, it leaves VMs' devices where they are: they are not ours to delete."""
        refusal = await self._users(want)
        if refusal is not None:
            raise refusal
        return await super().release(want)

    async def _users(self, want: L2OnHost) -> InUse | None:
        """Why it must not go; None if it may, or is gone."""
        links = await self._links.observe()
        if want.force or not links.owned_by(want.network.uuid):
            return None
        users = [link.name for link in links.standing_on(want.interface) if link.kind == "macvtap"]
        return InUse(f"in use by {', '.join(users)}: {want.interface}", ports=users) if users else None
