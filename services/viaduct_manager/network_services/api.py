"""Extension point `viaduct.service_providers`: who offers network services, and what hosts must have for them.

    somebody changes something ─► touched(): which instances could look different now ─► marks, in the same transaction
    a mark is due ─► desired(): on which hosts, and how ─► what differs from what hosts were told is told

`desired` looks at what is committed and says what should be; it never hears what changed. So a mark too many costs a
look, and whatever was missed is made good by the next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID, uuid5

from viaduct_common.errors import ViaductError
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.postgres.pool import Connection

_NAMESPACE = UUID("6f1b7f1e-2a0c-4c33-9d0e-5d1f3a0b7c55")


def provider_uuid(name: str) -> UUID:
    """The same in every installation and after every restart."""
    return uuid5(_NAMESPACE, name)


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """One service instance: a thing that hosts have as a whole, or not.

    Attributes:
        kind: of the agents' backend for it (`viaduct.service_backends`).
        subject_uuid: what it is for: an L3 network, a NIC, a security group.
        part: tells several of one kind and subject apart.
    """

    kind: str
    subject_uuid: UUID
    part: int = 0

    @property
    def uuid(self) -> UUID:
        return uuid5(_NAMESPACE, f"{self.kind}/{self.subject_uuid}/{self.part}")


@dataclass(frozen=True)
class Change:
    """What a transaction changes, creates or removes. `subjects` are things of providers' own: VIPs, EIPs, security
    groups, and whatever a plugin has."""

    l3_uuids: frozenset[UUID] = frozenset()
    nic_uuids: frozenset[UUID] = frozenset()
    host_uuids: frozenset[UUID] = frozenset()
    subjects: frozenset[UUID] = frozenset()


@dataclass(frozen=True)
class Desired:
    """Where an instance must be, and how: the `spec` as it goes over the wire, by host; on all others it must not be.

    Attributes:
        problem: why it is nowhere although it is wanted, such as that no host is fit; or, where it is somewhere, what
            of it cannot be had: that is shown (with `details.partial`), and fails nobody who waits for the instance.
    """

    by_host: Mapping[UUID, Mapping[str, Any]] = field(default_factory=dict)
    problem: ViaductError | None = None


class ServiceProvider(Protocol):
    """One provider. All methods run in a transaction and must not wait for anything but the database, and for IPAM by
    the `ServiceAddresses` that the provider is constructed with. No default methods.

    Attributes:
        name: unique among the providers of a process; its uuid is derived from it.
        service_types: what it offers.
    """

    name: str
    service_types: tuple[str, ...]

    def associates(self, l2: L2NetworkInventory) -> bool:
        """Whether its services are to be had on this L2 network; asked once, when that is created."""
        ...

    async def attaching(
        self, l3: L3NetworkInventory, configs: Mapping[str, Mapping[str, Any]], connection: Connection
    ) -> Mapping[str, Mapping[str, Any]]:
        """These types are to be served on an L3 network, or to be told something else; the rows are written after it.

        Returns:
            the configs by service type as they are to be kept: complete, and as they stand on the wire.

        Raises:
            InvalidRequest: a config is wrong; `details.field` is its path below `config`.
            PreconditionFailed: it cannot be had here.
        """
        ...

    async def detaching(self, l3: L3NetworkInventory, types: Sequence[str], connection: Connection) -> None:
        """These types are to be served no longer.

        Raises:
            InUse: something depends on it; the details name it.
        """
        ...

    async def touched(self, change: Change, connection: Connection) -> Sequence[ServiceKey]:
        """The instances that a change could concern, those that it makes unwanted included; read-only."""
        ...

    async def desired(self, keys: Sequence[ServiceKey], connection: Connection) -> Mapping[ServiceKey, Desired]:
        """What should be, by what is committed; all keys are of its own."""
        ...
