"""Commands to agents, their completions, and what agents report on their own."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from viaduct_common.messages.base import Command, ErrorBody, Report, WireModel
from viaduct_common.messages.fields import Generation, IpAddress, MacAddress
from viaduct_common.messages.l2 import Difference, L2NetworkInventory

Outcome = Literal["done", "failed", "superseded"]


class PeerNic(WireModel):
    """A VM's NIC behind a peer: what is sent to it need not be flooded."""

    mac: MacAddress
    ips: list[IpAddress] = Field(default_factory=list)


class Peer(WireModel):
    """Another host that has the same tunnelled network: where its end is, and the NICs behind it."""

    host_uuid: UUID
    tunnel_ip: IpAddress
    nics: list[PeerNic] = Field(default_factory=list)


class L2Desired(WireModel):
    """The whole desired state of one L2 network on one host. `force` lets a release unplug foreign ports.

    `backend` names which of the backends for its type builds it, None for the type's usual one. `tunnel_ip` is this
    host's end, `peers` are the others', of a tunnelled network.
    """

    generation: Generation
    l2_network: L2NetworkInventory
    backend: str | None = None
    tunnel_ip: IpAddress | None = None
    peers: list[Peer] = Field(default_factory=list)
    force: bool = False


class L2Inquiry(L2Desired):
    """`action` is what to plan for: `realize`, or `release`."""

    action: Literal["realize", "release"] = "realize"


class RealizeL2Command(Command):
    """Make each network so; applying the same generation again changes nothing."""

    message_type: ClassVar[str] = "l2.realize"

    items: list[L2Desired]


class ReleaseL2Command(Command):
    """Take each network away; what is gone already is no error."""

    message_type: ClassVar[str] = "l2.release"

    items: list[L2Desired]


class CheckL2Command(Command):
    """Compare and plan; strictly read-only."""

    message_type: ClassVar[str] = "l2.check"

    items: list[L2Inquiry]


class SyncHostCommand(Command):
    """The full desired set of a host: realise what is missing, repair what drifted, release what is not listed.

    `listed` are networks that are to stay though they are not among `items`: a set that is too large for one message
    comes as a sync and commands to realize.
    """

    message_type: ClassVar[str] = "host.sync"

    items: list[L2Desired]
    listed: list[UUID] = Field(default_factory=list)


class ListOrphansCommand(Command):
    """List what this host has with our mark and should not have, and the names that it wants and found taken; with
    `sweep`, release the former. `listed` are the networks that the manager knows of here."""

    message_type: ClassVar[str] = "host.orphans"

    listed: list[UUID] = Field(default_factory=list)
    sweep: bool = False
    force: bool = False


class ItemResult(WireModel):
    """What became of one item. `status`, `differences` and `steps` answer a check only."""

    l2_network_uuid: UUID
    generation: Generation
    outcome: Outcome
    changes: list[str] = Field(default_factory=list)
    took_ms: float = 0.0
    error: ErrorBody | None = None
    status: Literal["ok", "missing", "drifted"] | None = None
    differences: list[Difference] = Field(default_factory=list)
    steps: list[str] = Field(default_factory=list)


class Orphan(WireModel):
    """`reason` is `unlisted` (ours, and not to be here) or `taken` (a wanted name that a stranger's device has).

    `swept` tells whether it was taken away just now; `error` why not.
    """

    l2_network_uuid: UUID
    reason: Literal["unlisted", "taken"]
    devices: list[str]
    detail: str = ""
    swept: bool = False
    error: ErrorBody | None = None


class Completion(Report):
    """The answer to one command; `released` lists what a sync took away because it was not listed, `orphans` what
    `host.orphans` found, or what a sync found and could not take away. `error` says why nothing at all was done."""

    message_type: ClassVar[str] = "completion"

    command: str
    command_id: UUID
    items: list[ItemResult]
    released: list[UUID] = Field(default_factory=list)
    orphans: list[Orphan] = Field(default_factory=list)
    error: ErrorBody | None = None


class InterfaceFact(WireModel):
    """A link of the host as the agent sees it; `addresses` are those of global scope, as `address/prefix`."""

    name: str
    kind: str | None = None
    mac: str | None = None
    mtu: int
    up: bool
    master: str | None = None
    owner: UUID | None = None
    addresses: list[str] = Field(default_factory=list)


class HealthFact(WireModel):
    """A fact of the host that may break networks, reported and never changed behind anyone's back."""

    name: str
    ok: bool
    detail: str = ""


class Held(WireModel):
    l2_network_uuid: UUID
    generation: Generation


class HeldService(WireModel):
    service_uuid: UUID
    generation: Generation


class HostHello(Report):
    """At start, and after each reconnect: who, what it can do, what it has and holds. Of network services it can do
    those whose kinds stand among the capabilities as `service/<kind>`."""

    message_type: ClassVar[str] = "host.hello"

    session_id: UUID
    version: str
    capabilities: list[str]
    interfaces: list[InterfaceFact] = Field(default_factory=list)
    health: list[HealthFact] = Field(default_factory=list)
    holds: list[Held] = Field(default_factory=list)
    services: list[HeldService] = Field(default_factory=list)


class HostHeartbeat(Report):
    """Alive, and the digests of what it holds (`viaduct_common.digest`): L2 networks, and service instances."""

    message_type: ClassVar[str] = "host.heartbeat"

    session_id: UUID
    sequence: int
    digest: str
    held: int
    services_digest: str | None = None
    services_held: int = 0


class HostDrift(Report):
    """Something it owns was changed by another hand, and whether it was repaired.

    `policy` is `repair`, or `report`: told, and left as it is. `storm` is set while the same network drifts again and
    again: repairs are put off then, and an operator should look who fights with us. Without differences it tells that
    what was told before is over: with policy `report` the differences, else the storm.
    """

    message_type: ClassVar[str] = "host.drift"

    session_id: UUID
    l2_network_uuid: UUID
    generation: Generation
    differences: list[Difference]
    repaired: bool
    policy: Literal["repair", "report"] = "repair"
    storm: bool = False
    repairs: int = Field(default=0, description="repairs of this network in the last five minutes")
    error: ErrorBody | None = None
