"""Who serves what in Postgres: providers, the L2 networks they are associated with, the types they serve on L3s."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.services.providers import QueryServiceProviders, ServiceProviderInventory
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection

KIND = "service provider"

_REGISTER = """
    INSERT INTO service_provider (uuid, name, service_types) VALUES ($1, $2, $3)
    ON CONFLICT (uuid) DO UPDATE SET service_types = excluded.service_types
        WHERE service_provider.service_types <> excluded.service_types
    RETURNING xmax = 0 AS fresh
"""
_LOCK_REGISTRATION = "SELECT pg_advisory_xact_lock(hashtextextended('viaduct service providers', 0))"
_NAME = "SELECT name FROM service_provider WHERE uuid = $1"
# A network of an account stands for its parent, whose L3 networks are.
_ALL_L2 = "SELECT uuid FROM l2_network WHERE parent_uuid IS NULL AND NOT deleted ORDER BY uuid FOR SHARE"
_ASSOCIATE = """
    INSERT INTO l2_service_provider (l2_uuid, provider_uuid)
    SELECT l2_uuid, provider_uuid FROM unnest($1::uuid[], $2::uuid[]) AS t(l2_uuid, provider_uuid)
    ON CONFLICT DO NOTHING
"""
_ASSOCIATED = "SELECT provider_uuid FROM l2_service_provider WHERE l2_uuid = $1"
_ATTACHED = """
    SELECT service_type, provider_uuid, service_provider.name AS provider, config
    FROM l3_service JOIN service_provider ON service_provider.uuid = provider_uuid
    WHERE l3_uuid = $1 ORDER BY service_type
"""
_ATTACH = """
    INSERT INTO l3_service (l3_uuid, service_type, provider_uuid, config)
    SELECT $1, service_type, $2, config FROM unnest($3::text[], $4::jsonb[]) AS t(service_type, config)
    ON CONFLICT (l3_uuid, service_type) DO UPDATE SET config = excluded.config
"""
_DETACH = "DELETE FROM l3_service WHERE l3_uuid = $1 AND provider_uuid = $2 AND service_type = ANY($3::text[])"
_HOLD = "SELECT FROM l3_network WHERE uuid = ANY($1::uuid[]) ORDER BY uuid FOR KEY SHARE"
_SERVED = "SELECT DISTINCT l3_uuid FROM l3_service WHERE l3_uuid = ANY($1::uuid[])"
_LISTING = Listing(
    select="""
        SELECT *, ARRAY(SELECT l2_uuid FROM l2_service_provider WHERE provider_uuid = service_provider.uuid
                        ORDER BY l2_uuid) AS attached_l2_network_uuids
        FROM service_provider
    """,
    columns={"uuid": Column("uuid", "uuid"), "name": Column("name", "text")},
    key=Column("uuid", "uuid"),
    default_sort="name",
)


@dataclass(frozen=True)
class Attached:
    """A type that is served on an L3 network."""

    service_type: str
    provider_uuid: UUID
    provider: str
    config: Mapping[str, Any]


async def lock_registration(connection: Connection) -> None:
    """Managers that start at the same moment register their providers one after the other."""
    await connection.execute(_LOCK_REGISTRATION)


async def register(connection: Connection, uuid: UUID, name: str, service_types: Sequence[str]) -> bool:
    """Have the provider known; true if it was not."""
    return bool(await connection.fetchval(_REGISTER, uuid, name, list(service_types)))


async def hold_l2_networks(connection: Connection) -> list[UUID]:
    """All that can have L3 networks; none of them goes until the transaction ends."""
    return [row["uuid"] for row in await connection.fetch(_ALL_L2)]


async def associate(connection: Connection, pairs: Iterable[tuple[UUID, UUID]]) -> None:
    """Of these (L2 network, provider) pairs the latter's services are to be had on the former."""
    asked = list(pairs)
    await connection.execute(_ASSOCIATE, [l2_uuid for l2_uuid, _ in asked], [uuid for _, uuid in asked])


async def associated(connection: Connection, l2_uuid: UUID) -> set[UUID]:
    """The providers whose services are to be had on the L2 network."""
    return {row["provider_uuid"] for row in await connection.fetch(_ASSOCIATED, l2_uuid)}


async def name_of(connection: Connection, provider_uuid: UUID) -> str:
    """Raises:
    NotFound: there is no such provider, and never was.
    """
    name: str | None = await connection.fetchval(_NAME, provider_uuid)
    if name is None:
        raise NotFound.of(KIND, provider_uuid)
    return name


async def attached(connection: Connection, l3_uuid: UUID) -> dict[str, Attached]:
    """By type what is served on an L3 network."""
    return {row["service_type"]: Attached(**row) for row in await connection.fetch(_ATTACHED, l3_uuid)}


async def attach(
    connection: Connection, l3_uuid: UUID, provider_uuid: UUID, configs: Mapping[str, Mapping[str, Any]]
) -> None:
    """Let the provider serve these types, or tell it something else for them; nobody else serves them there."""
    await connection.execute(_ATTACH, l3_uuid, provider_uuid, list(configs), [dict(one) for one in configs.values()])


async def detach(connection: Connection, l3_uuid: UUID, provider_uuid: UUID, types: Collection[str]) -> None:
    await connection.execute(_DETACH, l3_uuid, provider_uuid, list(types))


async def hold_served(connection: Connection, l3_uuids: Collection[UUID]) -> frozenset[UUID]:
    """Those of the L3 networks that have services. Until the transaction ends none gets any: so who changes what is on
    others need not tell of it."""
    await connection.execute(_HOLD, list(l3_uuids))
    return frozenset(row["l3_uuid"] for row in await connection.fetch(_SERVED, list(l3_uuids)))


async def query(connection: Connection, request: QueryServiceProviders) -> Page[ServiceProviderInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[ServiceProviderInventory.model_validate(dict(row)) for row in page.rows], after=page.after)
