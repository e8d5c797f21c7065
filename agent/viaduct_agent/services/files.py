"""Files of service instances: written whole or not at all, readable for programs that gave up their rights."""

import os
from collections.abc import Mapping
from pathlib import Path

from viaduct_common.messages.l2 import Difference


def write_file(path: Path, text: str) -> bool:
    """Whether it is another text than before."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return False
    except FileNotFoundError:
        pass
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(text, encoding="utf-8")
    scratch.chmod(0o644)  # whatever the agent's umask is
    os.replace(scratch, path)
    return True


def make_directory(path: Path) -> None:
    """With those above it that are missing."""
    for directory in reversed([path, *path.parents]):
        if not directory.exists():
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)


def read_file(path: Path) -> str:
    """Empty if it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def content_differences(directory: Path, files: Mapping[str, str]) -> list[Difference]:
    """Files that are missing, or that another hand changed; `files` has what should be in each, by name."""
    found = {name: read_file(directory / name) for name in files}
    return [
        Difference(device=name, attribute="content", desired=text, actual=found[name] or None)
        for name, text in files.items()
        if found[name] != text
    ]
