"""Exchanges, queues, routing keys and headers: the only place where they are spelled."""

from uuid import UUID

REQUESTS = "viaduct.requests"
COMMANDS = "viaduct.commands"
AGENTS = "viaduct.agents"
EVENTS = "viaduct.events"
DEAD = "viaduct.dead"
DEFAULT_EXCHANGE = ""

EXCHANGE_TYPES = {REQUESTS: "direct", COMMANDS: "direct", AGENTS: "topic", EVENTS: "topic", DEAD: "topic"}

MANAGER_QUEUE = "viaduct.manager"
IPAM_QUEUE = "viaduct.ipam"
AGENTS_QUEUE = "viaduct.manager.agents"
DEAD_LETTERS_QUEUE = "viaduct.dead-letters"

SERVICE_QUEUES = (MANAGER_QUEUE, IPAM_QUEUE, AGENTS_QUEUE, DEAD_LETTERS_QUEUE)
# queue -> (exchange, binding keys)
BINDINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    MANAGER_QUEUE: (REQUESTS, ("manager",)),
    IPAM_QUEUE: (REQUESTS, ("ipam",)),
    AGENTS_QUEUE: (AGENTS, ("completion.*", "report.*")),
    DEAD_LETTERS_QUEUE: (DEAD, ("#",)),
}

# A policy cannot set the queue type nor single-active-consumer: these two are declare arguments, here alone.
QUORUM_ARGUMENTS = {"x-queue-type": "quorum"}

VERSION_HEADER = "viaduct-version"
TRACE_HEADER = "traceparent"
REASON_HEADER = "viaduct-reason"
CODE_HEADER = "viaduct-code"
QUEUE_HEADER = "viaduct-queue"
CONTRACT_VERSION = 1

MAX_BODY_BYTES = 1024 * 1024
# A sync names every network of a host, about half a KiB each; RabbitMQ 4 takes no more than this in one message.
MAX_COMMAND_BYTES = 16 * 1024 * 1024


def agent_queue(host_uuid: UUID) -> str:
    return f"viaduct.agent.{host_uuid}"


def agent_queue_arguments(queue_type: str = "classic") -> dict[str, str | bool]:
    """Single-active-consumer: a restarted agent waits behind a connection that the broker still believes in."""
    arguments: dict[str, str | bool] = {"x-single-active-consumer": True}
    if queue_type != "classic":
        arguments["x-queue-type"] = queue_type
    return arguments


def command_key(host_uuid: UUID) -> str:
    return str(host_uuid)


def completion_key(host_uuid: UUID) -> str:
    return f"completion.{host_uuid}"


def report_key(host_uuid: UUID) -> str:
    return f"report.{host_uuid}"


def agent_username(host_uuid: UUID) -> str:
    """The broker user of a host's agent; `host_of_user` is its inverse."""
    return str(host_uuid)


def host_of_user(username: str) -> UUID | None:
    try:
        host_uuid = UUID(username)
    except ValueError:
        return None
    return host_uuid if str(host_uuid) == username else None  # UUID takes braces and more; a user has one name
