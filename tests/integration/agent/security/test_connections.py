"""Established connections: they live through changes that still admit them, and stop with one that does not."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from viaduct_agent.services.security.probing import probe

from .filters import Filter, members, nic, rule, rules
from .machines import Machine, Site

pytestmark = pytest.mark.lab
SSH = rule(ports=[(22, 22)])
SILENCE_SECONDS = 0.7  # longer than TCP's first three repetitions on a path of a microsecond


class Connection:
    """Both ends of a TCP connection."""

    def __init__(self, source: Machine, target: Machine, port: int = 22, version: int = 4) -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        address = str(target.ipv4 if version == 4 else target.ipv6)
        with contextlib.ExitStack() as stack, target.open(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen()
            listener.settimeout(5)
            self.client = stack.enter_context(source.open(family, socket.SOCK_STREAM))
            self.client.settimeout(5)
            self.client.connect((address, port))
            self.server = stack.enter_context(listener.accept()[0])
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def speaks(self) -> bool:
        """A word from the client and one from the server arrive; both are sent whether or not the first does."""
        return [one for one in (self.client, self.server) if not self.word_from(one)] == []

    def is_silent(self) -> bool:
        """Neither end's word arrives."""
        return not any(self.word_from(one, SILENCE_SECONDS) for one in (self.server, self.client))

    def word_from(self, sender: socket.socket, seconds: float = 5) -> bool:
        receiver = self.server if sender is self.client else self.client
        receiver.settimeout(seconds)
        try:
            sender.send(b"word")
            return receiver.recv(1000) != b""
        except TimeoutError:
            return False


@pytest.fixture
def connections() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def connect(stack: contextlib.ExitStack, source: Machine, target: Machine, **more: int) -> Connection:
    connection = Connection(source, target, **more)
    stack.callback(connection.close)
    return connection


@pytest.mark.parametrize("version", [4, 6])
async def test_a_rule_that_goes_takes_its_connections_with_it_and_no_others(
    site: Site, filter_: Filter, connections: contextlib.ExitStack, version: int
) -> None:
    """Whoever speaks first afterwards: the server's word does not bring the connection back."""
    one, two, _ = site.machines
    ssh, web = rule(ports=[(22, 22)], version=version), rule(ports=[(80, 80)], version=version)
    await filter_.apply(rules("a", ssh, web), nic(one, ["a"]))
    first, second = (connect(connections, two, one, port=port, version=version) for port in (22, 80))
    outward = connect(connections, one, two, port=22, version=version)
    assert all(each.speaks() for each in (first, second, outward))
    steps = await filter_.apply(rules("a", web))
    assert len([step for step in steps if step.startswith("conntrack")]) == 1
    assert first.is_silent()
    assert second.speaks()
    assert outward.speaks()


async def test_a_connection_goes_on_when_its_rule_comes_back(
    site: Site, filter_: Filter, connections: contextlib.ExitStack
) -> None:
    """What was not delivered meanwhile is, by TCP's own repetition."""
    one, two, _ = site.machines
    await filter_.apply(rules("a", SSH), nic(one, ["a"]))
    connection = connect(connections, two, one)
    await filter_.apply(rules("a"))
    assert connection.is_silent()
    await filter_.apply(rules("a", SSH))
    assert connection.speaks()


async def test_a_member_that_leaves_loses_its_connections_and_the_others_keep_theirs(
    site: Site, filter_: Filter, connections: contextlib.ExitStack
) -> None:
    """The change is one element for each of its addresses, and the mark."""
    one, two, three = site.machines
    both = [two.ipv4, two.ipv6, three.ipv4, three.ipv6]
    await filter_.apply(rules("a", rule(ports=[(22, 22)], group="b")), nic(one, ["a"]), members("b", both))
    leaving, staying = connect(connections, two, one), connect(connections, three, one)
    steps = await filter_.apply(members("b", [three.ipv4, three.ipv6]))
    assert [step.split()[1:3] for step in steps if step.startswith("nft")] == [["delete", "element"]] * 2
    assert leaving.is_silent()
    assert staying.speaks()


async def test_connections_from_before_the_filter_are_judged_by_who_speaks_first(
    site: Site, filter_: Filter, connections: contextlib.ExitStack
) -> None:
    """Nobody has counted them until then: the first packet seen is taken for the first one."""
    one, two, _ = site.machines
    admitted, refused = connect(connections, two, one), connect(connections, two, one, port=80)
    outward = connect(connections, one, two, port=443)
    await filter_.apply(rules("a", SSH), nic(one, ["a"]))
    assert admitted.speaks()
    assert outward.speaks()
    assert not refused.word_from(refused.client, SILENCE_SECONDS)


async def test_connections_between_two_nics_of_one_host_need_both(
    site: Site, filter_: Filter, connections: contextlib.ExitStack
) -> None:
    one, two, _ = site.machines
    await filter_.apply(rules("a", SSH), rules("b"), nic(one, ["a"]), nic(two, ["b"]))
    connection = connect(connections, two, one)
    assert connection.speaks()
    await filter_.apply(nic(two, ["b"], egressPolicy="drop"))
    assert connection.is_silent()


async def test_the_bridges_own_address_is_filtered_as_any_other(
    site: Site, filter_: Filter, connections: contextlib.ExitStack
) -> None:
    one, *_ = site.machines
    await filter_.apply(rules("a", SSH), nic(one, ["a"]))
    inward, outward = connect(connections, site.own, one), connect(connections, one, site.own, port=80)
    assert inward.speaks()
    assert outward.speaks()
    await filter_.apply(rules("a"))
    assert inward.is_silent()
    assert outward.speaks()
    with pytest.raises(TimeoutError):
        _call(site.own, one, 80)


async def test_a_removed_nic_is_open_again(site: Site, filter_: Filter, connections: contextlib.ExitStack) -> None:
    one, two, _ = site.machines
    want = nic(one, ["a"])
    await filter_.apply(rules("a"), want)
    with pytest.raises(TimeoutError):
        _call(two, one, 22)
    await filter_.remove(want)
    assert connect(connections, two, one).speaks()


async def test_udp_stops_and_the_servers_word_does_not_bring_it_back(site: Site, filter_: Filter) -> None:
    one, two, _ = site.machines
    await filter_.apply(rules("a", rule(protocol="UDP", ports=[(53, 53)])), nic(one, ["a"]))
    with one.open(socket.AF_INET, socket.SOCK_DGRAM) as server, two.open(socket.AF_INET, socket.SOCK_DGRAM) as client:
        server.bind((str(one.ipv4), 53))
        client.bind((str(two.ipv4), 5353))
        client.connect((str(one.ipv4), 53))
        server.connect((str(two.ipv4), 5353))
        for end, other in ((client, server), (server, client)):
            end.send(b"word")
            other.settimeout(5)
            assert other.recv(10) == b"word"
        await filter_.apply(rules("a"))
        for end, other in ((server, client), (client, server)):
            end.send(b"word")
            other.settimeout(SILENCE_SECONDS)
            with pytest.raises(TimeoutError):
                other.recv(10)


async def test_equal_addresses_on_two_bridges_have_nothing_to_do_with_each_other(
    site: Site, filter_: Filter, connections: contextlib.ExitStack
) -> None:
    """The same four numbers of a connection: established on one bridge is not on the other."""
    if not (await probe(site.host)).zones:
        pytest.skip("this kernel has no zones in the bridge family")
    one, two, _ = site.machines
    site.add_bridge("br1")
    others = [site.add_machine(number + 10, "br1", ip=number) for number in (1, 2)]
    for machine, other in (others, others[::-1]):
        site.ip(f"neigh replace {other.ipv4} lladdr {other.mac} dev eth0 nud permanent", netns=machine.netns)
    await filter_.apply(rules("a", SSH), rules("b"), nic(one, ["a"]), nic(others[0], ["b"], bridge="br1"))
    connection = connect(connections, two, one)
    number = connection.client.getsockname()[1]
    with others[1].open(socket.AF_INET, socket.SOCK_STREAM) as stray:
        stray.bind(("", number))
        stray.settimeout(SILENCE_SECONDS)
        with pytest.raises(TimeoutError):
            stray.connect((str(one.ipv4), 22))
    await filter_.apply(rules("b", rule(ports=[(80, 80)])), rules("b"))
    assert connection.speaks()


def _call(source: Machine, target: Machine, port: int) -> None:
    with target.open(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((str(target.ipv4), port))
        listener.listen()
        with source.open(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(SILENCE_SECONDS)
            sock.connect((str(target.ipv4), port))
