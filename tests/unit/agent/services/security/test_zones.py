"""Zones of bridges: each has one, none has another's, and one that has a zone keeps it."""

from hypothesis import given
from hypothesis import strategies as st

from viaduct_agent.services.security.zones import assign

NAMES = st.sets(st.sampled_from([f"br{number}" for number in range(40)]))


@given(st.lists(NAMES, max_size=6))
def test_zones_are_kept_and_never_shared(steps: list[set[str]]) -> None:
    zones: dict[str, int] = {}
    for bridges in steps:
        before, zones = zones, assign(bridges, zones)
        assert zones.keys() == bridges
        assert len(set(zones.values())) == len(zones)
        assert all(0 < zone <= 0xFFFF for zone in zones.values())
        assert all(zones[name] == before[name] for name in zones.keys() & before.keys())
