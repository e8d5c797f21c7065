"""Running the plans of many scopes side by side: what they ask for is fetched for all of them at once."""

import random
from collections.abc import Sequence

from viaduct_common.messages.ipam import AllocateIp
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.asks import Ask
from viaduct_ipam.model.state import ScopeState
from viaduct_ipam.model.together import Outcome, Outcomes, plan_together
from viaduct_ipam.store.states import answer_asks


async def run_plans(
    connection: Connection, requests: Sequence[tuple[ScopeState, Sequence[AllocateIp]]], rng: random.Random
) -> list[list[Outcome]]:
    """What each request of each scope gets, in the same order."""
    plans: dict[int, Outcomes] = {
        index: plan_together(of_scope, state, rng) for index, (state, of_scope) in enumerate(requests)
    }
    outcomes: list[list[Outcome]] = [[] for _ in requests]
    while plans:
        asks: list[tuple[ScopeState, Ask]] = []
        for index, plan in list(plans.items()):
            try:
                asks += [(requests[index][0], ask) for ask in next(plan)]
            except StopIteration as end:
                outcomes[index] = end.value
                del plans[index]
        if asks:
            await answer_asks(connection, asks)
    return outcomes
