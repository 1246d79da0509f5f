"""Streams of uploads: each job is sent once, their number follows what pays off, a failure ends them all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.errors import RejectedError, RetryLaterError, TransientError
from reconciler.net.response import Response, UploadBody
from reconciler.net.retry import NO_RETRY, RetryBudget, RetryPolicy
from reconciler.targets import upload_streams
from reconciler.targets.upload_streams import RunCutter, StreamsStoppedError, UploadStreams, is_far
from tests.support.http_peer import Asked, Said, http_peer

PIECE = bytes(1 << 14)


class Counted:
    """A task that counts."""

    def __init__(self) -> None:
        self.done = 0
        self.lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self.lock:
            self.done += amount


class Uploads:
    """Jobs of some pieces to a peer at `url`."""

    def __init__(self, url: str, *, most: int = 16, budget: RetryBudget | None = None) -> None:
        self.http = HttpClient(
            url,
            name="peer",
            retry=RetryPolicy(attempts=3, base=0.01),
            budget=budget,
            timeouts=Timeouts(connect=30, silence=120, total=240),
        )
        self.task = Counted()
        self.streams = UploadStreams(self.http, self.task, most=most)  # type: ignore[arg-type]

    def send(self, name: str, pieces: int, before: Callable[[], None] = lambda: None) -> None:
        def make() -> Iterator[bytes]:
            for _ in range(pieces):
                before()
                yield PIECE

        body = UploadBody(len(PIECE) * pieces, self.streams.counted(make))
        self.http.request("POST", name, repeatable=True, content=body, retry=NO_RETRY)

    def run(self, jobs: list[Callable[[], None]], left: int = 1 << 30) -> None:
        try:
            self.streams.run(lambda _: jobs.pop(0) if jobs else None, lambda: left if jobs else 0)
        finally:
            self.http.close()


@contextmanager
def peer(answer: Callable[[Asked], Said] = lambda _: Said()) -> Iterator[tuple[str, list[Asked]]]:
    with http_peer(answer) as server:
        yield server.url, server.asked


@pytest.mark.parametrize(
    ("so_far", "more", "far"),
    [
        (0.5, (0.001, 0.3), False),  # it has just been started
        (0.5, (0.3, 0.001), False),
        (0.5, (0.3, 0.2), True),
        (0.5, (None, None), True),
        (0.0, (), False),  # nothing is known
        (0.001, (), False),
    ],
)
def test_a_node_that_was_slow_is_asked_again_before_it_counts_as_far(
    so_far: float, more: tuple[float | None, ...], far: bool
) -> None:
    asked = list(more)

    class Peer(HttpClient):
        def request(self, *_: object, **__: object) -> Response:  # type: ignore[override]
            seconds = asked.pop(0)
            self.latency = min(self.latency, seconds or self.latency)
            raise TransientError(self.name, "answers")

    http = Peer("http://127.0.0.1:1", name="peer")
    http.latency = so_far
    assert [is_far(http), is_far(http)] == [far, far]
    assert not asked, "it is measured once"
    http.close()


def test_the_latency_is_measured_with_requests_that_may_be_refused() -> None:
    with peer(lambda _: Said(404)) as (url, asked):
        http = HttpClient(url, name="peer")
        http.latency = 1000.0
        assert http.probe_latency() < 1000.0
        http.probe_latency()
        http.close()
    assert [(each.method, each.target) for each in asked] == [("GET", "/")] * 2


@given(st.lists(st.integers(0, 1 << 20), max_size=60), st.lists(st.integers(1, 4 << 20), min_size=1))
def test_every_position_is_in_one_run_of_the_size_asked_for(sizes: list[int], wanted: list[int]) -> None:
    layout = DagLayout(Cid(RAW, bytes(32)))
    for number, size in enumerate(sizes):
        layout.add(Cid(RAW, number.to_bytes(32, "big")), size)
    cutter = RunCutter(layout, range(len(layout)))
    runs: list[list[int]] = []
    asked: list[int] = []
    while run := cutter.cut(wanted[len(runs) % len(wanted)]):
        asked.append(wanted[len(runs) % len(wanted)])
        runs.append(run)
    assert [position for run in runs for position in run] == list(range(len(layout)))
    assert cutter.left == 0
    assert all(a[-1] < b[0] for a, b in pairwise(runs))
    for run, size in list(zip(runs, asked, strict=True))[:-1]:
        assert sum(map(layout.block_size, run)) >= size > sum(map(layout.block_size, run[:-1]))


def test_every_job_is_sent_once_and_every_byte_counted_once() -> None:
    with peer() as (url, asked):
        uploads = Uploads(url)
        uploads.run([lambda n=n: uploads.send(f"job{n}", n % 3 + 1) for n in range(12)])  # type: ignore[misc]
    assert sorted(each.target for each in asked) == sorted(f"/job{n}" for n in range(12))
    assert uploads.task.done == sum(n % 3 + 1 for n in range(12)) * len(PIECE)


def test_more_streams_are_opened_while_they_bring_more() -> None:
    """Each stream is slow by itself, so the number grows up to its limit."""
    uploads = Uploads("http://127.0.0.1:1", most=8)
    opened, lock, enough = 0, threading.Lock(), threading.Event()
    end = time.monotonic() + 60

    def slow_pieces() -> Iterator[bytes]:
        while not enough.is_set() and time.monotonic() < end:
            time.sleep(0.004)
            yield PIECE

    def job() -> None:
        nonlocal opened
        with lock:
            opened += 1
            if opened == 8:
                enough.set()
        for _ in uploads.streams.counted(slow_pieces)():
            pass

    uploads.run([job] * 12)
    assert enough.is_set(), f"{opened} streams"


def test_no_more_streams_are_opened_than_the_limit() -> None:
    together, most, lock, two = 0, 0, threading.Lock(), threading.Event()

    with peer() as (url, _):
        uploads = Uploads(url, most=3)
        uploads.streams._pace.allowed = 3

        def job() -> None:
            nonlocal together, most
            with lock:
                together += 1
                most = max(most, together)
                if most == 2:
                    two.set()
            assert two.wait(60)
            uploads.send("job", 4, lambda: time.sleep(0.004))
            with lock:
                together -= 1

        uploads.run([job] * 30)
    assert 1 < most <= 3


def test_a_failure_for_good_ends_the_other_streams_at_once() -> None:
    """One of them waits for a response that does not come, another sends without end."""
    release = threading.Event()

    def answer(asked: Asked) -> Said:
        if asked.target == "/hangs":
            release.wait(120)
        return Said(400 if asked.target == "/bad" else 200)

    with peer(answer) as (url, _):
        uploads = Uploads(url)
        begun = threading.Event()

        def bad() -> None:
            begun.wait(60)
            uploads.send("bad", 1)

        def endless() -> None:
            begun.set()
            uploads.send("endless", 1 << 20, lambda: time.sleep(0.01))

        jobs = [lambda: uploads.send("hangs", 1), endless, bad, lambda: uploads.send("never", 1)]
        uploads.streams._pace.allowed = 3
        started = time.monotonic()
        with pytest.raises(RejectedError):
            uploads.run(jobs)
        assert time.monotonic() - started < 60, "it waited for no response"
        release.set()
    assert uploads.streams.stopped
    with pytest.raises(StreamsStoppedError):
        uploads.streams.check()


def test_a_broken_job_is_sent_again_at_once_beside_others() -> None:
    """Without a retry of the budget, as long as other streams work."""
    tried: list[str] = []
    recovered = threading.Event()

    def answer(asked: Asked) -> Said:
        tried.append(asked.target)
        if tried.count("/flaky") == 3:
            recovered.set()
        return Said(502 if tried.count(asked.target) < 3 and asked.target == "/flaky" else 200)

    with peer(answer) as (url, _):
        uploads = Uploads(url, budget=RetryBudget(retries=0))
        steady = lambda: uploads.send("steady", 400, lambda: recovered.wait(0.05))  # noqa: E731
        uploads.run([steady, lambda: uploads.send("flaky", 1), steady])
    assert tried.count("/flaky") == 3
    assert tried.count("/steady") == 2
    assert uploads.task.done == 801 * len(PIECE)


def test_a_peer_that_only_fails_is_given_up_after_the_attempts_of_the_client() -> None:
    with peer(lambda _: Said(502)) as (url, asked):
        uploads = Uploads(url, most=1)
        with pytest.raises(TransientError):
            uploads.run([lambda: uploads.send("job", 1)])
    assert len(asked) == 3


@pytest.mark.parametrize(("status", "after"), [(429, "0"), (503, "0"), (429, None)])
def test_a_peer_that_asks_for_fewer_requests_gets_fewer(status: int, after: str | None) -> None:
    """It takes two at a time, and refuses the others; everything arrives."""
    serving, refused, lock = 0, 0, threading.Lock()

    def answer(asked: Asked) -> Said:
        nonlocal serving, refused
        with lock:
            if serving == 2:
                refused += 1
                return Said(status, headers={} if after is None else {"Retry-After": after})
            serving += 1
        time.sleep(0.01)
        with lock:
            serving -= 1
        return Said()

    with peer(answer) as (url, asked):
        uploads = Uploads(url)
        uploads.streams._pace.allowed = 8
        uploads.run([lambda: uploads.send("job", 1, lambda: time.sleep(0.004))] * 25)
    assert len(asked) - refused == 25
    assert uploads.streams._pace.allowed <= 4
    assert refused < 25


def test_a_pause_that_is_asked_for_is_made() -> None:
    moments: list[float] = []

    def job() -> None:
        moments.append(time.monotonic())
        if len(moments) == 1:
            raise RetryLaterError("peer", "requests a pause", retry_after=0.2)

    Uploads("http://127.0.0.1:1", most=1).run([job])
    assert moments[1] - moments[0] >= 0.2


def test_a_pause_that_is_too_long_is_a_failure() -> None:
    with peer(lambda _: Said(429, headers={"Retry-After": "9999"})) as (url, asked):
        uploads = Uploads(url, most=1)
        with pytest.raises(RetryLaterError):
            uploads.run([lambda: uploads.send("job", 1)])
    assert len(asked) == 1


def test_jobs_are_as_long_as_a_stream_takes_two_seconds_for_and_shorter_at_the_end() -> None:
    with peer() as (url, _):
        uploads = Uploads(url)
        streams = uploads.streams
        sizes: list[int] = []

        def take(size: int) -> None:
            sizes.append(size)

        def ask(rate: float, left: int) -> int:
            streams._rate = rate
            streams._new_job(take, left)
            return sizes[-1]

        streams._pace.allowed = 2
        assert ask(0, 1 << 40) == upload_streams._FIRST_JOB[False]
        assert ask(10e6, 1 << 40) == 20_000_000
        assert ask(10e9, 1 << 40) == upload_streams.LARGEST_JOB
        assert ask(10e9, 64 << 20) == 16 << 20
        assert ask(10e9, 5) == upload_streams._SMALLEST_JOB[False]
        uploads.http.close()


def test_a_failure_of_the_last_job_between_two_looks_at_the_streams_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last job fails while `run` is not waiting for it, so no work is left when `run` looks again."""
    failed = threading.Event()

    class Changed(threading.Condition):
        def __enter__(self) -> bool:
            if threading.current_thread() is threading.main_thread() and uploads.streams._active:
                assert failed.wait(60)
            return super().__enter__()

        def wait(self, timeout: float | None = None) -> bool:
            return True

        def notify(self, n: int = 1) -> None:
            failed.set()

    def bad() -> None:
        raise RejectedError("peer", "refuses the request")

    monkeypatch.setattr(upload_streams, "Condition", Changed)
    uploads = Uploads("http://127.0.0.1:1", most=1)
    with pytest.raises(RejectedError):
        uploads.run([bad])
