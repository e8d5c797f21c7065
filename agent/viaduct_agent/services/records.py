"""What the agent remembers of an instance, in its directory: `instance.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from viaduct_agent.services.files import write_file

_NAME = "instance.json"


@dataclass(frozen=True, slots=True)
class Record:
    """`generation` and `spec` are the last that were applied to their end; `tables` are digests of what was wanted and
    of what nft listed then, by family and name."""

    generation: int = 0
    spec: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def load(directory: Path) -> Record:
    """An empty one if there is none that can be read: then everything is looked at anew."""
    try:
        raw = json.loads((directory / _NAME).read_text(encoding="utf-8"))
        tables = {name: (wanted, listed) for name, (wanted, listed) in raw["tables"].items()}
        return Record(int(raw["generation"]), dict(raw["spec"]), tables)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Record()


def save(directory: Path, record: Record) -> None:
    write_file(directory / _NAME, json.dumps(asdict(record)))
