"""For tests of backends, ours and others': a kernel in memory, at the same seam as the real one."""

import asyncio
import errno
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace

from viaduct_agent.links.model import BRIDGE, AddLink, DelLink, Link, Links, SetLink, Step, after
from viaduct_common.errors import BackendFailed


class FakeKernel:
    """A `Kernel` that refuses what the real one refuses. `fail_at` makes the n-th step from now fail (0: the next)."""

    def __init__(self, links: Iterable[Link] = ()) -> None:
        self._next_index = 1
        self.links: dict[str, Link] = {}
        for link in links:
            self.links[link.name] = replace(link, index=self._take_index())
        self.applied: list[Step] = []
        self.fail_at: int | None = None

    async def observe(self, names: Iterable[str] | None = None, *, addresses_of: str | None = None) -> Links:
        await asyncio.sleep(0)  # as the real one: others get their turn
        if names is None:
            shown = dict(self.links)
        else:
            shown = {name: self.links[name] for name in names if name in self.links}
            for link in list(shown.values()):
                shown |= {name: self.links[name] for name in (link.master, link.parent) if name in self.links}
                if link.kind == BRIDGE:
                    shown |= {port.name: port for port in self.links.values() if port.master == link.name}
        return {
            name: link if name == addresses_of else replace(link, addresses=()) for name, link in shown.items()
        }  # fmt: skip

    async def apply(self, step: Step, indexes: MutableMapping[str, int]) -> Step:
        await asyncio.sleep(0)
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at < 0:
                self.fail_at = None
                raise _refusal(errno.EIO, step)
        match step:
            case AddLink(link):
                self._check_new(step, indexes)
                step = AddLink(replace(link, index=self._take_index()))
                indexes[link.name] = step.link.index
            case SetLink(before, link):
                have = self._by_index(before.index, step)
                changed = {name: getattr(link, name) for name in step.changed - {"alias"}}
                step = SetLink(have, replace(have, **changed, owner=link.owner, generation=link.generation))
            case DelLink(link):
                step = DelLink(self._by_index(link.index, step))
                indexes.pop(link.name, None)
        self.links = after(self.links, (step,))
        self.applied.append(step)
        return step

    def _check_new(self, step: AddLink, indexes: Mapping[str, int]) -> None:
        link = step.link
        if link.name in self.links:
            raise _refusal(errno.EEXIST, step)
        for name in (link.master, link.parent):
            if name is not None and (name not in self.links or indexes.get(name) != self.links[name].index):
                raise _refusal(errno.ENODEV, step)

    def _by_index(self, index: int, step: Step) -> Link:
        for link in self.links.values():
            if link.index == index:
                return link
        raise _refusal(errno.ENODEV, step)

    def _take_index(self) -> int:
        self._next_index += 1
        return self._next_index


def _refusal(code: int, step: Step) -> BackendFailed:
    device = step.after.name if isinstance(step, SetLink) else step.link.name
    return BackendFailed(f"{step.command}: refused", step=step.command, device=device, errno=code)
