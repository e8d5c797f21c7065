"""What commands have in common: options, and JSON as a result."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic_core import to_jsonable_python
from rich.console import Console

Output = Annotated[
    Literal["table", "json"],
    Parameter(name=["--output", "-o"], help="`table` for people, `json` for programs.", show_choices=False),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Broker:
    """Where the control plane is."""

    url: Annotated[
        str | None,
        Parameter(
            env_var="VIADUCT_AMQP_URL",
            show_default=False,
            help="The broker, amqp://user:password@host:5672/viaduct; better in the environment than in sight.",
        ),
    ] = None
    timeout: Annotated[float, Parameter(help="Seconds to wait for a reply.")] = 30.0


HERE = Broker()


def print_json(console: Console, value: Any) -> None:
    """Whole and unwrapped, unless it is a terminal."""
    text = json.dumps(to_jsonable_python(value, by_alias=True), indent=2, ensure_ascii=False)
    if console.is_terminal:
        console.print_json(text)
    else:
        console.file.write(text + "\n")  # unwrapped, for whatever reads it
