"""nftables: whole tables, each replaced in one transaction and compared without being parsed."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from viaduct_agent.services.programs import run
from viaduct_common.errors import BackendFailed

Family = Literal["inet", "bridge", "netdev"]


@dataclass(frozen=True, slots=True)
class Table:
    """`body` is what stands between the braces: sets, maps, chains, rules."""

    family: Family
    name: str
    body: str

    @property
    def digest(self) -> str:
        """Of what is wanted; it is in the table's comment, so that anybody sees which rules are there."""
        return _digest(f"{self.family} {self.name}\n{self.body}")

    @property
    def transaction(self) -> str:
        """Whatever was there goes, and this is there, at one moment."""
        name = f"{self.family} {self.name}"
        comment = f'comment "viaduct:{self.digest}"'
        return f"add table {name}\ndelete table {name}\ntable {name} {{\n{comment}\n{self.body}\n}}\n"


async def replace_table(table: Table, netns: str | None) -> str:
    """Put the table there; the digest of how nft lists it, for `listed`.

    Raises:
        BackendFailed: nft or the kernel refused; the old table is there as before.
    """
    await run(["nft", "-f", "-"], netns=netns, stdin=table.transaction)
    return await listed(table.family, table.name, netns) or ""


async def refusal(table: Table, netns: str | None) -> str | None:
    """Why this kernel would not take the table; None if it would. Nothing is changed.

    The kernel itself is asked, and made to load what it has as modules.
    """
    try:
        await run(["nft", "--check", "-f", "-"], netns=netns, stdin=table.transaction)
    except BackendFailed as exc:
        return exc.message
    return None


async def listed(family: Family, name: str, netns: str | None) -> str | None:
    """The digest of how nft lists a table; None if it is not there.

    The same as right after it was put there: nobody has changed a rule since. Counters do not count (`-s`).
    """
    ran = await run(["nft", "-s", "list", "table", family, name], netns=netns, ok={0, 1})
    return _digest(ran.stdout) if ran.code == 0 else None


async def remove_table(family: Family, name: str, netns: str | None) -> bool:
    """Whether it was there."""
    there = await listed(family, name, netns) is not None
    if there:
        await run(["nft", "-f", "-"], netns=netns, stdin=f"delete table {family} {name}\n")
    return there


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
