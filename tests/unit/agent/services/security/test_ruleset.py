"""The script from one ruleset to another: played on a model of nftables, it ends in what is wanted."""

from hypothesis import given
from hypothesis import strategies as st

from viaduct_agent.services.security.ruleset import TABLE, Chain, Elements, Key, Line, Ruleset, line, plan

FAMILIES = ("bridge", "inet")
HOOKS = ("", "type filter hook forward priority -200; policy accept;")


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    families = draw(st.frozensets(st.sampled_from(FAMILIES)))
    chains: dict[Key, Chain] = {}
    sets: dict[Key, Elements] = {}
    for family in sorted(families):
        for name in draw(st.sets(st.sampled_from(("c1", "c2", "c3")))):
            rules = draw(st.lists(st.sampled_from(("accept", "drop", "counter")), max_size=3))
            chains[Key(family, name)] = Chain(tuple(map(line, rules)), draw(st.sampled_from(HOOKS)))
        for name in draw(st.sets(st.sampled_from(("s1", "s2")))):
            values = st.sampled_from(("", "a comment"))
            elements = draw(st.dictionaries(st.sampled_from(("1.1.1.1", "2.2.2.2")), values))
            sets[Key(family, name)] = Elements(elements, "type ipv4_addr;")
    return Ruleset(chains, sets, families)


@given(rulesets(), rulesets())
def test_the_script_ends_in_what_is_wanted(have: Ruleset, want: Ruleset) -> None:
    assert played(have, plan(want, have)) == want


@given(rulesets())
def test_nothing_is_done_where_all_is_as_wanted(have: Ruleset) -> None:
    assert plan(have, have) == ()


def test_an_element_more_is_one_line() -> None:
    key = Key("bridge", "members")
    few, more = ({f"10.0.0.{low}": "" for low in range(number)} for number in (200, 201))
    have, want = (Ruleset({}, {key: Elements(one, "type ipv4_addr;")}, frozenset({"bridge"})) for one in (few, more))
    assert plan(want, have) == ("add element bridge viaduct_security members { 10.0.0.200 }",)
    assert plan(have, want) == ("delete element bridge viaduct_security members { 10.0.0.200 }",)


def played(have: Ruleset, script: tuple[str, ...]) -> Ruleset:
    """Like the kernel: what is not there cannot be taken away, what is there cannot be added."""
    chains = {key: (list(chain.rules), chain.hook) for key, chain in have.chains.items()}
    sets = {key: dict(elements.elements) for key, elements in have.sets.items()}
    families = set(have.families)
    for text in script:
        action, kind, family, table, *rest = text.split(maxsplit=4)
        assert table == TABLE
        name, _, body = " ".join(rest).partition(" ")
        key = Key(family, name)
        if kind == "table":
            (families.add if action == "add" else families.remove)(family)
            if action == "delete":
                chains = {key: value for key, value in chains.items() if key.family != family}
                sets = {key: value for key, value in sets.items() if key.family != family}
            continue
        assert family in families
        match action, kind:
            case "add", "chain":
                assert key not in chains
                chains[key] = ([], body.removeprefix("{ ").removesuffix(" }"))
            case "flush", "chain":
                chains[key][0].clear()
            case "delete", "chain":
                assert chains.pop(key)[0] == []
            case "add", "rule":
                chains[key][0].append(Line(body.rpartition(' comment "')[2].rstrip('"')))
            case "add", "set":
                assert key not in sets
                sets[key] = {}
            case "delete", "set":
                del sets[key]
            case _, "element":
                _change_elements(sets[key], action, body)
            case _:
                raise AssertionError(text)
    return Ruleset(
        {key: Chain(tuple(rules), hook) for key, (rules, hook) in chains.items()},
        {key: Elements(elements) for key, elements in sets.items()},
        frozenset(families),
    )


def _change_elements(elements: dict[str, str], action: str, body: str) -> None:
    for item in body.removeprefix("{ ").removesuffix(" }").split(", "):
        element, _, comment = item.partition(" comment ")
        assert (element in elements) == (action == "delete")
        if action == "add":
            elements[element] = comment.strip('"')
        else:
            del elements[element]
