"""What the requests of a batch get that are for one scope: each stands on what those before it have left."""

import random
from collections.abc import Generator, Sequence
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from viaduct_common.errors import ViaductError
from viaduct_common.messages.ipam import AllocateIp
from viaduct_ipam.model.asks import Ask
from viaduct_ipam.model.layout import Space
from viaduct_ipam.model.planning import Plan, exhausted, plan_allocation, spaces_of
from viaduct_ipam.model.search import Finder
from viaduct_ipam.model.state import Pick, ScopeState
from viaduct_ipam.model.strategies import STRATEGIES, Strategy

Outcome = list[Pick] | ViaductError
Outcomes = Generator[list[Ask], None, list[Outcome]]
"""A plan (see `viaduct_ipam.model.planning`) of several requests; it yields hints even if it refuses all of them."""

Kind = tuple[str, UUID | None, int | None]
"""Strategy, range and IP version."""


def plan_together(requests: Sequence[AllocateIp], state: ScopeState, rng: random.Random) -> Outcomes:
    """The picks of each request, or why it gets nothing, in the same order."""
    plans: list[Outcomes] = []
    for kind, neighbours in groupby(requests, key=lambda request: _kind(request, state)):
        mine = list(neighbours)
        search = _search(mine[0], state) if kind is not None else None
        if search is None:
            plans += [_plan_alone(plan_allocation(request, state, rng)) for request in mine]
        else:
            plans.append(_plan_alike(mine, search, state, rng))
    hints = {ask: None for plan in plans for ask in next(plan)}
    if hints:
        yield list(hints)
    outcomes: list[Outcome] = []
    for plan in plans:
        outcomes += yield from plan
    return outcomes


def _kind(request: AllocateIp, state: ScopeState) -> Kind | None:
    """What those have in common that want any one address, of those that the search finds: most requests there are.
    None for all others."""
    if request.count != 1 or request.required_ip is not None or request.excluded_ips or request.ip_versions is not None:
        return None
    strategy = request.strategy or state.strategy
    if state.layout.holds_any or (request.owner is not None and STRATEGIES[strategy].prefers_former):
        return None
    return strategy, request.range_uuid, request.ip_version


class _Search(NamedTuple):
    strategy: Strategy
    version: int
    space: Space


def _search(request: AllocateIp, state: ScopeState) -> _Search | None:
    """None if nothing is searched, or if the request is wrong."""
    try:
        [(version, space)] = spaces_of(request, state.layout)
    except ViaductError:
        return None
    strategy = STRATEGIES[request.strategy or state.strategy]
    return None if space.makes_addresses else _Search(strategy, version, space)


def _plan_alike(requests: Sequence[AllocateIp], search: _Search, state: ScopeState, rng: random.Random) -> Outcomes:
    """One search for all of them."""
    strategy, version, space = search
    finder = Finder(state, space, strategy, {}, rng)
    points = strategy.points(space, len(requests), rng, state.drawn)
    yield finder.hints(points)
    cursor = state.cursors.get(requests[0].range_uuid or version)
    found: list[Pick] = []
    yield from finder.find(len(requests), points, cursor, found)
    if found and strategy.moves_cursor:
        state.move_cursor(found[-1])
    given: list[Outcome] = [[pick] for pick in found]
    return given + [exhausted(request, state, free=0) for request in requests[len(found) :]]


def _plan_alone(plan: Plan) -> Outcomes:
    try:
        hints = next(plan)
    except ViaductError as error:
        yield []
        return [error]
    yield hints
    try:
        return [(yield from plan)]
    except ViaductError as error:
        return [error]
