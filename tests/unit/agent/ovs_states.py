"""Arbitrary states of a host's Open vSwitch, and wanted networks, for properties of the planner and of the database."""

from dataclasses import replace
from random import Random
from uuid import UUID

from viaduct_agent.ovs.model import BOND, Bridge, Desired, Port

OURS = UUID("11111111-1111-4111-8111-111111111111")
OTHER = UUID("22222222-2222-4222-8222-222222222222")
BRIDGES = ["br_gr_7", "br_gr_8", "theirs"]
PORTS = ["gr1", "gr2", "gr3", "vnet0", "vnet1"]


def any_state(random: Random, *, storable: bool = False) -> dict[str, Bridge]:
    """What a host may have: names are unique, bridges and ports together. `storable` leaves out what only
    ovs-vswitchd or another table brings about."""
    names = random.sample(PORTS, random.randrange(len(PORTS) + 1))
    found = {}
    for name in random.sample(BRIDGES, random.randrange(len(BRIDGES) + 1)):
        mine = names[: random.randrange(len(names) + 1)]
        names = names[len(mine) :]
        found[name] = _bridge(random, name, storable).with_ports(_port(random, port, storable) for port in mine)
    return found


def any_desired(random: Random) -> Desired:
    """One of the networks that `any_state` may have remains of."""
    generation, local = random.randrange(3), random.choice(["10.0.0.1", "10.9.0.1"])
    tunnels = [
        tunnel(name, generation, local=local) for name in random.sample(PORTS[:3], random.randrange(4))
    ]  # fmt: skip
    return Desired(bridge(random.choice(BRIDGES[:2]), generation).with_ports(tunnels))


def bridge(name: str, generation: int = 1) -> Bridge:
    return Bridge(name, OURS, generation, mtu=1458)


def tunnel(name: str, generation: int = 1, *, local: str = "10.0.0.1") -> Port:
    options = (("key", "7"), ("local_ip", local), ("remote_ip", f"10.0.1.{name[-1]}"))
    return Port(name, "gre", OURS, generation, options, protected=True)


def _bridge(random: Random, name: str, storable: bool) -> Bridge:
    owner = random.choice([OURS, OURS, OTHER, None])
    return replace(
        bridge(name),
        owner=owner,
        generation=None if owner is None else random.choice([0, 1, 2, None]),
        mtu=random.choice([1458, 1400, None]),
        datapath_type=random.choice(["system", "netdev"]),
        fail_mode=random.choice(["standalone", "secure", None]),
        stp=random.random() < 0.2,
        rstp=random.random() < 0.2,
        mcast_snooping=random.random() < 0.2,
        controllers=0 if storable else random.choice([0, 0, 2]),
        error=None if storable else random.choice([None, None, "cannot"]),
    )


def _port(random: Random, name: str, storable: bool) -> Port:
    owner = random.choice([OURS, OURS, OTHER, None])
    like = tunnel(name, local=random.choice(["10.0.0.1", "10.9.0.1"]))
    return replace(
        like,
        kind=random.choice(["gre", "gre", "vxlan", "internal", *([] if storable else [BOND])]),
        owner=owner,
        generation=None if owner is None else random.choice([0, 1, 2, None]),
        options=random.choice([like.options, like.options, (*like.options, ("ttl", "3")), like.options[:1], ()]),
        protected=random.random() < 0.8,
        tag=random.choice([None, None, 5]),
        trunks=random.choice([(), (), (1, 2)]),
        vlan_mode=random.choice([None, None, "trunk"]),
        error=None if storable else random.choice([None, None, "cannot"]),
    )
