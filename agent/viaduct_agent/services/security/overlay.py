"""The part of the ruleset that is there for one instance, and how it compares. Pure."""

from collections.abc import Iterator

from viaduct_agent.services.security.compiling import is_shared
from viaduct_agent.services.security.ruleset import Elements, Key, Ruleset
from viaduct_common.messages.l2 import Difference

_NOTHING = Elements({})


def overlaid(want: Ruleset, without: Ruleset, have: Ruleset) -> Ruleset:
    """What there is, with the instance as it should be: `want` is all with it, `without` all but it.

    Its own are the chains and elements in which the two differ, and what all instances share.
    """
    own_chains = {
        key: chain for key, chain in want.chains.items() if chain != without.chains.get(key) or is_shared(key)
    }
    sets = dict(have.sets)
    for key, elements in want.sets.items():
        others = without.sets.get(key)
        own = _own(elements, others or _NOTHING)
        if own or others is None or is_shared(key):
            there = have.sets.get(key, _NOTHING).elements
            sets[key] = Elements({**there, **own}, elements.declaration)
    return Ruleset({**have.chains, **own_chains}, sets, have.families | want.families)


def differences(want: Ruleset, have: Ruleset) -> Iterator[Difference]:
    """Attribute by attribute: the rules of chains, and elements."""
    for key, chain in sorted(want.chains.items()):
        actual = have.chains.get(key)
        if actual != chain:
            old = None if actual is None else [rule.print for rule in actual.rules]
            yield _difference(key, "rules", [rule.text for rule in chain.rules], old)
    for key, elements in sorted(want.sets.items()):
        there = have.sets.get(key)
        if there is None:
            yield _difference(key, "elements", sorted(elements.elements), None)
            continue
        for name, value in sorted(elements.elements.items()):
            if there.elements.get(name) != value:
                yield _difference(key, f"element {name}", value, there.elements.get(name))


def _own(elements: Elements, others: Elements) -> dict[str, str]:
    return {name: value for name, value in elements.elements.items() if others.elements.get(name) != value}


def _difference(key: Key, attribute: str, desired: object, actual: object) -> Difference:
    return Difference(device=key.words, attribute=attribute, desired=desired, actual=actual)
