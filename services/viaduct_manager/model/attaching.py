"""May these providers serve these types, and who does already?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.errors import InvalidRequest, PreconditionFailed, ServiceConflict


@dataclass(frozen=True)
class Offer:
    """A provider as far as the rules need it; `associated`: its services are to be had on the L2 network."""

    name: str
    service_types: Sequence[str]
    associated: bool


def wanted_types(services: Mapping[UUID, Sequence[str]]) -> dict[str, UUID]:
    """The provider of each type that a request names; a type that is named twice for one provider counts once.

    Raises:
        ServiceConflict: two providers for one type.
    """
    wanted: dict[str, UUID] = {}
    for uuid, types in services.items():
        for service_type in types:
            other = wanted.setdefault(service_type, uuid)
            if other != uuid:
                raise ServiceConflict(
                    f"services: two providers for {service_type}: {other} and {uuid}",
                    field=f"services.{uuid}",
                    serviceType=service_type,
                    providerUuid=str(other),
                )
    return wanted


def check_offers(wanted: Mapping[str, UUID], offers: Mapping[UUID, Offer]) -> None:
    """Raises:
    InvalidRequest: a provider does not offer a type.
    PreconditionFailed: its services are not to be had on the L2 network.
    """
    for service_type, uuid in wanted.items():
        offer = offers[uuid]
        if service_type not in offer.service_types:
            raise InvalidRequest.of_field(
                f"services.{uuid}",
                f"provider {offer.name} does not offer {service_type}",
                serviceType=service_type,
                known=sorted(offer.service_types),
            )
        if not offer.associated:
            raise PreconditionFailed(
                f"provider {offer.name} is not associated with the L2 network", field=f"services.{uuid}"
            )


def check_rivals(wanted: Mapping[str, UUID], attached: Mapping[str, tuple[UUID, str]]) -> None:
    """Args:
        attached: uuid and name of the provider that serves a type already.

    Raises:
        ServiceConflict: another one does; the details name it.
    """
    for service_type, uuid in wanted.items():
        rival_uuid, rival = attached.get(service_type, (uuid, ""))
        if rival_uuid != uuid:
            raise ServiceConflict(
                f"{service_type} is served by {rival} on this L3 network: detach that first",
                field=f"services.{uuid}",
                serviceType=service_type,
                providerUuid=str(rival_uuid),
                provider=rival,
            )


def field_below(prefix: str, error: InvalidRequest, strip: str = "") -> InvalidRequest:
    """A provider's objection to a config as the request's: `details.field` from the request's root.

    Args:
        prefix: where the provider's configs stand in the request.
        strip: the service type, where the request has that one's config alone.
    """
    below = str(error.details.get("field", "")).removeprefix(strip).strip(".")
    field = f"{prefix}.{below}" if below else prefix
    return InvalidRequest(error.message, **{**error.details, "field": field})
