"""The commands of `viaduct`: each asks through the client, and prints a table or JSON."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from cyclopts import App, Parameter
from rich.console import Console, Group, RenderableType
from rich.text import Text

from viaduct_console import tables
from viaduct_console.catalogue import entries, fields_of, find_request_type, parse_request, summary_of
from viaduct_console.connect import connected
from viaduct_console.ipam import build_ipam_app
from viaduct_console.options import HERE, Broker, Output, print_json
from viaduct_console.overview import look

HELP = """\
Look at Viaduct, and send it any request of its contract.

Every command that asks needs the broker: `--url`, or the environment variable VIADUCT_AMQP_URL.
"""
PIPED_WIDTH = 160  # columns of a table that no terminal cuts


def build_app(console: Console, notes: Console) -> App:
    """Return the command line; `console` is where results go, `notes` what is not one: progress."""
    app = App(name="viaduct", help=HELP, help_format="markdown", console=console, version_flags=[])
    app.command(build_ipam_app(console, notes))

    def show(view: RenderableType, value: Any, output: Output) -> None:
        if output == "json":
            print_json(console, value)
        else:
            console.print(view)

    @app.command
    async def status(*, output: Output = "table", broker: Broker = HERE) -> None:
        """Show hosts with their state, L2 networks with where they are realized, and operations that run."""
        async with connected(broker.url, timeout_seconds=broker.timeout) as net:
            overview = await look(net)
        show(tables.overview_view(overview, datetime.now(UTC)), overview, output)

    @app.command
    async def request(
        type_: Annotated[str, Parameter(name="TYPE", help="The request's type, such as l2.query.")],
        body: Annotated[
            str, Parameter(name="JSON", help="Its fields as a JSON object; `-` reads standard input.")
        ] = "{}",
        /,
        *,
        message_id: Annotated[
            UUID | None, Parameter(help="The idempotency key: the same one again gets the first answer again.")
        ] = None,
        broker: Broker = HERE,
    ) -> None:
        """Send any request, and print the value of its reply as JSON.

        A refusal goes to standard error with its code, and the exit status is 1. `viaduct types TYPE` shows the fields.
        Example: `viaduct request l2.query '{"filters": {"name": "blue"}}'`
        """
        message = parse_request(type_, sys.stdin.read() if body == "-" else body)
        async with connected(broker.url, timeout_seconds=broker.timeout) as net:
            value = await net.call(message, message_id=message_id)
        print_json(console, value)

    @app.command
    def types(
        prefix: Annotated[
            str, Parameter(name="TYPE", help="A type to show the fields of, or how its name begins.")
        ] = "",
        /,
        *,
        output: Output = "table",
    ) -> None:
        """List the types of request; of a single one show the fields."""
        found = entries(prefix)
        exact = [entry for entry in found if entry.type == prefix]
        if exact or not found:
            request_type = find_request_type(prefix)
            fields = fields_of(request_type)
            view = Group(Text(summary_of(request_type)), Text(), tables.fields_table(fields))
            show(view, request_type.model_json_schema(by_alias=True), output)
        else:
            show(tables.types_table(found), [asdict(entry) for entry in found], output)

    @app.command
    async def operation(
        uuid: Annotated[UUID, Parameter(name="UUID", help="The operation's uuid, as `status` or an attach gave it.")],
        /,
        *,
        output: Output = "table",
        broker: Broker = HERE,
    ) -> None:
        """Show one operation: its state, and what each host did or why not."""
        async with connected(broker.url, timeout_seconds=broker.timeout) as net:
            found = await net.operation.get(uuid=uuid)
            overview = await look(net)
        show(tables.operation_view(found, overview), found, output)

    return app


def run_app(app: App, arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; leaves by SystemExit if it cannot be understood."""
    status = app(list(arguments), result_action="return_value")
    return status if isinstance(status, int) else 0
