"""Replies put together from parts are what the model makes."""

import ipaddress
from datetime import UTC, datetime
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st
from unit.ipam.plain_store import make_range, make_state

from viaduct_common.messages.ipam import UsedIpInventory
from viaduct_common.postgres.idempotency import ok_reply
from viaduct_ipam.engine.replies import allocation_reply
from viaduct_ipam.handlers.inventories import used_ip_inventory
from viaduct_ipam.model.state import Pick
from viaduct_ipam.store.api import UsedIp
from viaduct_ipam.store.giving import Given

ranges = [make_range("10.0.0.0", "10.255.255.255"), make_range("2001:db8::", "2001:db8:ffff:ffff::")]
moments = st.datetimes(min_value=datetime(2020, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is the strategy's
owners = st.none() | st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(
    which=st.integers(0, 1),
    offset=st.integers(0, 2**24 - 1),
    uuid=st.uuids(),
    owner=owners,
    mac=st.none() | st.just("52:54:00:12:34:56"),
    moment=moments,
    expires_at=st.none() | moments,
)
def test_reply_is_the_models(
    *, which: int, offset: int, uuid: UUID, owner: str | None, mac: str | None, moment: datetime,
    expires_at: datetime | None,
) -> None:  # fmt: skip
    """Byte for byte, whatever the owner's name is made of."""
    [home] = [one for one in make_state(ranges).layout.ranges if one.uuid == ranges[which].uuid]
    ip = type(ranges[which].bounds.first)(home.first + offset)
    given_ip = Given(str(uuid), Pick(home, int(ip)), str(ip), owner, mac, moment, expires_at, "tester", uuid4())
    used = UsedIp(uuid, ip, ranges[which], owner, mac, moment, expires_at)

    assert allocation_reply([given_ip, given_ip]) == ok_reply([used_ip_inventory(used)] * 2)


def test_no_field_of_the_model_is_forgotten() -> None:
    """A field added to the model must be added to the parts."""
    [home] = make_state(ranges[:1]).layout.ranges
    pick = Pick(home, home.first + 9)
    reply = allocation_reply(
        [Given(str(uuid4()), pick, "10.0.0.9", None, None, datetime.now(UTC), None, "tester", uuid4())]
    )

    value = UsedIpInventory.from_json(reply.partition(b"[")[2][:-2])
    assert value.ip == ipaddress.ip_address("10.0.0.9")
    assert value.model_fields_set == set(UsedIpInventory.model_fields)
