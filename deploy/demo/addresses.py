"""Scene: an L3 network with two ranges around reserved addresses."""

from uuid import UUID

from demo.stage import SUBNET_MASK, Stage
from viaduct_common.messages.l2 import L2NetworkInventory

GATEWAY = "192.168.0.1"
RANGES = (("192.168.0.10", "192.168.0.50"), ("192.168.0.60", "192.168.0.100"))
GAP = [f"192.168.0.{last}" for last in range(51, 60)]
RESERVED = ["192.168.0.10", "192.168.0.11", "192.168.0.12"]


async def play(stage: Stage, network: L2NetworkInventory) -> UUID:
    """Return the L3 network, with no address in use."""
    tell, net = stage.narrator, stage.net
    with tell.scene(
        "An L3 network: two ranges, and what is never given",
        "192.168.0.10 - .50 and .60 - .100: what lies between is left to devices that Viaduct does not manage. "
        "A reservation inside a range keeps three more back.",
    ):
        l3 = await net.l3.create(l2_network_uuid=network.uuid, name="blue-net")
        await add_ranges(stage, l3.uuid)
        await net.reservation.create(
            l3_network_uuid=l3.uuid, start_ip=RESERVED[0], end_ip=RESERVED[-1], reason="load balancers"
        )
        capacity = await net.ip.capacity(l3_network_uuids=[l3.uuid])
        tell.fact(
            f"two ranges of 41 hold {capacity.total}, of which {capacity.reserved} are reserved",
            (capacity.total, capacity.used, capacity.reserved, capacity.available) == (82, 0, 3, 79),
            capacity,
        )
        for ip, wanted in ((GAP[0], "NOT_IN_RANGE"), (RESERVED[0], "RESERVED"), (GATEWAY, "GATEWAY")):
            checked = await net.ip.check(l3_network_uuid=l3.uuid, ip=ip)
            tell.fact(f"{ip:<13} is not to be had: {checked.reason}", checked.reason == wanted, checked)
        refused = await stage.refusal(net.ip.allocate(l3_network_uuid=l3.uuid, required_ip=RESERVED[1]))
        tell.fact(f"asking for {RESERVED[1]} is refused: {refused.code}", refused.code == "IP_IN_USE", refused)

        tell.say("Take all there is, in one request, to see what is never given.")
        taken = await net.ip.allocate(l3_network_uuid=l3.uuid, count=capacity.available, owner="greedy")
        ips = [str(one.ip) for one in taken]
        tell.show([f"{ips[0]} {ips[1]} ... {ips[37]} {ips[38]} ... {ips[-1]}"])
        withheld = not {*ips} & {*GAP, *RESERVED, GATEWAY}
        tell.fact(f"{len(set(ips))} different addresses; none of the gap, none reserved", withheld, ips)
        exhausted = await stage.refusal(net.ip.allocate(l3_network_uuid=l3.uuid))
        tell.fact(f"one more is refused: {exhausted.code}", exhausted.code == "EXHAUSTED", exhausted)
        await net.ip.release(uuids=[one.uuid for one in taken])
        left = await net.ip.capacity(l3_network_uuids=[l3.uuid])
        tell.fact(f"released again: {left.used} in use", left.used == 0, left)
    return l3.uuid


async def add_ranges(stage: Stage, l3_uuid: UUID) -> None:
    """Add the two ranges to an L3 network."""
    for start, end in RANGES:
        await stage.net.range.create(
            l3_network_uuid=l3_uuid, start_ip=start, end_ip=end, netmask=SUBNET_MASK, gateway=GATEWAY
        )
