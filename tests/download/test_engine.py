"""The threads of a download: bounded memory, an end within a second, and errors that reach the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from reconciler.download import pace
from reconciler.download.engine import Download, Handle, SetbackError
from reconciler.download.limits import DEFAULT_LIMITS, DownloadLimits
from reconciler.download.scheduler import Scheduler
from reconciler.download.source_state import Setback
from reconciler.download.work import RunForm, UnitRun


class Peer:
    """A source in memory; `act` is called for every unit before it is delivered."""

    width = 16

    def __init__(self, keep: Callable[[int], None], act: Callable[[int], None] = lambda _: None) -> None:
        self._keep, self._act = keep, act
        self.given_up = False
        self.closed = threading.Event()

    def fetch(self, handle: Handle) -> None:
        for unit in handle.units():
            self._act(unit)
            handle.received(1000)
            handle.deliver(unit, 1000, lambda unit=unit: self._keep(unit))  # type: ignore[misc]

    def failed(self, setback: Setback, error: Exception, *, given_up: bool) -> None:
        self.given_up |= given_up


def download(count: int, *peers: Peer, limits: DownloadLimits = DEFAULT_LIMITS) -> Download:
    run = UnitRun(range(count), range(0, 1000 * count + 1, 1000), RunForm.SINGLE)
    scheduler = Scheduler([run], count, [peer.width for peer in peers], limits)

    def close() -> None:
        for peer in peers:
            peer.closed.set()

    return Download(scheduler, peers, hopeless=LookupError, close=close, max_rate=limits.max_rate)


def test_every_unit_is_kept_once() -> None:
    kept: list[int] = []
    download(500, Peer(kept.append), Peer(kept.append)).run()
    assert sorted(kept) == list(range(500))


def test_a_slow_disk_holds_one_unit_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "START", 8)
    lock, held, most = threading.Lock(), 0, 0

    def receive(_: int) -> None:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)

    def write(_: int) -> None:
        nonlocal held
        time.sleep(0.002)
        with lock:
            held -= 1

    download(200, Peer(write, receive), limits=DownloadLimits(8)).run()
    assert most <= 8


def test_an_interrupt_ends_a_download_whose_peers_are_silent() -> None:
    peer = Peer(lambda _: None, lambda _: peer.closed.wait(120) and None)
    waiting = download(10, peer)
    threading.Timer(0.2, lambda: waiting.fail(KeyboardInterrupt())).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        waiting.run()
    assert time.monotonic() - began < 60


def test_an_error_of_the_disk_ends_the_download() -> None:
    def full(unit: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        download(10, Peer(full)).run()


def test_the_error_for_a_unit_without_a_source_is_the_callers() -> None:
    def refuse(unit: int) -> None:
        raise SetbackError(Setback.REFUSED, ValueError("no"), unit=unit)

    peer = Peer(lambda _: None, refuse)
    with pytest.raises(LookupError):
        download(10, peer).run()
    assert peer.given_up


def test_a_rate_is_kept() -> None:
    began = time.monotonic()
    download(60, Peer(lambda _: None), limits=DownloadLimits(max_rate=100_000)).run()
    assert time.monotonic() - began >= 60_000 / 100_000 - 0.3
