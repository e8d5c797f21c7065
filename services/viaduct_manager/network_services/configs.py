"""What providers are told for a service type."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.base import StrictModel

C = TypeVar("C", bound=StrictModel)


class NoConfig(StrictModel):
    """Nothing is to be said."""


def parsed(model: type[C], service_type: str, config: Mapping[str, Any]) -> C:
    """Raises:
    InvalidRequest: a field is wrong, missing or unknown; `details.field` is its path below `config`.
    """
    try:
        return model.model_validate(dict(config), by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest.of_field(".".join(map(str, (service_type, *first["loc"]))), first["msg"]) from None
