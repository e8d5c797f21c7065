"""Extension point `viaduct.vm_network_hooks`: three moments in the life of a VM's networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, Protocol
from uuid import UUID

from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.vm import NicInventory
from viaduct_common.postgres.pool import Connection


@dataclass(frozen=True)
class PlannedNic:
    """A NIC that is to be.

    Attributes:
        place: its place in the request, for `details.field` of a refusal, such as `nics.0`.
        l2_uuid: the L2 network that the host realises for it: at first that of its L3 network.
        mac: the one that it must have, None for any.
        ips: those that it must have, none for any.
        security_group_uuids: those that it is to be in from the first packet on. The hook that sees to it takes them
            off the plan that it returns; what no hook has taken is refused.
    """

    uuid: UUID
    place: str
    l3_uuid: UUID
    l2_uuid: UUID
    mac: str | None = None
    ips: tuple[IPv4Address | IPv6Address, ...] = ()
    security_group_uuids: tuple[UUID, ...] = ()


@dataclass(frozen=True)
class VmPlan:
    """What is to be made for a VM on a host. `networks` by uuid: those that the NICs' L3 networks lie on.

    A migration is planned with the NICs as they are: they keep what they have.
    """

    reason: Literal["prepare", "migrate"]
    vm_uuid: UUID
    account_uuid: UUID
    host: HostInventory
    nics: tuple[PlannedNic, ...]
    networks: Mapping[UUID, L2NetworkInventory]


@dataclass(frozen=True)
class VmRelease:
    """What leaves a host: NICs that are given back, or that have moved to another host."""

    reason: Literal["release", "migrate"]
    vm_uuid: UUID
    host_uuid: UUID
    nics: tuple[NicInventory, ...]


class VmNetworkHook(Protocol):
    """One party that has a say. Hooks are called one after the other, in the order of their names.

    All methods run in the transaction in which the NICs are recorded: what they write by `connection` is committed with
    them, or not at all. They must not wait for anything but the database. No default methods: a hook says nothing by
    doing nothing.

    Attributes:
        name: unique among the hooks of a process.
    """

    name: str

    async def pre_before_instantiate(self, plan: VmPlan, connection: Connection) -> None:
        """Nothing has happened yet: the host is good, and its cluster has the networks.

        Raises:
            ViaductError: the VM must not be made so; the caller is answered with this, and nothing was changed.
        """
        ...

    async def pre_instantiate(self, plan: VmPlan, connection: Connection) -> VmPlan:
        """Nobody objected: say what the host is to have before the VM is made.

        Returns:
            the plan, or a changed one; the networks in its NICs' `l2_uuid` are realised on the host.

        Raises:
            ViaductError: it cannot be had; as above.
        """
        ...

    async def pre_release(self, release: VmRelease, connection: Connection) -> None:
        """NICs are about to leave a host; their addresses and networks are still there. It should not raise: the VM is
        gone already. NICs that are undone because a later step failed go without it."""
        ...
