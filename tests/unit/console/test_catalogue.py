"""Finding a request, and making one of its JSON."""

from uuid import UUID

import pytest

from viaduct_common.errors import InvalidRequest, UnsupportedType
from viaduct_common.messages.l2 import AttachL2, CreateL2
from viaduct_common.messages.registry import IPAM_REQUESTS, MANAGER_REQUESTS
from viaduct_console import catalogue


def test_every_request_is_listed_with_a_sentence() -> None:
    """What the registry has, the catalogue shows, each with its documentation in one line."""
    listed = catalogue.entries()

    assert {entry.type for entry in listed} == MANAGER_REQUESTS.keys() | IPAM_REQUESTS.keys()
    assert all(entry.summary.endswith(".") for entry in listed)
    assert [entry.type for entry in catalogue.entries("l3.")] == sorted(t for t in MANAGER_REQUESTS if t[:3] == "l3.")


def test_who_answers_what() -> None:
    """The batch is taken by both services."""
    services = {entry.type: (entry.service, entry.changes) for entry in catalogue.entries()}

    assert services["ip.allocate"] == ("ipam", True)
    assert services["l2.query"] == ("manager", False)
    assert services["batch"][0] == "both"


def test_fields_are_named_as_on_the_wire() -> None:
    """Required ones first, each with what it may be."""
    fields = {field.name: field for field in catalogue.fields_of(AttachL2)}

    assert list(fields)[:2] == ["l2NetworkUuid", "clusterUuid"]
    assert fields["l2NetworkUuid"].required
    assert fields["l2NetworkUuid"].kind == "uuid"
    assert fields["onFailure"].kind == '"rollback" | "keep"'
    assert fields["timeoutSeconds"].default == "60"


@pytest.mark.parametrize("name", sorted(catalogue.REQUESTS))
def test_the_fields_of_every_request_can_be_shown(name: str) -> None:
    """Whatever schema a model has, it is said in a few words."""
    for field in catalogue.fields_of(catalogue.REQUESTS[name]):
        assert field.kind not in {"", "any"} or field.name == "body"


def test_a_body_becomes_a_request() -> None:
    """Fields of an L2 type's own pass through."""
    request = catalogue.parse_request(
        "l2.create",
        f'{{"zoneUuid": "{UUID(int=1)}", "name": "b", "type": "L2VlanNetwork", "physicalInterface": "e", "vlan": 7}}',
    )

    assert isinstance(request, CreateL2)
    assert request.own_fields() == {"vlan": 7}


@pytest.mark.parametrize(
    ("body", "field"),
    [('{"clusterUuid": 7}', "l2NetworkUuid"), ("[]", "body"), ('{"l2_network_uuid": "x"}', "l2NetworkUuid")],
)
def test_a_wrong_body_names_the_culprit(body: str, field: str) -> None:
    """By the name that the sender knows."""
    with pytest.raises(InvalidRequest) as caught:
        catalogue.parse_request("l2.attach", body)
    assert caught.value.details["field"] == field


def test_a_body_that_is_no_json_says_so() -> None:
    """A shell has eaten the quotes."""
    with pytest.raises(InvalidRequest, match="no JSON"):
        catalogue.parse_request("l2.query", "{limit: 1}")


def test_a_mistyped_name_gets_a_suggestion() -> None:
    """And one that is like nothing gets the list."""
    with pytest.raises(UnsupportedType, match=r"did you mean l2\.attach"):
        catalogue.find_request_type("l2.atach")
    with pytest.raises(UnsupportedType, match="viaduct types"):
        catalogue.find_request_type("zzz")
