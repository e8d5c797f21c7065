"""A vhost and a database of one's own on the session's servers, and the real services on them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from local_stack.broker import Broker
from local_stack.definitions import SHIPPED
from local_stack.postgres import Postgres
from local_stack.service import Service
from viaduct_common.client import ViaductClient

_NUMBERS = count(2)
# A scripted agent beats three times as often; nobody on a busy machine is taken for lost by accident.
HEARTBEAT_SECONDS = 1.0


class Process(Service):
    """A service as the local stack starts it; a setting that is empty is not given at all."""

    def settings(self) -> dict[str, str]:
        return {name: value for name, value in super().settings().items() if value}


@dataclass
class Place:
    """One vhost, furnished as `deploy/rabbitmq` says, and one database."""

    broker: Broker
    postgres: Postgres
    name: str = field(default_factory=lambda: f"t{uuid4().hex[:10]}")

    def amqp_url(self, user: str = "viaduct-operator", password: str | None = None) -> str:
        url = self.broker.amqp_url(user).rpartition("/")[0]
        if password is not None:
            url = f"amqp://{user}:{password}@127.0.0.1:{self.broker.port}"
        return f"{url}/{self.name}"

    def postgres_url(self, role: str = "viaduct_manager") -> str:
        return self.postgres.url(role, self.name)

    def sql(self, statements: str) -> str:
        return self.postgres.sql(f"SET search_path = viaduct_manager, public; {statements}", database=self.name)

    async def api(self, method: str, path: str, body: Any = None, *, good: tuple[int, ...] = ()) -> Any:
        """One call of the management API; `{vhost}` in the path is ours."""
        async with httpx.AsyncClient(timeout=20) as http:
            url = self.broker.api_url() + "/api" + path.replace("{vhost}", quote(self.name, safe=""))
            response = await http.request(method, url, json=body)
            if response.status_code not in good:
                response.raise_for_status()
            return response.json() if response.content else None

    async def furnish(self) -> None:
        await self.api("PUT", "/vhosts/{vhost}", {})
        for user, rights in json.loads((SHIPPED / "users.json").read_text()).items():
            await self.permit(user, **{right: rights[right] for right in ("configure", "write", "read")})
        shipped = json.loads((SHIPPED / "definitions.json").read_text())
        shipped.pop("vhosts")
        bare = {
            kind: [{k: v for k, v in row.items() if k != "vhost"} for row in rows] for kind, rows in shipped.items()
        }
        await self.api("POST", "/definitions/{vhost}", bare)
        await asyncio.to_thread(self.postgres.create_database, self.name)

    async def permit(self, user: str, *, configure: str, write: str, read: str) -> None:
        rights = {"configure": configure, "write": write, "read": read}
        await self.api("PUT", f"/permissions/{{vhost}}/{user}", rights)

    async def add_user(self, user: str, password: str) -> str:
        """A client's user, as an administrator would make it; returns its URL."""
        await self.api("PUT", f"/users/{user}", {"password": password, "tags": ""})
        await self.permit(user, configure="^$", write="^viaduct\\.requests$", read="^$")
        return self.amqp_url(user, password)

    async def raze(self) -> None:
        await self.api("DELETE", "/vhosts/{vhost}", good=(404,))
        await asyncio.to_thread(self.postgres.drop_database, self.name)

    def service(self, kind: str, **environment: str) -> Service:
        """A process that is not started yet; any number of one kind may be."""
        settings = {
            "VIADUCT_AMQP_URL": self.amqp_url(f"viaduct-{kind}"),
            "VIADUCT_POSTGRES_URL": self.postgres_url(f"viaduct_{kind}"),
            "VIADUCT_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "VIADUCT_MISSED_HEARTBEATS": "5",
            "VIADUCT_CARETAKER_SECONDS": "0.2",
        }
        return Process(self.broker.run_dir, kind, number=next(_NUMBERS), environment=settings | environment)

    @asynccontextmanager
    async def running(self, kind: str, **environment: str) -> AsyncIterator[Service]:
        """A service that serves; killed at the end if it does not stop."""
        service = self.service(kind, **environment)
        try:
            await asyncio.to_thread(service.start)
            yield service
        finally:
            await asyncio.to_thread(service.stop)

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[ViaductClient]:
        async with ViaductClient(self.amqp_url(), **{"timeout_seconds": 20, **options}) as client:
            yield client


@asynccontextmanager
async def furnished(broker: Broker, postgres: Postgres) -> AsyncIterator[Place]:
    place = Place(broker, postgres)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(place.raze)
        await place.furnish()
        yield place
