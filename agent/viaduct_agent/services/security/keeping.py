"""The specs in files, so that an agent that starts again knows what the kernel's rules were made of."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.security.model import Instance, World, parse
from viaduct_common.errors import InvalidRequest


class Keeper:
    """One file for each instance, replaced as a whole. Blocking: a file of a few hundred bytes on the local disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> World:
        """What was kept; a file that is none is as good as absent: the manager tells its instance again."""
        instances: dict[UUID, Instance] = {}
        for path in self._directory.glob("*.json"):
            try:
                raw: dict[str, Any] = json.loads(path.read_text())
                body = parse(raw["kind"], raw["spec"])
                instances[UUID(path.stem)] = Instance(raw["kind"], int(raw["generation"]), body)
            except (KeyError, TypeError, ValueError, InvalidRequest):
                continue
        return World(instances)

    def put(self, want: ServiceOnHost) -> bytes | None:
        """Keep it; return what was kept before, for `restore`."""
        raw = {"kind": want.kind, "generation": want.generation, "spec": dict(want.spec)}
        return self.restore(want.uuid, json.dumps(raw).encode())

    def drop(self, uuid: UUID) -> bytes | None:
        return self.restore(uuid, None)

    def restore(self, uuid: UUID, content: bytes | None) -> bytes | None:
        path = self._directory / f"{uuid}.json"
        try:
            before = path.read_bytes()
        except FileNotFoundError:
            before = None
        if content is None:
            path.unlink(missing_ok=True)
        elif content != before:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            scratch = path.with_suffix(".new")
            scratch.write_bytes(content)
            scratch.replace(path)
        return before
