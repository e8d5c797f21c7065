"""What both ends agree on: the type's name, and the fields that it has beside those of every L2 network."""

from typing import Annotated

from pydantic import Field

from viaduct_common.messages.base import StrictModel

L2_ISOLATED = "L2IsolatedNetwork"


class IsolatedFields(StrictModel):  # StrictModel: an unknown field in `l2.create` is refused, not ignored
    """`number` tells isolated networks of one cluster apart; on the wire it stands beside `name`, `mtu`, ..."""

    number: Annotated[int, Field(strict=True, ge=1, le=9999)]
