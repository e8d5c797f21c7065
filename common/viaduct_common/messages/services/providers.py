"""Providers of network services: associated with L2 networks, attached to L3 networks by service type."""

from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Field

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import Name, OneOrMany, ServiceType
from viaduct_common.messages.l3 import L3NetworkInventory

ServiceTypes = Annotated[list[ServiceType], Field(min_length=1, max_length=64)]
ServicesByProvider = Annotated[dict[UUID, ServiceTypes], Field(min_length=1, max_length=64)]
ServiceConfig = Annotated[dict[str, Any], Field(max_length=256)]


class ServiceProviderInventory(WireModel):
    """`uuid` is derived from the name: the same in every installation and after every restart."""

    uuid: UUID
    name: str
    service_types: list[str]
    attached_l2_network_uuids: list[UUID] = Field(default_factory=list)


class ServiceProviderFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None


class QueryServiceProviders(Request[Page[ServiceProviderInventory]], QueryBody):
    """The providers of network services, with the L2 networks that they are associated with."""

    message_type: ClassVar[str] = "serviceProvider.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: ServiceProviderFilters = ServiceProviderFilters()


class AttachServices(Request[L3NetworkInventory]):
    """Let these providers serve these types on an L3 network: all of them, or none.

    One provider per type: another that is there already, or twice in the request, is `SERVICE_CONFLICT`; the same again
    is no error. `config` by service type is what the provider wants to know for it.
    """

    message_type: ClassVar[str] = "l3.attachServices"

    l3_network_uuid: UUID
    services: ServicesByProvider
    config: Annotated[dict[ServiceType, ServiceConfig], Field(max_length=64)] = Field(default_factory=dict)


class DetachServices(Request[L3NetworkInventory]):
    """No longer let these providers serve these types; refused while something depends on them (`IN_USE`).

    What is not attached is no error."""

    message_type: ClassVar[str] = "l3.detachServices"

    l3_network_uuid: UUID
    services: ServicesByProvider


class ConfigureService(Request[L3NetworkInventory]):
    """Replace what the provider of an attached service type is to know for it."""

    message_type: ClassVar[str] = "l3.configureService"

    l3_network_uuid: UUID
    service_type: ServiceType
    config: ServiceConfig
