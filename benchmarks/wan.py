"""Simulate fetching over wide-area networks: the real scheduler, simulated sources, a virtual clock.

For latencies of 10 to 300 ms, 1 to 100 MB/s for each connection, and 0 to 2 % of requests that fail, the time
is compared with that of the most connections at full rate from the first moment; so 1.00 cannot be reached.
A version of 1 TB with 1,000,000 leaves is planned and fetched in memory that is measured. It takes less than
a minute.
"""

from __future__ import annotations

import heapq
import random
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Figure, main, peak_memory
from reconciler.consume.block_runs import make_runs
from reconciler.consume.selection import PositionSet, file_spans, select_files
from reconciler.content import dagpb, unixfs
from reconciler.content.cid import DAG_PB, RAW, Cid, hash_block
from reconciler.content.walk import DagMap, walk
from reconciler.download.limits import DEFAULT_LIMITS, MOST_CONNECTIONS, DownloadLimits
from reconciler.download.scheduler import Scheduler
from reconciler.download.source_state import Setback
from reconciler.download.work import Assignment, RunForm, UnitRun

MIB = 1 << 20
_TICK = 0.025


@dataclass(frozen=True)
class Line:
    """A simulated path to a source: seconds, bytes per second and connection, share of failing requests.

    `capacity` is that of all connections together, 0 for any; more than `most` connections are reset.
    """

    latency: float
    rate: float
    failing: float = 0.0
    capacity: float = 0.0
    most: int = 0


@dataclass
class Simulated:
    """The result: seconds, bytes received in vain, and the most connections to each source."""

    seconds: float
    wasted: float
    connections: list[int]


def runs_of(sizes: Sequence[int], leaf: int = MIB, form: RunForm = RunForm.RANGE) -> list[UnitRun]:
    """Return one run for each file of `sizes` bytes, a multiple of `leaf`."""
    found, unit = [], 0
    for size in sizes:
        count = size // leaf
        offsets = array("Q", range(0, size + 1, leaf))
        found.append(UnitRun(range(unit, unit + count), offsets, form))
        unit += count
    return found


def simulate(
    runs: Sequence[UnitRun],
    paths: Sequence[Line],
    seed: int = 1,
    window: int = 0,
    limits: DownloadLimits = DEFAULT_LIMITS,
) -> Simulated:
    """Fetch `runs` from sources at the ends of `paths`."""
    chance = random.Random(seed)
    count = sum(len(run.units) for run in runs)
    scheduler = Scheduler(
        runs,
        count,
        [limits.connections] * len(paths),
        limits,
        window=window,
        latencies=[path.latency for path in paths],
    )
    events: list[tuple[float, int, int, Assignment | None, int]] = []
    serial = 0
    idle = [0] * len(paths)  # open connections without a request
    most = [0] * len(paths)
    wasted = 0.0

    def at(moment: float, number: int, assignment: Assignment | None = None, unit: int = -1) -> None:
        nonlocal serial
        serial += 1
        heapq.heappush(events, (moment, serial, number, assignment, unit))

    def duration(number: int, size: int) -> float:
        path = paths[number]
        active = max(1, len(scheduler.sources[number].active))
        rate = min(path.rate, path.capacity / active) if path.capacity else path.rate
        return size / rate * chance.uniform(0.9, 1.1)

    flows: dict[Assignment, tuple[float, float, int]] = {}  # begin and end of the unit that arrives
    counted: dict[Assignment, int] = {}  # bytes of it

    def flow(begin: float, number: int, assignment: Assignment, unit: int) -> None:
        size = _size(assignment, unit)
        end = begin + duration(number, size)
        flows[assignment] = begin, end, size
        at(end, number, assignment, unit)

    def fill(now: float) -> None:
        for number, path in enumerate(paths):
            while (assignment := scheduler.take(number, now)) is not None:
                active = len(scheduler.sources[number].active)
                most[number] = max(most[number], active)
                if chance.random() < path.failing or (path.most and active > path.most):
                    at(now + path.latency, number, assignment, -2)
                    continue
                opening = 0.0 if idle[number] else path.latency
                idle[number] -= bool(idle[number])
                first = now + opening + path.latency
                unit = assignment.units[0]
                at(first, number, assignment, -3)
                flow(first, number, assignment, unit)

    now = 0.0
    at(0.0, -1)
    while not scheduler.finished:
        now, _, number, assignment, unit = heapq.heappop(events)
        if assignment is None:
            for flowing, (since, until, size) in flows.items():
                if since < now:
                    so_far = int(size * min(1.0, (now - since) / (until - since)))
                    scheduler.received(flowing, so_far - counted.get(flowing, 0), now)
                    counted[flowing] = so_far
            scheduler.tick(now)
            at(now + _TICK, -1)
        elif unit == -3:
            scheduler.first_byte(assignment, now)
        elif unit == -2:
            scheduler.fail(assignment, Setback.BROKEN, now)
        else:
            size = _size(assignment, unit)
            flows.pop(assignment, None)
            scheduler.received(assignment, size - counted.pop(assignment, 0), now)
            if not scheduler.deliver(assignment, unit, size, now):
                wasted += size
            if window:
                scheduler.advance(MIB * _first_missing(scheduler, count))
            if scheduler.wants_more(assignment):
                following = assignment.units[0]
                pause = paths[number].latency if assignment.form is RunForm.SINGLE else 0.0
                flow(now + pause, number, assignment, following)
            else:
                if assignment.stop < assignment.asked and assignment.form is RunForm.RANGE:
                    cut = assignment.run.size(assignment.stop, assignment.asked)
                    wasted += min(cut, paths[number].latency * paths[number].rate)
                else:
                    idle[number] += 1
                scheduler.release(assignment, now, same_form=True)
        if scheduler.hopeless() is not None:
            raise SystemExit("a source was given up")
        fill(now)
    return Simulated(now, wasted, most)


def _size(assignment: Assignment, unit: int) -> int:
    at = unit - assignment.run.units[0]
    return assignment.run.size(at, at + 1)


_first = 0


def _first_missing(scheduler: Scheduler, count: int) -> int:
    global _first  # noqa: PLW0603
    if not scheduler.is_done(0):
        _first = 0
    while _first < count and scheduler.is_done(_first):
        _first += 1
    return _first


# --- the figures

PLAN = """
import sys
from benchmarks.wan import plan_and_fetch
print(plan_and_fetch(int(sys.argv[1])))
"""


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Simulate lines of all kinds, and measure the memory of a version of 1 TB."""
    del directory
    worst: dict[float, tuple[float, float]] = {}
    wasted = 0.0
    for latency in (0.01, 0.05, 0.1, 0.3):
        for megabytes in (1, 10, 100):
            for failing in (0.0, 0.01, 0.02):
                line = Line(latency, megabytes * 1e6, failing)
                size = int(max(256, megabytes * 32 * (10 if quick else 20))) * MIB
                done = simulate(runs_of([size]), [line])
                share = size / (MOST_CONNECTIONS * line.rate) / done.seconds
                wasted = max(wasted, done.wasted / size)
                worst[latency] = min(worst.get(latency, (9.0, 0.0)), (share, megabytes))
    for latency, (share, at) in worst.items():
        what = f"simulated, {latency * 1000:.0f} ms: share of the best time, the worst"
        yield Figure(what, share, minimum=0.6, detail=f"with {at:.0f} MB/s for each connection")
    yield Figure("simulated: bytes received in vain, the most", wasted * 100, "%", maximum=2)
    link = Line(0.05, 10e6, capacity=100e6)
    size = 2048 * MIB
    share = size / 100e6 / simulate(runs_of([size]), [link]).seconds
    yield Figure("simulated: a link of 100 MB/s that ten connections fill", share, minimum=0.85)
    yield from fast_link(quick)
    share = size / 60e6 / simulate(runs_of([size]), [Line(0.05, 10e6, most=6)]).seconds
    yield Figure("simulated: a server that resets all but six", share, minimum=0.85)
    one, two = (simulate(runs_of([size]), [Line(0.05, 10e6)] * count).seconds for count in (1, 2))
    yield Figure("simulated: two gateways / one", one / two, minimum=1.7)
    leaves = 100_000 if quick else 1_000_000
    peak, lines = peak_memory(PLAN, str(leaves))
    detail = f"{lines[-1]} requests"
    yield Figure(
        f"plan and fetch {leaves:,} leaves, simulated", peak / MIB, "MiB", maximum=400, detail=detail
    )


def fast_link(quick: bool) -> Iterator[Figure]:
    """Fill a link of 10 Gbit/s and 50 ms for half a minute, as docs/fetch.md advises."""
    link = 1.25e9
    size = int(link * (10 if quick else 30)) // MIB * MIB
    for rate, connections in ((100e6, MOST_CONNECTIONS), (40e6, MOST_CONNECTIONS), (10e6, 128)):
        done = simulate(
            runs_of([size // 8 // MIB * MIB] * 8),
            [Line(0.05, rate, capacity=link)],
            limits=DownloadLimits(connections),
        )
        yield Figure(
            f"simulated: 10 Gbit/s, {rate / 1e6:.0f} MB/s per connection: the link",
            size / link / done.seconds,
            minimum=0.85,
            detail=f"{done.connections[0]} of at most {connections} connections",
        )


def large_map(leaves: int) -> DagMap:
    """Return the map of a directory with files of 4,096 leaves, whose blocks are made up."""
    chance = random.Random(1)
    blocks: dict[Cid, bytes] = {}

    def put(links: list[dagpb.PbLink], data: bytes) -> Cid:
        block = dagpb.encode(links, data)
        cid = hash_block(DAG_PB, block)
        blocks[cid] = block
        return cid

    def link(name: str, cid: Cid, size: int) -> dagpb.PbLink:
        return dagpb.PbLink(name.encode(), cid, size)

    files = []
    for number in range(-(-leaves // 4096)):
        parts, left = [], min(4096, leaves - 4096 * number)
        while left:
            count = min(1024, left)
            left -= count
            made = [link("", Cid(RAW, chance.randbytes(32)), MIB) for _ in range(count)]
            parts.append((put(made, unixfs.file([MIB] * count)), count * MIB))
        size = sum(part for _, part in parts)
        node = put([link("", cid, part) for cid, part in parts], unixfs.file([part for _, part in parts]))
        files.append(link(f"model-{number:05}.safetensors", node, size))
    return walk(put(files, unixfs.DIRECTORY), blocks.pop)


def plan_and_fetch(leaves: int) -> int:
    """Plan and fetch a version of `leaves` leaves of 1 MiB in files of 4 GiB; return the number of requests.

    The map, the spans and the runs are those of a fetch; the blocks have no bytes.
    """
    dag_map = large_map(leaves)
    selected = select_files(dag_map)
    spans = file_spans(selected)
    runs = make_runs(selected, PositionSet(len(dag_map.layout), spans))
    requests = 0
    scheduler = Scheduler(
        [run.units for run in runs], len(dag_map.layout), [MOST_CONNECTIONS], latencies=[0.05]
    )
    working: deque[Assignment] = deque()
    now = 0.0
    while not scheduler.finished:
        now += 0.05
        scheduler.tick(now)
        while (taken := scheduler.take(0, now)) is not None:
            working.append(taken)
            requests += 1
            runs[taken.number].expand(dag_map.layout, taken.start, taken.stop)
        for _ in range(len(working)):
            one = working.popleft()
            scheduler.first_byte(one, now)
            for unit in list(one.units[:10]):
                scheduler.received(one, MIB, now)
                scheduler.deliver(one, unit, MIB, now)
                assert spans[unit]
            if scheduler.wants_more(one):
                working.append(one)
            else:
                scheduler.release(one, now + 0.05, same_form=True)
    return requests


if __name__ == "__main__":
    main(run)
