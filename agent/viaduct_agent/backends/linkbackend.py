"""The three methods of a backend, written once around the planner; a type only says which links it wants."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from pydantic import ValidationError

from viaduct_agent.backends.api import KVM, Action, L2OnHost
from viaduct_agent.links.host import Checked, HostLinks
from viaduct_agent.links.kinds import BRIDGE, options
from viaduct_agent.links.model import Desired, Link
from viaduct_common.errors import InvalidRequest, ViaductError
from viaduct_common.messages.base import StrictModel

F = TypeVar("F", bound=StrictModel)


class LinkBackend(ABC):
    """An L2 network that is nothing but links on this host."""

    l2_type: ClassVar[str]
    hypervisor_type: ClassVar[str] = KVM
    name: ClassVar[str] = "bridge"
    usual: ClassVar[bool] = True

    def __init__(self, links: HostLinks) -> None:
        self._links = links
        self._desired: dict[UUID, tuple[L2OnHost, Desired]] = {}

    @abstractmethod
    def desired_links(self, want: L2OnHost) -> Desired:
        """The links of this network; raises `InvalidRequest` when the type's own fields are wrong."""

    async def unavailable(self) -> ViaductError | None:
        return None

    def device_names(self, want: L2OnHost) -> frozenset[str]:
        return self._of(want).device_names

    async def realize(self, want: L2OnHost) -> tuple[str, ...]:
        return await self._links.realize(self._of(want))

    async def check(self, want: L2OnHost, action: Action = "realize") -> Checked:
        if action == "release":
            return await self._links.check_release(want.network.uuid, want.interface, force=want.force)
        return await self._links.check(self._of(want))

    async def release(self, want: L2OnHost) -> tuple[str, ...]:
        self._desired.pop(want.network.uuid, None)
        # By the mark, not by the names in the message: what we made goes, whatever it is called.
        return await self._links.release(want.network.uuid, want.interface, force=want.force)

    def _of(self, want: L2OnHost) -> Desired:
        """Made once for each command: the same is looked at again and again for drift."""
        kept = self._desired.get(want.network.uuid)
        if kept is None or kept[0] is not want:
            kept = self._desired[want.network.uuid] = (want, self.desired_links(want))
        return kept[1]


def bridge_link(want: L2OnHost) -> Link:
    """The bridge of every kind: no STP and no forward delay, so that a VM's frames pass from the first on."""
    return Link(
        name=want.network.bridge_name,
        kind=BRIDGE,
        owner=want.network.uuid,
        generation=want.generation,
        mtu=want.network.mtu,
        up=True,
        options=options(stp=False, forward_delay=0),
    )


def device_name(want: L2OnHost) -> str:
    """The one recorded name that is not the bridge's.

    Raises:
        InvalidRequest: there is none, or more than one.
    """
    others = [name for name in want.network.device_names if name != want.network.bridge_name]
    if len(others) != 1:
        text = f"a network of this type has one device beside its bridge, not {others}"
        raise InvalidRequest.of_field("l2Network.deviceNames", text)
    return others[0]


def own_fields(want: L2OnHost, model: type[F]) -> F:
    """The fields of the type's own, validated.

    Raises:
        InvalidRequest: `details.field` is the path of the culprit.
    """
    fields: dict[str, Any] = want.network.own_fields()
    # A newer manager may send more than this agent knows: a command is read tolerantly, only what we use must be right.
    known = {name: fields[name] for name in _wire_names(model) if name in fields}
    try:
        return model.model_validate(known)
    except ValidationError as exc:
        first = exc.errors()[0]
        path = ".".join(["l2Network", *map(str, first["loc"])])
        raise InvalidRequest.of_field(path, first["msg"]) from exc


def _wire_names(model: type[StrictModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]
