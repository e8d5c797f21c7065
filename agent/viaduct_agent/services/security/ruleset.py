"""A set of nftables tables as values, and the script that turns one into another. Pure.

Chains are compared by the prints of their rules (a hash, which each rule carries as its comment), sets and maps by
their elements. So realizing, checking, and repairing are one comparison, and a change is as small as what changed.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

TABLE = "viaduct_security"
_PRINT_LENGTH = 16


class Key(NamedTuple):
    """The family of the table, and the name in it."""

    family: str
    name: str

    @property
    def words(self) -> str:
        return f"{self.family} {TABLE} {self.name}"


@dataclass(frozen=True, slots=True)
class Line:
    """One rule; `text` is empty for one that was read."""

    print: str
    text: str = field(compare=False, default="")


@dataclass(frozen=True, slots=True)
class Chain:
    """`hook` is empty for a chain that is jumped to."""

    rules: tuple[Line, ...]
    hook: str = ""


@dataclass(frozen=True, slots=True)
class Elements:
    """A set, or with values that begin with a colon a map; a value of a set is an element's comment, or empty."""

    elements: Mapping[str, str]
    declaration: str = field(compare=False, default="")

    @property
    def keyword(self) -> str:
        return "map" if " : " in self.declaration else "set"


@dataclass(frozen=True, slots=True)
class Ruleset:
    chains: Mapping[Key, Chain] = field(default_factory=dict)
    sets: Mapping[Key, Elements] = field(default_factory=dict)
    families: frozenset[str] = frozenset()

    def keys(self) -> set[Key]:
        return {*self.chains, *self.sets}


def line(text: str) -> Line:
    """A rule of a chain that is wanted."""
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:_PRINT_LENGTH]
    return Line(fingerprint, f'{text} comment "{fingerprint}"')


def element(key: str, value: str) -> str:
    """An element as nft takes it."""
    return f"{key} {value}" if value.startswith(":") else f'{key} comment "{value}"' if value else key


def plan(want: Ruleset, have: Ruleset) -> tuple[str, ...]:
    """The lines of one transaction; none when all is as wanted. Whatever else is in our tables goes."""
    gone = sorted(have.families - want.families)
    kept = Ruleset(
        {key: chain for key, chain in have.chains.items() if key.family not in gone},
        {key: elements for key, elements in have.sets.items() if key.family not in gone},
    )
    return (
        *(f"delete table {family} {TABLE}" for family in gone),
        *(f"add table {family} {TABLE}" for family in sorted(want.families - have.families)),
        *_declarations(want, kept),
        *_elements_away(want, kept),
        *_rules(want, kept),
        *_elements_added(want, kept),
        *_leftovers(want, kept),
    )


def _declarations(want: Ruleset, have: Ruleset) -> Iterator[str]:
    for key in sorted(want.sets.keys() - have.sets.keys()):
        found = want.sets[key]
        yield f"add {found.keyword} {key.words} {{ {found.declaration} }}"
    for key, chain in sorted(want.chains.items()):
        old = have.chains.get(key)
        if old is not None and old.hook != chain.hook:
            # Nothing jumps to a chain at a hook, and a chain that is jumped to is at none: the name is of one kind.
            yield f"flush chain {key.words}"
            yield f"delete chain {key.words}"
        if old is None or old.hook != chain.hook:
            yield f"add chain {key.words}" + (f" {{ {chain.hook} }}" if chain.hook else "")


def _elements_away(want: Ruleset, have: Ruleset) -> Iterator[str]:
    """An element with another value goes before it comes again."""
    for key, old in sorted(have.sets.items()):
        new = want.sets.get(key, Elements({})).elements
        away = [name for name, value in old.elements.items() if new.get(name) != value]
        if away:
            yield f"delete element {key.words} {{ {', '.join(sorted(away))} }}"


def _rules(want: Ruleset, have: Ruleset) -> Iterator[str]:
    for key, chain in sorted(want.chains.items()):
        old = have.chains.get(key)
        rules = old.rules if old is not None and old.hook == chain.hook else ()
        if rules == chain.rules:
            continue
        if rules:
            yield f"flush chain {key.words}"
        yield from (f"add rule {key.words} {rule.text}" for rule in chain.rules)


def _elements_added(want: Ruleset, have: Ruleset) -> Iterator[str]:
    for key, new in sorted(want.sets.items()):
        old = have.sets.get(key, Elements({})).elements
        added = [element(name, value) for name, value in new.elements.items() if old.get(name) != value]
        if added:
            yield f"add element {key.words} {{ {', '.join(sorted(added))} }}"


def _leftovers(want: Ruleset, have: Ruleset) -> Iterator[str]:
    chains, sets = sorted(have.chains.keys() - want.chains.keys()), sorted(have.sets.keys() - want.sets.keys())
    yield from (f"flush chain {key.words}" for key in chains)  # first: they may jump to one another
    yield from (f"delete chain {key.words}" for key in chains)
    yield from (f"delete set {key.words}" for key in sets)
