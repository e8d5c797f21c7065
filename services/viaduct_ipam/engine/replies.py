"""The reply to an allocation as JSON, put together from what is the same for all addresses of a range: this is the one
place where a reply is made thousands of times a second. A test compares it with what the model makes."""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from pydantic_core import to_json

from viaduct_common.messages.ipam import UsedIpInventory
from viaduct_ipam.model.layout import OpenRange
from viaduct_ipam.store.giving import Given

_OF_RANGE = {"ip_version", "l3_network_uuid", "range_uuid", "netmask", "prefix_length", "gateway"}


def allocation_reply(given: Iterable[Given]) -> bytes:
    """`{"ok": true, "value": [...]}` with a `UsedIpInventory` for each."""
    return b'{"ok":true,"value":[' + b",".join(map(_used_ip, given)) + b"]}"


def _used_ip(given: Given) -> bytes:
    expires_at = "null" if given.expires_at is None else f'"{_timestamp(given.expires_at)}"'
    mac = "null" if given.mac is None else f'"{given.mac}"'
    return (
        f'{{"uuid":"{given.uuid}","ip":"{given.ip}",{_middle(given.pick.range)},'
        f'"owner":{to_json(given.owner).decode()},"mac":{mac},"allocatedAt":"{_timestamp(given.allocated_at)}",'
        f'"expiresAt":{expires_at}}}'
    ).encode()


def _middle(home: OpenRange) -> str:
    if home.reply_part is None:
        bounds = home.range.bounds
        inventory = UsedIpInventory.model_construct(
            uuid=home.uuid,
            ip=bounds.first,
            allocated_at=home.range.created_at,
            ip_version=home.version,
            l3_network_uuid=home.range.l3_network_uuid,
            range_uuid=home.uuid,
            netmask=bounds.network.netmask,
            prefix_length=bounds.prefix_length,
            gateway=bounds.gateway,
        )
        home.reply_part = inventory.model_dump_json(include=_OF_RANGE)[1:-1]
    return home.reply_part


@lru_cache(maxsize=8)  # all of a batch are of one moment
def _timestamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
