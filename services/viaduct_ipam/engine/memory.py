"""What a process remembers of scopes. Whoever plans on a state takes it out, and puts it back when it is right again;
so nobody ever sees one that somebody else is changing."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar
from uuid import UUID

from viaduct_ipam.model.layout import Layout
from viaduct_ipam.model.state import ScopeState

T = TypeVar("T")

MOST_SCOPES = 4096


class Memory:
    """The scopes used last."""

    def __init__(self) -> None:
        self._states: OrderedDict[UUID, ScopeState] = OrderedDict()
        self._layouts: OrderedDict[UUID, Layout] = OrderedDict()

    def take_out(self, l3_network_uuid: UUID) -> ScopeState | None:
        return self._states.pop(l3_network_uuid, None)

    def put_back(self, state: ScopeState) -> None:
        if state.is_void:
            return
        _remember(self._states, state.l3_network_uuid, state)
        _remember(self._layouts, state.l3_network_uuid, state.layout)

    def layouts(self, l3_network_uuids: Iterable[UUID]) -> dict[UUID, Layout]:
        """Former layouts: whoever uses one compares its revision."""
        return {uuid: self._layouts[uuid] for uuid in l3_network_uuids if uuid in self._layouts}


def _remember(kept: OrderedDict[UUID, T], uuid: UUID, value: T) -> None:
    kept[uuid] = value
    kept.move_to_end(uuid)
    if len(kept) > MOST_SCOPES:
        kept.popitem(last=False)
