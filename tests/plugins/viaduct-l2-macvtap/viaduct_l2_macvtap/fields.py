"""What the ends agree on: the type's name, the backend's, and the fields beside those of every L2 network."""

from typing import Annotated, Literal

from pydantic import Field

from viaduct_common.messages.base import StrictModel

L2_MACVTAP = "L2MacvtapNetwork"
BACKEND = "macvtap"


class MacvtapFields(StrictModel):  # StrictModel: an unknown field in `l2.create` is refused, not ignored
    """On the wire `mode` and `maxNicsPerHost` stand beside `name`, `mtu`, ...

    `mode` as in ip-link(8): VMs of one host hear each other directly (`bridge`), by way of the switch (`vepa`), or not
    at all (`private`). `max_nics_per_host`: a physical interface filters so many MACs; with more it turns promiscuous.
    """

    mode: Literal["bridge", "vepa", "private"] = "bridge"
    max_nics_per_host: Annotated[int, Field(strict=True, ge=1)] | None = None
