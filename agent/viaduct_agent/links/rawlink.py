"""A link as one netlink answer tells it, and what it becomes with the other answers of the same look."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from viaduct_agent.links.addresses import NOTHING, Inet
from viaduct_agent.links.entries import Entry
from viaduct_agent.links.model import Link, with_values

_Key: TypeAlias = tuple[str | None, str | None, tuple[str, ...] | None, Inet | None, tuple[Entry, ...] | None]


@dataclass(frozen=True, slots=True)
class RawLink:
    """A link whose master and parent are still index numbers (0: none); `service` is the network service whose mark it
    carries.

    It remembers what it became last, for a host that did not change is most of what is looked at: no value is made that
    was made before, and what is kept grows with the number of links alone.
    """

    link: Link
    master_index: int
    parent_index: int
    service: UUID | None = None
    _last: list[tuple[_Key, Link]] = field(default_factory=list, compare=False, repr=False)

    def shown(
        self,
        master: str | None,
        parent: str | None,
        addresses: tuple[str, ...] | None = None,
        inet: Inet | None = None,
        entries: Collection[Entry] | None = None,
    ) -> Link:
        """The link with these names in place of the numbers, and with what was read beside it."""
        if inet is not None and inet is not NOTHING:
            # Never from memory: the time that addresses are valid for passes, and is no part of what compares equal.
            return self._with(master, parent, inet.texts, inet, entries)
        key = (master, parent, addresses, inet, None if entries is None else tuple(entries))
        # At once: another namespace, with a thread of its own, may have a link of the same bytes.
        last = self._last[:]
        if last and last[0][0] == key:
            return last[0][1]
        link = self._with(master, parent, addresses if inet is None else (), inet, entries)
        self._last[:] = [(key, link)]
        return link

    def _with(
        self,
        master: str | None,
        parent: str | None,
        addresses: tuple[str, ...] | None,
        inet: Inet | None,
        entries: Collection[Entry] | None,
    ) -> Link:
        kept = None if entries is None else frozenset(entries)
        return with_values(self.link, master=master, parent=parent, addresses=addresses, inet=inet, entries=kept)
