"""Says at the end of a run which real peers took part, and turns forbidden skips into failures."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence

import pytest

#: marker: the programs that its tests need on PATH
PEERS = {
    "ipfs": ("ipfs",),
    "ipfs_cluster": ("ipfs", "ipfs-cluster-service"),
    "gateway_conformance": ("gateway-conformance", "go"),
    "gitea": ("gitea",),
    "nginx": ("nginx",),
    "node": ("node", "npm"),
    "storacha": ("node", "npm"),
}


class PeerReport:
    """A pytest plugin. `required` are the markers of PEERS whose tests may not be skipped."""

    def __init__(self, required: frozenset[str]) -> None:
        unknown = required - PEERS.keys()
        if unknown:
            raise pytest.UsageError(
                f"REQUIRE names {', '.join(sorted(unknown))}; the peers are {', '.join(PEERS)}"
            )
        self.required = required
        self.ran: Counter[str] = Counter()
        self.skipped: dict[str, Counter[str]] = defaultdict(Counter)
        self.slow_left_out = 0

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Count the slow tests that this run leaves out."""
        self.slow_left_out += sum(item.get_closest_marker("slow") is not None for item in items)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip a test whose peer is not installed."""
        for marker in markers(item):
            missing = [program for program in PEERS[marker] if shutil.which(program) is None]
            if missing:
                pytest.skip(f"{' and '.join(missing)} not on PATH")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Count what ran and what was skipped, and fail a skip that REQUIRE forbids."""
        report = yield
        for marker in markers(item):
            if report.skipped:
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                self.skipped[marker][reason.removeprefix("Skipped: ")] += 1
                if marker in self.required:
                    report.outcome = "failed"
                    report.longrepr = f"{item.nodeid}: required by REQUIRE={marker}, but skipped: {reason}"
            elif report.when == "call":
                self.ran[marker] += 1
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """A run in which no test of a required peer took part is no success either."""
        if not session.config.option.collectonly and self.idle() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    def idle(self) -> list[str]:
        """The required markers that no test carried."""
        return sorted(self.required - self.ran.keys() - self.skipped.keys())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line a peer, before pytest's own last line."""
        lines = [line for marker in PEERS for line in self.lines(marker)]
        lines += [f"{marker}: required by REQUIRE, but no test of it took part" for marker in self.idle()]
        if self.slow_left_out:
            lines.append(f"slow: {self.slow_left_out} left out (make test-all runs them)")
        if lines:
            terminalreporter.section("real peers")
        for line in lines:
            terminalreporter.line(line)

    def lines(self, marker: str) -> list[str]:
        """What happened with one peer: nothing when no test of it was selected."""
        parts = [f"{self.ran[marker]} ran"] if self.ran[marker] else []
        skipped = self.skipped.get(marker, Counter())  # asking the defaultdict itself would make an entry
        parts += [f"{number} skipped ({reason})" for reason, number in skipped.items()]
        return [f"{marker}: {', '.join(parts)}"] if parts else []


def markers(item: pytest.Item) -> list[str]:
    """The peers that a test needs."""
    return [marker for marker in PEERS if item.get_closest_marker(marker) is not None]
