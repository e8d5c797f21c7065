"""The program `viaduct`: wiring, and one way to say what went wrong."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console

from viaduct_common.errors import ViaductError
from viaduct_console.commands import PIPED_WIDTH, build_app, run_app
from viaduct_console.connect import NoBroker
from viaduct_console.rowfile import BadFile
from viaduct_console.tables import error_text


def run(arguments: Sequence[str], out: Console, err: Console) -> int:
    """Run one command line and return its exit status: 0 good, 1 refused or no broker."""
    try:
        return run_app(build_app(out, err), arguments)
    except ViaductError as error:
        body = error.to_body()
        err.print(error_text(body), soft_wrap=True)
        if body.details:
            err.print_json(json.dumps(body.details, default=str))
        return 1
    except (NoBroker, BadFile) as error:
        err.print(f"viaduct: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1


def main() -> None:
    out = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    try:
        status = run(sys.argv[1:], out, Console(stderr=True))
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # `viaduct types | head`
        sys.stderr.close()
        status = 141
    sys.exit(status)
