"""Measure ratios within one run, and the peak memory of a separate process.

Times in seconds depend more on the machine and its load than on the program. Therefore, every figure is the
ratio of two operations that run alternately, as the median over several rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Figure:
    """One measured value with its limits: at least `minimum`, at most `maximum`."""

    name: str
    value: float
    unit: str = ""  #: "" for a ratio
    minimum: float | None = None
    maximum: float | None = None
    detail: str = ""

    @property
    def holds(self) -> bool:
        return (self.minimum is None or self.value >= self.minimum) and (
            self.maximum is None or self.value <= self.maximum
        )

    def __str__(self) -> str:
        bound = f">= {self.minimum:g}" if self.minimum is not None else ""
        bound += f"<= {self.maximum:g}" if self.maximum is not None else ""
        verdict = "" if not bound else "ok" if self.holds else "MISSED"
        value = f"{self.value:.2f} {self.unit}".rstrip()
        return f"{self.name:<58} {value:>12} {bound:<9} {verdict:<7} {self.detail}".rstrip()


@dataclass(frozen=True)
class Timing:
    """The times of two operations: medians in seconds; `ratio` is the median over the rounds."""

    subject: float
    baseline: float
    ratio: float


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(
    subject: Callable[[], object],
    baseline: Callable[[], object],
    *,
    rounds: int = 5,
    between: Callable[[], object] = lambda: None,
) -> Timing:
    """Time both operations `rounds` times, in alternating order; `between` cleans up before each, untimed."""
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        taken: dict[bool, float] = {}
        for is_subject in (True, False) if number % 2 else (False, True):
            between()
            taken[is_subject] = seconds(subject if is_subject else baseline)
        pairs.append((taken[True], taken[False]))
    return Timing(
        statistics.median(subject for subject, _ in pairs),
        statistics.median(baseline for _, baseline in pairs),
        statistics.median(baseline / subject for subject, baseline in pairs),
    )


def warm_memory(directory: Path, size: int) -> None:
    """Write a file of `size` MiB in `directory` and remove it, so that as much memory can be used at once.

    A virtual machine may give free memory back to its host, and each of its pages is slow when it is used
    again; that would be measured in place of a program that writes GiBs.
    """
    path, piece = directory / "warm", bytes(1 << 20)
    with path.open("wb", buffering=0) as file:
        for _ in range(size):
            file.write(piece)
    path.unlink()


_REPORT_PEAK = """
import re, resource, sys
try:
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(peak)
"""


def peak_memory(code: str, *arguments: str) -> tuple[int, list[str]]:
    """Run `code` in a new Python process; return its peak resident bytes, and the lines it printed.

    The process reads its own high-water mark, because the value that the system reports for a child
    includes its parent. It uses compiled modules, as every installation does, also where the environment
    forbids this to its parent.
    """
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    ran = subprocess.run(
        [sys.executable, "-c", code + _REPORT_PEAK, *arguments],
        cwd=PROJECT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    *output, peak = ran.stdout.splitlines()
    return int(peak), output


@contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    """Yield a temporary directory, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=parent) as directory:
        yield Path(directory)


def main(run: Callable[[bool, Path], Iterable[Figure]]) -> None:
    """Run the command line of one benchmark: print its figures, and exit 1 if one misses its limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a sixteenth of the bytes")
    parser.add_argument("--scratch", type=Path, default=None, help="where to make the files")
    options = parser.parse_args()
    with scratch(options.scratch) as directory:
        missed = 0
        for figure in run(options.quick, directory):
            print(figure, flush=True)
            missed += not figure.holds
    raise SystemExit(1 if missed else 0)
