"""The error tree, over the wire and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.errors import ERRORS_BY_CODE, Conflict, InvalidRequest, L2Conflict, NotFound, ViaductError
from viaduct_common.messages.base import ErrorBody, ErrorReply

DOCUMENTED = {
    "INVALID_REQUEST", "UNSUPPORTED_TYPE", "UNSUPPORTED_VERSION", "NOT_FOUND", "ALREADY_EXISTS", "CONFLICT",
    "L2_CONFLICT", "IP_RANGE_CONFLICT", "IP_IN_USE", "NOT_IN_RANGE", "SERVICE_CONFLICT", "IN_USE", "EXHAUSTED",
    "PRECONDITION_FAILED", "HOST_UNREACHABLE", "BACKEND_FAILED", "TIMEOUT", "OVERLOADED", "FORBIDDEN", "INTERNAL",
}  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda inner: st.lists(inner, max_size=3)
)


def test_codes_are_the_documented_ones() -> None:
    """Clients match on them: none more, none less."""
    assert set(ERRORS_BY_CODE) == DOCUMENTED


@pytest.mark.parametrize("kind", ERRORS_BY_CODE.values(), ids=ERRORS_BY_CODE.keys())
@given(message=st.text(), details=st.dictionaries(st.from_regex(r"\A[a-z]{1,8}\Z").filter(
    lambda name: name not in {"message", "self"}), json_values, max_size=4))  # fmt: skip
def test_error_comes_back_as_it_was_sent(kind: type[ViaductError], message: str, details: dict[str, object]) -> None:
    """Class, message, details and retryable."""
    wire = ErrorReply(error=kind(message, **details).to_body()).to_json()
    back = ViaductError.from_body(ErrorReply.from_json(wire).error)

    assert type(back) is kind
    assert (back.message, back.details, back.retryable) == (message, details, kind.retryable)


@pytest.mark.parametrize("details", [{"message": "x"}, {"self": "x"}])
def test_details_of_any_name_come_back(details: dict[str, str]) -> None:
    """Whoever sends an error names its details as he likes."""
    back = ViaductError.from_body(ErrorBody(code="CONFLICT", message="m", details=details))

    assert (type(back), back.message, back.details) == (Conflict, "m", details)


def test_code_of_a_later_release_is_an_error_all_the_same() -> None:
    """It keeps its text, its details and whether it may be tried again."""
    back = ViaductError.from_body(ErrorBody(code="NEWER", message="m", details={"a": 1}, retryable=True))

    assert type(back) is ViaductError
    assert (str(back), back.details, back.retryable) == ("m", {"a": 1}, True)


def test_kinds_of_conflict_are_conflicts() -> None:
    """Who catches the kind catches its kinds."""
    assert issubclass(L2Conflict, Conflict)
    assert InvalidRequest.of_field("a.b", "bad").details == {"field": "a.b"}
    assert NotFound.of("zone", 1).message == "no zone 1"
