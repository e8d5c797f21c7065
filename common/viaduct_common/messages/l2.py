"""L2 networks: create, attach, detach, check, plan."""

from typing import Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from viaduct_common.messages.base import ErrorBody, Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.cluster import ClusterInventory
from viaduct_common.messages.fields import (
    Description,
    FilterText,
    GreKey,
    IfName,
    IpNetwork,
    MtuBytes,
    Name,
    OneOrMany,
    Revision,
    TimeoutSeconds,
    UdpPort,
    VlanId,
    Vni,
)
from viaduct_common.messages.operation import OperationInventory

L2_NOVLAN = "L2NoVlanNetwork"
L2_VLAN = "L2VlanNetwork"
L2_VXLAN = "L2VxlanNetwork"
L2_OVS_GRE = "OvsGreL2Network"


class NoVlanFields(StrictModel):
    """An `L2NoVlanNetwork` has no field of its own."""


class VlanFields(StrictModel):
    """What an `L2VlanNetwork` has beside the fields of every L2 network."""

    vlan: VlanId


class VniRange(StrictModel):
    """VXLAN network identifiers, both ends included."""

    start_vni: Vni
    end_vni: Vni

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start_vni > self.end_vni:
            raise ValueError("startVni is above endVni")
        return self


class VxlanFields(StrictModel):
    """What an `L2VxlanNetwork` has of its own (RFC 7348): either `vni`, the one that all its frames carry; or
    `vniRange`, of which the account of each VM's owner gets one, with a broadcast domain of its own.

    `udp_port` is 4789 by default (IANA). What an account has of a network with a range is an `L2VxlanNetwork` with the
    account's `vni`.
    """

    vni: Vni | None = None
    vni_range: VniRange | None = None
    udp_port: UdpPort = 4789

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.vni is None) == (self.vni_range is None):
            raise ValueError("either vni or vniRange is needed, and not both")
        return self


class OvsGreFields(StrictModel):
    """What an `OvsGreL2Network` has of its own: the key that all its frames carry (RFC 2890)."""

    key: GreKey


class L2NetworkInventory(WireModel):
    """The model's L2NetworkInventory; fields of the type's own (`vlan`, ...) stand beside these.

    `bridge_name` is the bridge that hosts make for it; `device_names` are all names it takes on a host, recorded at
    creation and never changed. `parent_uuid` and `owner_account_uuid` stand only in what an account has of a network
    with a VNI range; the network itself has neither bridge nor devices.
    """

    model_config = ConfigDict(extra="allow")

    uuid: UUID
    name: str
    description: str | None = None
    zone_uuid: UUID
    physical_interface: str
    type: str
    attached_cluster_uuids: list[UUID] = Field(default_factory=list)
    mtu: int
    bridge_name: str
    device_names: list[str] = Field(default_factory=list)
    parent_uuid: UUID | None = None
    owner_account_uuid: UUID | None = None
    revision: int = 1
    created_at: AwareDatetime
    updated_at: AwareDatetime

    def own_fields(self) -> dict[str, Any]:
        """The fields of the type's own, as they stand on the wire."""
        return dict(self.model_extra or {})


class L2Filters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None
    zone_uuid: OneOrMany[UUID] | None = None
    type: OneOrMany[FilterText] | None = None
    physical_interface: OneOrMany[FilterText] | None = None
    cluster_uuid: OneOrMany[UUID] | None = Field(default=None, description="attached to any of these clusters")


class CreateL2(Request[L2NetworkInventory]):
    """Create an L2 network; nothing touches a host. Fields of the type's own stand beside these (`vlan`, ...)."""

    model_config = ConfigDict(extra="allow")  # the L2 type validates its own fields, and refuses unknown ones
    message_type: ClassVar[str] = "l2.create"

    zone_uuid: UUID
    name: Name
    description: Description | None = None
    type: str = Field(min_length=1, max_length=64)
    physical_interface: IfName
    mtu: MtuBytes | None = None
    uuid: UUID | None = None

    def own_fields(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class GetL2(Request[L2NetworkInventory]):
    """Get one L2 network."""

    message_type: ClassVar[str] = "l2.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QueryL2(Request[Page[L2NetworkInventory]], QueryBody):
    """L2 networks by filters."""

    message_type: ClassVar[str] = "l2.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: L2Filters = L2Filters()


class UpdateL2(Request[L2NetworkInventory]):
    """Change name or description; with `revision`, only if nobody changed it since."""

    message_type: ClassVar[str] = "l2.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    revision: Revision | None = None


class DeleteL2(Request[L2NetworkInventory | None]):
    """Delete an L2 network that is attached to no cluster and carries no L3 network."""

    message_type: ClassVar[str] = "l2.delete"

    uuid: UUID


class AttachL2(Request[OperationInventory]):
    """Attach an L2 network to a cluster: realize it on every host of the cluster.

    `tunnel_cidr` is for tunnel types: a host's end is its one address in it; without it, the host's `tunnelIp`.
    """

    message_type: ClassVar[str] = "l2.attach"

    l2_network_uuid: UUID
    cluster_uuid: UUID
    wait: bool = True
    timeout_seconds: TimeoutSeconds = 60
    on_failure: Literal["rollback", "keep"] = "rollback"
    tunnel_cidr: IpNetwork | None = None


class DetachL2(Request[OperationInventory]):
    """Detach an L2 network from a cluster: release it on every host of the cluster."""

    message_type: ClassVar[str] = "l2.detach"

    l2_network_uuid: UUID
    cluster_uuid: UUID
    wait: bool = True
    timeout_seconds: TimeoutSeconds = 60
    force: bool = False


class ChangeL2Vlan(Request[OperationInventory]):
    """Change the VLAN id of an `L2VlanNetwork`: on all hosts that have it, or on none."""

    message_type: ClassVar[str] = "l2.changeVlan"

    l2_network_uuid: UUID
    vlan: VlanId
    wait: bool = True
    timeout_seconds: TimeoutSeconds = 60


class ChangeL2Mtu(Request[OperationInventory]):
    """Change the MTU of an L2 network: on all hosts that have it, or on none."""

    message_type: ClassVar[str] = "l2.changeMtu"

    l2_network_uuid: UUID
    mtu: MtuBytes
    wait: bool = True
    timeout_seconds: TimeoutSeconds = 60


class Difference(WireModel):
    """One attribute of one device that is not as it should be; `actual` is null for a device that is missing."""

    device: str
    attribute: str
    desired: Any = None
    actual: Any = None


class HostCheck(WireModel):
    """`status` is `ok`, `missing` or `drifted`; `unreachable` with an error for a host that did not answer."""

    host_uuid: UUID
    status: str
    differences: list[Difference] = Field(default_factory=list)
    error: ErrorBody | None = None


class CheckL2(Request[list[HostCheck]]):
    """Compare every attribute with what the hosts have; nothing is changed."""

    message_type: ClassVar[str] = "l2.check"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l2_network_uuid: UUID
    cluster_uuid: UUID | None = None
    host_uuid: UUID | None = None
    timeout_seconds: TimeoutSeconds = 30


class HostPlan(WireModel):
    """What one host would do, step by step, as the equivalent `ip` commands; `error` says why it would refuse."""

    host_uuid: UUID
    steps: list[str] = Field(default_factory=list)
    error: ErrorBody | None = None


class L2Plan(WireModel):
    action: str
    hosts: list[HostPlan] = Field(default_factory=list)


class PlanL2(Request[L2Plan]):
    """What every host would change; nothing is changed. A conflict is answered as the attach would be.

    `tunnel_cidr` is that of the attach that is planned.
    """

    message_type: ClassVar[str] = "l2.plan"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l2_network_uuid: UUID
    cluster_uuid: UUID
    action: Literal["attach", "detach"]
    tunnel_cidr: IpNetwork | None = None
    timeout_seconds: TimeoutSeconds = 30


class RefusedCluster(WireModel):
    cluster: ClusterInventory
    error: ErrorBody


class CandidateClusters(WireModel):
    clusters: list[ClusterInventory] = Field(default_factory=list)
    refused: list[RefusedCluster] = Field(default_factory=list)


class GetCandidateClusters(Request[CandidateClusters]):
    """The clusters that an L2 network could be attached to now, and why not the others."""

    message_type: ClassVar[str] = "l2.candidateClusters"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l2_network_uuid: UUID
