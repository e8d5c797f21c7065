"""Rate and latency of allocations against concurrency, fill and size: measured, and drawn for the documents."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from uuid import UUID, uuid4

from bench.drawing import BASELINE, OURS, TAIL, Line, Panel, draw
from bench.echo import Question, echo
from bench.filled import fill, l3_of, sample, thin_out
from bench.inprocess import Ipam, ipam, scratch_database
from bench.measure import Call, Comparison, Contender, Spread, Times, compare, rounds, timed
from bench.pgbench import INSERT, PgBench
from local_stack.run_dir import CHECKOUT
from local_stack.stack import Stack
from viaduct_common.client import ViaductClient
from viaduct_common.messages.ipam import AllocateIp

TITLE = "Allocations against concurrency, fill and size (drawn to docs/images/ipam-*.svg)"
ROUNDS = 5
CONCURRENCY = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES = ("10.1.0.0/24", "10.2.0.0/20", "10.3.0.0/16", "10.16.0.0/12", "fd00:16::/64")
FILLED_ADDRESSES = 2**17 - 3  # of a /15
PERCENTS = (0, 50, 90, 99, 99.9)
STRATEGIES = {"first available": "firstAvailable", "random": "random"}
CALLERS = 64
AT_A_TIME, TIMES = 128, 6  # 0.1 % of a /15 are 131 addresses
DATABASE = "bench_curves"
IMAGES = CHECKOUT / "docs" / "images"

Curve = dict[str, dict[str, list[Times]]]
"""By position, then by contender: its rounds. One of the contenders is `PGBENCH` or `ECHO`."""

PGBENCH, ECHO = "pgbench", "echo"
WHAT = {ECHO: "bare echo", PGBENCH: "pgbench, single-row inserts"}


async def run(stack: Stack) -> list[Comparison]:
    """Measure the three, and draw each when it is done."""
    concurrency = await _against_concurrency(stack)
    _draw("concurrency", "over AMQP, one hot /12, durable commit", "requests in flight", concurrency, ECHO)
    where = f"inside the service, {CALLERS} callers"
    with scratch_database(stack, DATABASE) as url:
        baseline = PgBench(stack, DATABASE).contender(INSERT, clients=CALLERS)
        async with ipam(url) as ours:
            size, against_fill = await _against_size(ours, baseline), await _against_fill(ours, baseline)
    _draw("size", where, "prefix length of an empty range", size, PGBENCH)
    _draw("fill", where, "used share of a /15, at random places, %", against_fill, PGBENCH)
    return [
        *_comparisons("in flight", concurrency, ECHO),
        *_comparisons("", size, PGBENCH),
        *_comparisons("% full", against_fill, PGBENCH),
    ]


# ---- measuring -----------------------------------------------------------------------------------------------


async def _against_concurrency(stack: Stack) -> Curve:
    url = stack.broker.amqp_url()
    async with echo(url) as bare, ViaductClient(url, name="bench") as net:
        l3_uuid = uuid4()
        await net.scope.register(l3_network_uuid=l3_uuid, l2_network_uuid=uuid4(), zone_uuid=uuid4())
        await net.range.create(l3_network_uuid=l3_uuid, network_cidr="10.16.0.0/12")
        question = Question.of(AllocateIp(l3_network_uuid=l3_uuid, owner="bench"))
        calls: dict[str, Call] = {ECHO: bare.call, "ip.allocate": partial(bare.ask, question)}
        return {
            str(number): await rounds(
                {name: partial(timed, call, 100 + 12 * number, number) for name, call in calls.items()}, ROUNDS
            )
            for number in CONCURRENCY
        }


async def _against_size(ours: Ipam, baseline: Contender) -> Curve:
    ranges = {f"/{cidr.split('/')[1]}": await ours.network(cidr, l3_of(cidr)) for cidr in SIZES}
    return await _side_by_side(ours, ranges, baseline)


async def _against_fill(ours: Ipam, baseline: Contender) -> Curve:
    ranges = {}
    for number, percent in enumerate(PERCENTS):
        cidr = f"10.{32 + 2 * number}.0.0/15"
        ranges[f"{percent:g}"] = await ours.network(cidr, l3_of(cidr))
        if percent:
            await fill(ours, l3_of(cidr), FILLED_ADDRESSES)
            await thin_out(ours, cidr, sample(cidr, FILLED_ADDRESSES, percent))
    return await _side_by_side(ours, ranges, baseline)


async def _side_by_side(ours: Ipam, ranges: Mapping[str, UUID], baseline: Contender) -> Curve:
    """All positions in the same rounds, so that the machine's mood bends no curve; and one baseline for all."""

    def contender(l3_uuid: UUID, strategy: str) -> Callable[[], Awaitable[Times]]:
        return lambda: ours.allocate_and_put_back(l3_uuid, AT_A_TIME, CALLERS, times=TIMES, strategy=strategy)

    contenders: dict[str, Callable[[], Awaitable[Times]]] = {
        f"{name} {position}": contender(l3_uuid, strategy)
        for position, l3_uuid in ranges.items()
        for name, strategy in STRATEGIES.items()
    }
    contenders[PGBENCH] = partial(_rows, baseline)
    found = await rounds(contenders, ROUNDS)
    return {
        position: {**{name: found[f"{name} {position}"] for name in STRATEGIES}, PGBENCH: found[PGBENCH]}
        for position in ranges
    }


async def _rows(contender: Contender) -> Times:
    """Of pgbench's clients only the mean wait is known."""
    seconds = await contender()
    return Times(seconds, [seconds * CALLERS])


# ---- telling -------------------------------------------------------------------------------------------------


def _comparisons(suffix: str, curve: Curve, baseline: str) -> list[Comparison]:
    return [
        compare(
            f"{name}, {position} {suffix}".strip(),
            [one.per_call for one in times],
            baseline,
            [one.per_call for one in point[baseline]],
            unit="addresses/s",
        )
        for position, point in curve.items()
        for name, times in point.items()
        if name != baseline
    ]


def _draw(name: str, where: str, label: str, curve: Curve, baseline: str) -> None:
    points = list(curve.values())
    ours = [name for name in points[0] if name != baseline]
    colors = dict(zip([*ours, baseline], (OURS, TAIL, BASELINE) if len(ours) > 1 else (OURS, BASELINE), strict=True))
    rate = Panel("per second")
    wait = Panel("wait of a caller, ms", is_log=baseline == ECHO)
    for contender, color in colors.items():
        rounds_ = [point[contender] for point in points]
        is_baseline = contender == baseline
        rate.lines.append(
            _line(WHAT.get(contender, contender), color, rounds_, lambda one: 1 / one.per_call, dashed=is_baseline)
        )
        shares = {"mean": 0.5} if contender == PGBENCH else {"median": 0.5, "99 %": 0.99}
        for share_name, share in shares.items():
            wait.lines.append(
                _line(
                    f"{contender}, {share_name}",
                    color,
                    rounds_,
                    partial(_milliseconds, share=share),
                    dashed=is_baseline,
                    faint=share > 0.5,
                )
            )
    title = f"ip.allocate against {name}: {where}; medians of {ROUNDS} interleaved rounds"
    draw(IMAGES / f"ipam-{name}.svg", title, label, list(curve), [rate, wait])


def _milliseconds(times: Times, share: float) -> float:
    return times.quantile(share) * 1000


def _line(
    name: str,
    color: str,
    points: Sequence[Sequence[Times]],
    value: Callable[[Times], float],
    *,
    dashed: bool,
    faint: bool = False,
) -> Line:
    spreads = [Spread.of([value(one) for one in times]) for times in points]
    return Line(
        name,
        color,
        [one.median for one in spreads],
        [one.min for one in spreads],
        [one.max for one in spreads],
        dashed=dashed,
        faint=faint,
    )
