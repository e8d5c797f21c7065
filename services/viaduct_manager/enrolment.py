"""A host's place on the broker: its queue, its user, the least rights that work.

    read   viaduct.agent.<hostUuid>                     its own commands
    write  viaduct.agents, keys (completion|report).<hostUuid>   its own answers
    configure nothing

The password is derived from one secret and the host's uuid, so enrolling twice, or after the broker was rebuilt from
nothing, gives the same credentials, and no database holds them.
"""

import base64
import hashlib
import hmac
import re
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID

import httpx

from viaduct_common import topology
from viaduct_common.bus import Bus
from viaduct_common.errors import ViaductError
from viaduct_common.messages.host import HostCredentials

TIMEOUT_SECONDS = 5.0
# One agent has two connections, while a lost one lingers at the broker two more.
MAX_CONNECTIONS = 4
MAX_CHANNELS = 16
# A dollar sign matches before a line feed at the end as well: the key of a host, and one more character.
END = r"\z"
NOTHING = "^" + END


class EnrolmentFailed(ViaductError):
    """The broker's management API did not do it; nothing was created that a repetition would not find."""

    retryable = True


class Enrolment:
    """Speaks with RabbitMQ's management API (https://www.rabbitmq.com/docs/management#http-api).

    Args:
        api_url: with the credentials of a user tagged administrator, e.g. `http://user:password@broker:15672`.
        vhost: the one that agents work on.
        secret: what passwords are derived from.
    """

    def __init__(self, api_url: str, vhost: str, secret: bytes, bus: Bus, queue_type: str) -> None:
        url = httpx.URL(api_url)
        self._client = httpx.AsyncClient(
            base_url=url.copy_with(username=None, password=None),
            auth=(url.username, url.password),
            timeout=TIMEOUT_SECONDS,
        )
        self._vhost = quote(vhost, safe="")
        self._secret = secret
        self._bus = bus
        self._queue_type = queue_type

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    def credentials(self, host_uuid: UUID) -> HostCredentials:
        digest = hmac.new(self._secret, host_uuid.bytes, hashlib.sha256).digest()
        return HostCredentials(
            username=topology.agent_username(host_uuid),
            password=base64.urlsafe_b64encode(digest).decode().rstrip("="),
            queue=topology.agent_queue(host_uuid),
        )

    async def enrol(self, host_uuid: UUID) -> HostCredentials:
        """Make queue, user and rights; repeating it changes nothing.

        Raises:
            EnrolmentFailed: the broker did not do it all; repeat it.
        """
        credentials = self.credentials(host_uuid)
        user = quote(credentials.username, safe="")
        await self.declare_queue(host_uuid)
        await self._put(f"/api/users/{user}", {"password": credentials.password, "tags": ""})
        for limit, value in (("max-connections", MAX_CONNECTIONS), ("max-channels", MAX_CHANNELS)):
            await self._put(f"/api/user-limits/{user}/{limit}", {"value": value})
        # Topic permissions first: until they are set, the exchange is open to whoever may write to it.
        await self._put(
            f"/api/topic-permissions/{self._vhost}/{user}",
            {
                "exchange": topology.AGENTS,
                "write": rf"^(completion|report)\.{host_uuid}{END}",
                "read": NOTHING,
            },
        )
        await self._put(
            f"/api/permissions/{self._vhost}/{user}",
            {
                "configure": NOTHING,
                "write": f"^{re.escape(topology.AGENTS)}{END}",
                "read": f"^{re.escape(credentials.queue)}{END}",
            },
        )
        return credentials

    async def missing(self, host_uuids: list[UUID]) -> list[UUID]:
        """Those that lack their queue or their user: two questions, however many hosts there are.

        Raises:
            EnrolmentFailed: the broker does not say.
        """
        queues = await self._names(f"/api/queues/{self._vhost}?columns=name")
        users = await self._names("/api/users?columns=name")
        return [
            uuid
            for uuid in host_uuids
            if topology.agent_queue(uuid) not in queues or topology.agent_username(uuid) not in users
        ]

    async def declare_queue(self, host_uuid: UUID) -> None:
        await self._bus.declare_queue(
            topology.agent_queue(host_uuid),
            topology.agent_queue_arguments(self._queue_type),
            topology.COMMANDS,
            [topology.command_key(host_uuid)],
        )

    async def revoke(self, host_uuid: UUID) -> None:
        """Remove user (which closes its connections) and queue; what is gone already is no error."""
        user = quote(topology.agent_username(host_uuid), safe="")
        await self._request("DELETE", f"/api/users/{user}", None, also_good={404})
        await self._bus.delete_queue(topology.agent_queue(host_uuid))

    async def _names(self, path: str) -> set[str]:
        response = await self._request("GET", path, None)
        return {row["name"] for row in response.json()}

    async def _put(self, path: str, body: dict[str, Any]) -> None:
        await self._request("PUT", path, body)

    async def _request(
        self, method: str, path: str, body: dict[str, Any] | None, *, also_good: frozenset[int] | set[int] = frozenset()
    ) -> httpx.Response:
        try:
            response = await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise EnrolmentFailed(f"the broker's management API does not answer: {error!r}") from error
        if response.is_error and response.status_code not in also_good:
            raise EnrolmentFailed(f"the broker's management API answered {response.status_code} to {method} {path}")
        return response
