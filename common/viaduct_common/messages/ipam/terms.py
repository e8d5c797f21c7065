"""What the requests to IPAM share."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from viaduct_common.messages.base import Service
from viaduct_common.messages.fields import IpAddress

Strategy = Literal["firstAvailable", "random", "nextFit", "sticky"]
AddressMode = Literal["stateful", "slaac", "statelessDhcp"]
UnavailableReason = Literal["USED", "GATEWAY", "RESERVED", "NOT_IN_RANGE", "NETWORK", "BROADCAST", "COOLING"]
CoolingSeconds = Annotated[int, Field(strict=True, ge=0, le=30 * 86400)]
TtlSeconds = Annotated[int, Field(strict=True, ge=1, le=366 * 86400)]
UuidList = Annotated[list[UUID], Field(min_length=1, max_length=1000)]
IpList = Annotated[list[IpAddress], Field(max_length=1000)]


class IpamRequestMixin:
    service: ClassVar[Service] = "ipam"
