"""A file is flushed while it is written, and no error of the disk is lost."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from reconciler.content import background_flush
from reconciler.content.background_flush import BackgroundFlush


def test_a_flush_begins_after_each_interval_and_never_beside_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_flush, "INTERVAL", 10)
    begun, may_end = threading.Semaphore(0), threading.Semaphore(0)
    flushed: list[int] = []

    def flush(descriptor: int) -> None:
        flushed.append(descriptor)
        begun.release()
        assert may_end.acquire(timeout=60)

    monkeypatch.setattr(os, "fsync", flush)
    with (tmp_path / "file").open("wb") as file:
        flush_file = BackgroundFlush(lambda: os.fsync(file.fileno()))
        flush_file.wrote(9)
        flush_file.wrote(1)
        assert begun.acquire(timeout=60)
        flush_file.wrote(30)
        assert flushed == [file.fileno()]
        may_end.release(2)
        flush_file.finish()


@pytest.mark.parametrize("later", ["wrote", "finish"])
def test_an_error_of_the_disk_reaches_a_later_call(
    later: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_flush, "INTERVAL", 10)
    failed = threading.Event()

    def fail(descriptor: int) -> None:
        try:
            raise OSError(5, "Input/output error")
        finally:
            failed.set()

    monkeypatch.setattr(os, "fsync", fail)
    with (tmp_path / "file").open("wb") as file:
        flush = BackgroundFlush(lambda: os.fsync(file.fileno()))
        flush.wrote(10)
        assert failed.wait(60)
        if later == "wrote":
            with pytest.raises(OSError, match="Input/output"):
                for _ in range(1_000_000):
                    flush.wrote(1)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output"):
                flush.finish()


def test_an_error_that_comes_between_two_looks_at_a_flush_is_not_replaced_by_the_next_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class EndsAfterALook(Future[None]):
        def done(self) -> bool:
            ended = super().done()
            if not ended:
                self.set_exception(OSError(5, "Input/output error"))
            return ended

    class Pool:
        def __init__(self, *_: object, **__: object) -> None:
            self.submitted = 0

        def submit(self, *_: object) -> Future[None]:
            self.submitted += 1
            return EndsAfterALook()

        def shutdown(self, *, wait: bool) -> None:
            """Wait for nothing."""

    pool = Pool()
    monkeypatch.setattr(background_flush, "ThreadPoolExecutor", lambda *_, **__: pool)
    monkeypatch.setattr(background_flush, "INTERVAL", 10)
    flush = BackgroundFlush(lambda: None)
    flush.wrote(10)
    flush.wrote(10)
    with pytest.raises(OSError, match="Input/output"):
        flush.wrote(10)
    with pytest.raises(OSError, match="Input/output"):
        flush.finish()
    assert pool.submitted == 1
