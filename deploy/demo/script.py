"""The order of the scenes, and what one hands to the next."""

from demo import (
    accounts,
    addresses,
    attach,
    detach,
    drift,
    given_back,
    hooks,
    isolation,
    leases,
    power_loss,
    public_addresses,
    router_moves,
    security,
    services,
    services_given_back,
    traffic,
    tunnel,
)
from demo.stage import Stage


async def perform(stage: Stage) -> None:
    """Play all scenes.

    Raises:
        FactFailed: something is not as it was to be shown; the rest is not played.
    """
    blue = await attach.play(stage)
    l3_uuid = await addresses.play(stage, blue)
    a, b = await traffic.play(stage, blue, l3_uuid)
    await isolation.play(stage, a, b)
    before = {name: await stage.links(name) for name in stage.host_uuids}
    violet = await tunnel.play(stage)
    vms = await hooks.play(stage, violet, a)
    grey = await accounts.play(stage)
    await given_back.play(stage, violet, vms, grey, before)
    await _second_act(stage)
    await drift.play(stage, blue, a, b)
    await power_loss.play(stage)
    await detach.play(stage, blue, a, b)


async def _second_act(stage: Stage) -> None:
    """Network services; at the end nothing of them is left, but two more hosts."""
    cloud, before = await services.play(stage)
    n, o = await leases.play(cloud)
    eip = await public_addresses.play(cloud, n, o)
    await security.play(cloud, n, o)
    await router_moves.play(cloud, n, o, eip)
    await services_given_back.play(cloud, n, o, eip, before)
