"""A pytest plugin that reports which real peers were tested, and turns forbidden skips into failures."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from typing import Any

import pytest

#: marker: the programs that its tests need on PATH
PEERS = {
    "ipfs": ("ipfs",),
    "ipfs_cluster": ("ipfs", "ipfs-cluster-service"),
    "gateway_conformance": ("gateway-conformance", "go"),
    "cosign": ("cosign",),
    "model_signing": ("model_signing",),
    "softhsm": ("softhsm2-util",),
    "git_lfs": ("git-lfs",),
    "go": ("go",),
    "litewitness": ("litewitness", "ssh-agent", "ssh-add"),
    "gitea": ("gitea",),
    "nginx": ("nginx",),
    "transformers": ("transformers",),
    "oci_conformance": ("oci-conformance",),
    "ollama": ("ollama",),
    "oras": ("oras",),
    "skopeo": ("skopeo",),
    "crane": ("crane",),
    "node": ("node", "npm"),
    "rclone": ("rclone",),
    "moto": ("moto_server",),
    "azurite": ("azurite-blob",),
    "fake_gcs_server": ("fake-gcs-server",),
    "storacha": ("node", "npm"),
    "age_cli": ("age", "age-keygen", "ssh-keygen"),
    "anvil": ("anvil",),
}


class PeerReport:
    """A pytest plugin. `required` are the markers of PEERS whose tests may not be skipped.

    Under pytest-xdist each worker skips tests and fails forbidden skips; the controller counts and reports.
    """

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
        for marker in PEERS:
            if item.get_closest_marker(marker) is not None:
                missing = [program for program in PEERS[marker] if shutil.which(program) is None]
                if missing:
                    pytest.skip(f"{' and '.join(missing)} not on PATH")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn a skip that REQUIRE forbids into a failure."""
        report = yield
        forbidden = [marker for marker in markers(report) if marker in self.required]
        if report.skipped and forbidden:
            report.outcome = "failed"
            reason = _reason(report)
            report.longrepr = f"{item.nodeid}: required by REQUIRE={forbidden[0]}, but skipped: {reason}"
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what ran and what was skipped."""
        for marker in markers(report):
            if report.skipped:
                self.skipped[marker][_reason(report).removeprefix("Skipped: ")] += 1
            elif report.when == "call":
                self.ran[marker] += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over the deselected tests of a worker of pytest-xdist; every worker collects all tests."""
        self.slow_left_out = getattr(node, "workeroutput", {}).get("slow_left_out", self.slow_left_out)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Fail a run that ran no test of a required peer."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["slow_left_out"] = self.slow_left_out
        elif (
            not session.config.option.collectonly and self.idle() and session.exitstatus == pytest.ExitCode.OK
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    def idle(self) -> list[str]:
        """Return the required markers without any test."""
        return sorted(self.required - self.ran.keys() - self.skipped.keys())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print one line per peer, before the last line of pytest."""
        lines = [line for marker in PEERS for line in self.lines(marker)]
        lines += [f"{marker}: required by REQUIRE, but no test of it took part" for marker in self.idle()]
        if self.slow_left_out:
            lines.append(f"slow: {self.slow_left_out} left out (make test-all runs them)")
        if lines:
            terminalreporter.section("real peers")
        for line in lines:
            terminalreporter.line(line)

    def lines(self, marker: str) -> list[str]:
        """Yield the lines about one peer: none if no test of it was selected."""
        parts = [f"{self.ran[marker]} ran"] if self.ran[marker] else []
        skipped = self.skipped.get(marker, Counter())  # indexing the defaultdict would create an entry
        parts += [f"{number} skipped ({reason})" for reason, number in skipped.items()]
        return [f"{marker}: {', '.join(parts)}"] if parts else []


def markers(report: pytest.TestReport) -> list[str]:
    """Return the peers that a test needs."""
    return [marker for marker in PEERS if marker in report.keywords]


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
