"""Random programs against IPAM and against a model that is a dict: they never disagree.

The steps of a program go to three processes in turn, each with a memory of its own, which are killed and started again.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Exhausted, InUse, InvalidRequest, IpInUse, IpRangeConflict, NotInRange, ViaductError
from viaduct_common.messages.ipam import CheckIp, DeleteRange, DeleteReservation, GetFreeIps
from viaduct_common.postgres.pool import Pool
from viaduct_ipam.model.blocks import BLOCK_SIZE

# Addresses are numbers from here on, so that programs cross the border of a block at 32.
BASE = ipaddress.ip_address("10.0.0.0") + BLOCK_SIZE - 32
GATEWAY = 16
SUBNET = {"prefix_length": 21, "gateway": str(BASE + GATEWAY)}
numbers = st.integers(0, 64)
strategies = st.sampled_from(["firstAvailable", "nextFit", "random", "sticky"])
PROCESSES = 3
networks = st.integers(0, 1)
ends = st.tuples(numbers, st.integers(0, 40)).map(lambda pair: (pair[0], min(64, pair[0] + pair[1])))

choices = st.integers(0, 63)  # one of what there is, modulo its number

step = st.one_of(
    st.tuples(st.just("create_range"), networks, ends),
    st.tuples(st.just("delete_range"), networks, choices),
    st.tuples(st.just("allocate"), networks, st.integers(1, 12), strategies),
    st.tuples(st.just("allocate"), networks, st.integers(1, 3), strategies),
    st.tuples(st.just("require"), networks, numbers, st.booleans()),
    st.tuples(st.just("release"), networks, st.lists(choices, min_size=1, max_size=8)),
    st.tuples(st.just("release_all"), networks),
    st.tuples(st.just("reserve"), networks, ends),
    st.tuples(st.just("unreserve"), networks, choices),
    st.tuples(st.just("check"), networks, numbers),
    st.tuples(st.just("kill"), networks, choices),
)
# Every program starts with room in both networks, else most of it would be refusals.
first_ranges = st.tuples(st.integers(4, 20), st.integers(21, 40), st.integers(41, 64)).map(
    lambda cuts: [("create_range", 0, (0, cuts[0])), ("create_range", 1, (cuts[0] + 1, cuts[1])),
                  ("create_range", 0, (cuts[1] + 1, cuts[2]))]
)  # fmt: skip


def ip(number: int) -> str:
    return str(BASE + number)


@dataclass
class ModelNetwork:
    bounds: dict[UUID, set[int]] = field(default_factory=dict)  # all between the ends of each range
    used: set[int] = field(default_factory=set)
    reservations: dict[UUID, set[int]] = field(default_factory=dict)
    given_last: int = -1

    @property
    def assignable(self) -> set[int]:
        return set().union(*self.bounds.values()) - {GATEWAY}

    @property
    def reserved(self) -> set[int]:
        return set().union(*self.reservations.values())

    @property
    def free(self) -> list[int]:
        return sorted(self.assignable - self.used - self.reserved)

    def refusal(self, number: int, allow_reserved: bool) -> str | None:
        if number == GATEWAY and self.bounds:
            return "GATEWAY"
        if number not in self.assignable:
            return "NOT_IN_RANGE"
        if number in self.used:
            return "USED"
        return "RESERVED" if number in self.reserved and not allow_reserved else None


class Program:
    """Runs steps on both; each step's method asserts that the answers agree."""

    def __init__(self, processes: list[Ipam], networks: list[Network]) -> None:
        self.processes = processes
        self.networks = networks
        self.model = [ModelNetwork(), ModelNetwork()]
        self.turn = 0

    @property
    def ipam(self) -> Ipam:
        return self.processes[self.turn % len(self.processes)]

    @property
    def real(self) -> list[Network]:
        return [replace(network, ipam=self.ipam) for network in self.networks]

    async def kill(self, _which: int, choice: int) -> None:
        """Whatever a process remembered is gone."""
        at = choice % len(self.processes)
        await self.processes[at].__aexit__()
        self.processes[at] = await Ipam(self.processes[at].pool, choice).__aenter__()

    async def create_range(self, which: int, pair: tuple[int, int]) -> None:
        wanted = set(range(pair[0], pair[1] + 1))
        request = self.real[which].range(start_ip=ip(pair[0]), end_ip=ip(pair[1]), **SUBNET)
        taken = set().union(*(members for one in self.model for members in one.bounds.values()))
        if wanted == {GATEWAY}:
            await refused(request, InvalidRequest)
        elif wanted & taken:
            await refused(request, IpRangeConflict)
        else:
            [made] = await request
            self.model[which].bounds[made.uuid] = wanted

    async def delete_range(self, which: int, choice: int) -> None:
        one = self.model[which]
        if one.bounds:
            uuid = list(one.bounds)[choice % len(one.bounds)]
            if one.bounds[uuid] & one.used:
                await refused(self.ipam(DeleteRange(uuid=uuid)), InUse)
            else:
                assert await self.ipam(DeleteRange(uuid=uuid))
                del one.bounds[uuid]

    async def allocate(self, which: int, count: int, strategy: str) -> None:
        one = self.model[which]
        request = self.real[which].ips(count=count, strategy=strategy)
        if len(one.free) < count:
            await refused(request, Exhausted)
            return
        got = [int(ipaddress.ip_address(text)) - int(BASE) for text in await request]
        assert len(set(got)) == count
        assert set(got) <= set(one.free)
        if strategy == "firstAvailable":
            assert got == one.free[:count]
        if strategy in {"nextFit", "sticky"}:  # without an owner there is nothing to stick to
            above = [number for number in one.free if number > one.given_last]
            assert got == (above + one.free)[:count]
            one.given_last = got[-1]
        one.used |= set(got)

    async def require(self, which: int, number: int, allow_reserved: bool) -> None:
        reason = self.model[which].refusal(number, allow_reserved)
        request = self.real[which].ips(required_ip=ip(number), allow_reserved=allow_reserved)
        if reason is None:
            assert await request == [ip(number)]
            self.model[which].used.add(number)
        else:
            error = await refused(request, NotInRange if reason == "NOT_IN_RANGE" else IpInUse)
            assert error.details["reason"] == reason

    async def release(self, which: int, choices: list[int]) -> None:
        one = self.model[which]
        candidates = [*sorted(one.used)[:8], 0, 64]  # some that are used, and two that may not be
        wanted = {candidates[choice % len(candidates)] for choice in choices}
        released = {str(used.ip) for used in await self.real[which].release(*map(ip, wanted))}
        assert released == {ip(number) for number in one.used & wanted}
        one.used -= wanted

    async def release_all(self, which: int) -> None:
        one = self.model[which]
        if one.used:
            assert len(await self.real[which].release(*map(ip, one.used))) == len(one.used)
            one.used.clear()

    async def reserve(self, which: int, pair: tuple[int, int]) -> None:
        made = await self.real[which].reserve(ip(pair[0]), ip(pair[1]))
        self.model[which].reservations[made.uuid] = set(range(pair[0], pair[1] + 1))

    async def unreserve(self, which: int, choice: int) -> None:
        one = self.model[which]
        if one.reservations:
            uuid = list(one.reservations)[choice % len(one.reservations)]
            assert await self.ipam(DeleteReservation(uuid=uuid))
            del one.reservations[uuid]

    async def check(self, which: int, number: int) -> None:
        request = CheckIp.model_validate({"l3_network_uuid": self.real[which].l3, "ip": ip(number)})
        assert (await self.ipam(request)).reason == self.model[which].refusal(number, allow_reserved=False)

    async def compare(self) -> None:
        for real, one in zip(self.real, self.model, strict=True):
            capacity = await real.capacity()
            reserved = (one.assignable & one.reserved) - one.used
            assert (capacity.total, capacity.used) == (len(one.assignable), len(one.used))
            assert (capacity.reserved, capacity.available) == (len(reserved), len(one.free))
            free = await self.ipam(GetFreeIps(l3_network_uuid=real.l3, limit=1000))
            assert [str(address) for address in free] == [ip(number) for number in one.free]


async def refused(request: Any, error: type[ViaductError]) -> ViaductError:
    with pytest.raises(error) as caught:
        await request
    return caught.value


# Not shrunk: a thousand more programs on a real database take longer than to read one of sixty steps.
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(start=first_ranges, steps=st.lists(step, min_size=20, max_size=60))
async def test_no_program_tells_ipam_from_its_model(
    pool: Pool, start: list[tuple[Any, ...]], steps: list[tuple[Any, ...]]
) -> None:
    """Two L3 networks on one L2 network: every answer, the capacity, the free list and the bitmaps agree."""
    processes = [await Ipam(pool, seed).__aenter__() for seed in range(PROCESSES)]
    try:
        l2 = uuid4()
        program = Program(processes, [await processes[0].network(l2=l2) for _ in range(2)])

        for program.turn, (name, *arguments) in enumerate(start + steps):
            run: Callable[..., Any] = getattr(program, name)
            await run(*arguments)
            await program.compare()

        own = {uuid for one in program.model for uuid in one.bounds}
        assert [finding for finding in await program.ipam.audit() if finding.range_uuid in own] == []
    finally:
        for process in processes:
            await process.__aexit__()
