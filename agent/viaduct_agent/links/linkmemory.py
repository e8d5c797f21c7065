"""Links that were parsed before: the same answer of the kernel is the same link, whatever was counted meanwhile.

A link's answer changes with every frame that passes and with every second (counters, timers of a bridge), and a look at
a thousand networks is thousands of answers. What is of no use is therefore left out before answers are compared.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from viaduct_agent.links.rawlink import RawLink

_WORTH_LEAVING_OUT = 32  # bytes; each piece costs more than to compare so many
_FORMS_OF_A_LENGTH = 4

Gap = tuple[int, int]
"""Begin and end of bytes that are left out."""


@dataclass(frozen=True, slots=True)
class _Form:
    """Answers of one length with the same gaps. The headers of all attributes are among the pieces between the gaps,
    and so is the length of each gap: answers with equal pieces differ in nothing but what is left out."""

    layout: str
    pieces: Callable[[bytes], tuple[bytes, ...]]
    known: dict[tuple[bytes, ...], RawLink] = field(default_factory=dict)


class LinkMemory:
    """Of at most so many links; when they are more all are forgotten. Threads may share it."""

    def __init__(self, gaps: Callable[[bytes], Iterator[Gap]], most: int) -> None:
        """`gaps` are those of an answer, in their order."""
        self._gaps = gaps
        self._most = most
        self._count = 0
        self._forms: dict[int, tuple[_Form, ...]] = {}

    def find(self, body: bytes) -> RawLink | None:
        for form in self._forms.get(len(body), ()):
            found = form.known.get(form.pieces(body))
            if found is not None:
                return found
        return None

    def keep(self, body: bytes, link: RawLink) -> None:
        if self._count >= self._most:
            self._forms, self._count = {}, 0
        layout = _layout(self._gaps(body), len(body))
        forms = self._forms.get(len(body), ())
        form = next((form for form in forms if form.layout == layout), None)
        if form is None:
            form = _Form(layout, struct.Struct(layout).unpack)
            self._forms[len(body)] = (form, *forms[: _FORMS_OF_A_LENGTH - 1])
        form.known[form.pieces(body)] = link
        self._count += 1


def _layout(gaps: Iterator[Gap], length: int) -> str:
    layout, at = "=", 0
    for start, end in gaps:
        if end - start >= _WORTH_LEAVING_OUT:
            layout += f"{start - at}s{end - start}x"
            at = end
    return layout + f"{length - at}s"
