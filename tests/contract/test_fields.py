"""Bad input, field by field: refused with the field's path, and nothing is made."""

import json
from typing import Any
from uuid import uuid4

import pytest
from contract.plain import Plain

PAIR = {"l2NetworkUuid": str(uuid4()), "clusterUuid": str(uuid4())}


def vlan(zone: Any, **fields: Any) -> dict[str, Any]:
    body = {"zoneUuid": zone["uuid"], "name": "blue", "type": "L2VlanNetwork", "physicalInterface": "eth1", "vlan": 10}
    return body | fields


async def refused(net: Plain, zone: Any, field: str, **fields: Any) -> Any:
    """The refusal; afterwards the zone is as empty as before."""
    error = await net.refusal("l2.create", {k: v for k, v in vlan(zone, **fields).items() if v is not ...})
    assert error["code"] == "INVALID_REQUEST", error
    assert error["details"]["field"] == field
    assert (await net.value("l2.query", {"filters": {"zoneUuid": zone["uuid"]}}))["items"] == []
    return error


@pytest.mark.parametrize("bad", [0, 4095, -1, 4096, "10", ..., None, 10.5, True, [10], {}, 2**63, 10**40])
async def test_vlan_id_that_is_none_is_refused(net: Plain, zone: Any, bad: Any) -> None:
    """IEEE 802.1Q: 1 to 4094, a number, and it must be there."""
    await refused(net, zone, "vlan", vlan=bad)


@pytest.mark.parametrize("good", [1, 4094])
async def test_least_and_greatest_vlan_id_are_taken(net: Plain, zone: Any, good: int) -> None:
    """Both ends are inclusive."""
    assert (await net.value("l2.create", vlan(zone, vlan=good)))["vlan"] == good


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x" * 16,
        "a/b",
        ".",
        "..",
        " ",
        "a b",
        "a\tb",
        "a\nb",
        "a:b",
        "é",
        "%d",
        "eth%d",
        "a\0b",
        "\u202e",
        ...,
        None,
        5,
    ],
)
async def test_interface_name_that_no_kernel_takes_is_refused(net: Plain, zone: Any, bad: Any) -> None:
    """The kernel's `dev_valid_name`, less what would surprise."""
    await refused(net, zone, "physicalInterface", physicalInterface=bad)


@pytest.mark.parametrize("good", ["e", "x" * 15, "bond0.100", "en-p1_s0", "eth0@if3", "1", "-", "a.b"])
async def test_interface_name_that_a_kernel_takes_is_taken(net: Plain, zone: Any, good: str) -> None:
    """Whatever is left of it, derived names fit the kernel's 15 characters."""
    l2 = await net.value("l2.create", vlan(zone, physicalInterface=good))

    assert l2["physicalInterface"] == good
    assert all(1 <= len(name) <= 15 for name in l2["deviceNames"])


@pytest.mark.parametrize("bad", ["", " ", "\n", "a\nb", "a\0b", "a\x1bb", "a\x7fb", "x" * 256, ..., None, 5, ["a"]])
async def test_name_that_is_none_is_refused(net: Plain, zone: Any, bad: Any) -> None:
    """One printable line of up to 255 characters."""
    await refused(net, zone, "name", name=bad)


@pytest.mark.parametrize("good", ["x" * 255, "é ü 漢字 🙂", "'; DROP TABLE zone; --", "$1", "{{x}}", "a\\u0000b"])
async def test_name_comes_back_as_it_was_given(net: Plain, zone: Any, good: str) -> None:
    """Any printable text is only text."""
    made = await net.value("l2.create", vlan(zone, name=good))

    assert (await net.value("l2.get", {"uuid": made["uuid"]}))["name"] == good


@pytest.mark.parametrize("bad", [0, 67, 65536, "1500", 1500.5, True, -1])
async def test_mtu_that_no_device_has_is_refused(net: Plain, zone: Any, bad: Any) -> None:
    """RFC 791: 68 bytes at least."""
    await refused(net, zone, "mtu", mtu=bad)


@pytest.mark.parametrize("bad", ["", "xyz", 5, None, ..., "00000000-0000-0000-0000-00000000000g"])
async def test_uuid_that_is_none_is_refused(net: Plain, zone: Any, bad: Any) -> None:
    """A reference is a UUID."""
    await refused(net, zone, "zoneUuid", zoneUuid=bad)


@pytest.mark.parametrize("field", ["colour", "zone_uuid", "VLAN", "attachedClusterUuids", "bridgeName", "revision"])
async def test_field_that_is_unknown_is_refused_by_name(net: Plain, zone: Any, field: str) -> None:
    """A typing mistake does not become a default; what the manager derives cannot be given."""
    await refused(net, zone, field, **{field: "x"})


@pytest.mark.parametrize(
    ("message_type", "body", "field"),
    [
        ("zone.create", {"name": "z", "nam": 1}, "nam"),
        ("zone.get", {"uuid": str(uuid4()), "x": 1}, "x"),
        ("cluster.create", {"zoneUuid": str(uuid4()), "name": "c", "hypervisorType": "Xen"}, "hypervisorType"),
        ("host.create", {"clusterUuid": str(uuid4()), "name": "h", "tunnelIp": "1.2.3"}, "tunnelIp"),
        ("host.create", {"clusterUuid": str(uuid4()), "name": "h", "tunnelIp": 1}, "tunnelIp"),
        ("host.create", {"clusterUuid": str(uuid4()), "name": "h", "labels": {"a": 1}}, "labels.a"),
        ("host.create", {"clusterUuid": str(uuid4()), "name": "h", "labels": {"a": "b\0"}}, "labels.a"),
        ("host.setMaintenance", {"uuid": str(uuid4())}, "maintenance"),
        ("l2.attach", {**PAIR, "timeoutSeconds": 0}, "timeoutSeconds"),
        ("l2.attach", {**PAIR, "timeoutSeconds": 3601}, "timeoutSeconds"),
        ("l2.attach", {**PAIR, "onFailure": "explode"}, "onFailure"),
        ("l2.attach", {"l2NetworkUuid": str(uuid4())}, "clusterUuid"),
        ("l2.plan", {**PAIR, "action": "explode"}, "action"),
        ("operation.get", {"uuid": "x"}, "uuid"),
    ],
)  # fmt: skip
async def test_refusal_names_the_field(net: Plain, message_type: str, body: dict[str, Any], field: str) -> None:
    """`details.field` is the camelCase path of the culprit, `details.errors` lists all."""
    error = await net.refusal(message_type, body)

    assert (error["code"], error["details"]["field"]) == ("INVALID_REQUEST", field)
    assert error["details"]["errors"][0]["field"] == field


async def test_l2_type_that_nobody_provides_is_unsupported(net: Plain, zone: Any) -> None:
    """The known ones are in the details."""
    for name in ("L2TokenRing", "L2Vlan\0Network"):
        error = await net.refusal("l2.create", vlan(zone, type=name))

        assert error["code"] in {"UNSUPPORTED_TYPE", "INVALID_REQUEST"}
        assert error["details"]["field"] == "type"
    assert (await net.refusal("l2.create", vlan(zone, type="L2TokenRing")))["details"]["known"] == [
        "L2NoVlanNetwork",
        "L2VlanNetwork",
        "L2VxlanNetwork",
        "OvsGreL2Network",
    ]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400", "1" * 5000, "10.0000000000000001"])
async def test_number_that_json_or_python_takes_but_no_field_is_refused(net: Plain, zone: Any, literal: str) -> None:
    """Numbers outside every range are bad fields or bad JSON, never an accident."""
    body = json.dumps(vlan(zone, vlan="NUMBER")).replace('"NUMBER"', literal).encode()
    error = await net.refusal("l2.create", body)

    assert error["code"] == "INVALID_REQUEST"
    assert error["details"]["field"] in {"vlan", "body"}


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00x", r"\ud83d\ud83d"])
async def test_lone_surrogate_is_refused(net: Plain, escape: str) -> None:
    """It is no character, and cannot be stored or logged."""
    error = await net.refusal("zone.create", b'{"name": "' + escape.encode() + b'"}')

    assert error["code"] == "INVALID_REQUEST"


async def test_field_given_twice_is_one_field(net: Plain) -> None:
    """JSON leaves it open; whichever counts, only one zone is made."""
    zone = await net.value("zone.create", b'{"name": "first", "name": "second"}')

    assert zone["name"] == "second"
