"""Who may ask what: the role of the broker-validated user, against the role that a request needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from viaduct_common.errors import Forbidden
from viaduct_common.messages.base import Request, Role

_RANK: dict[Role, int] = {"reader": 1, "operator": 2, "admin": 3}


@dataclass(frozen=True)
class RolePolicy:
    """`anonymous` is the role of a request without `user_id`, `by_user` that of each named user; None: no role."""

    anonymous: Role | None = None
    by_user: Mapping[str, Role] = field(default_factory=dict)

    def authorize(self, user: str | None, request_type: type[Request[Any]]) -> None:
        """Raises:
        Forbidden: the role does not reach.
        """
        role = self.by_user.get(user) if user else self.anonymous
        if role is None or _RANK[role] < _RANK[request_type.required_role]:
            raise Forbidden(
                f"{request_type.message_type} needs the role {request_type.required_role}; "
                f"{user or 'an anonymous sender'} has {role or 'none'}",
                required=request_type.required_role,
            )
