"""Run `reconcile serve` with stores to serve."""

from __future__ import annotations

import http.client
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.content.dag import Dag
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget
from tests.support.command_line import RUN

_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Got:
    """One response. Header names are lower case. `whole` is False if it was truncated."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True


@dataclass
class Served:
    """A gateway process."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, method: str = "GET", **headers: str) -> Got:
        """Send one request on a new connection; `_` in the name of a header means `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=sent)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            try:
                return Got(answer.status, names, answer.read())
            except http.client.IncompleteRead as error:
                return Got(answer.status, names, error.partial, whole=False)
        finally:
            connection.close()

    def stop(self) -> int:
        """Stop the process; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def served(home: Path, *stores: Path, arguments: tuple[str, ...] = ()) -> Iterator[Served]:
    """Run `reconcile serve` over `stores` on a free loopback port; `home` gets its log."""
    log = home / "serve.log"
    named = [part for store in stores for part in ("--store", str(store))]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*RUN, "serve", *named, "--listen", "127.0.0.1:0", *arguments],
            cwd=home,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield Served(_ready(process, log), process, log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the URL in the line that it prints when ready."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(_START_SECONDS), "the gateway did not say that it is ready"
    line = process.stdout.readline().decode()
    assert line.startswith("listening on http"), log.read_text()
    return line.removeprefix("listening on ").strip()


def keep(store: Path, *dags: Dag) -> None:
    """Put `dags` into the store at `store`."""
    target = StoreTarget("store", store)
    for number, dag in enumerate(dags):
        target.publish(dag, Label(f"reconciler/acme/model@1.0.{number}"), QUIET)
