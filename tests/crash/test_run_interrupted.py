"""Ctrl-C while a run waits for a source, a node or the disk: it ends soon, and the next run converges."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import pytest

from tests.support.command_line import RUN, CommandLine
from tests.support.fault_proxy import FaultProxy, Stall, Unread
from tests.support.file_server import FileServer, file_server
from tests.support.killed import living
from tests.support.kubo_node import KuboNode, kubo_node
from tests.support.safetensors import safetensors
from tests.support.waiting import wait_until

# a shell ignores SIGINT for tests that run in the background, and children inherit that
SCRIPT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + RUN[2]
COMMAND = [RUN[0], "-c", SCRIPT]

MIB = 1 << 20
_SOON = 20.0  # seconds: on a busy machine; on an idle one it takes less than one
INDEX = """\
schema: 1
id: acme
defaults: {targets: [%s]}
models:
  llm:
    format: safetensors
    license: Apache-2.0
    versions:
      "1.0.0": {%s, created_at: "2026-05-01T00:00:00Z"}
"""


@dataclass
class Scene:
    """A repository whose version comes from `server`, or is in it, and goes to the store or to a node."""

    root: Path
    server: FileServer
    command: CommandLine

    def prepare(self, target: str, size: int, *, streamed: bool) -> None:
        weights = (self.server.root if streamed else self.root) / "llm"
        weights.mkdir(parents=True)
        data = safetensors(b"".join(number.to_bytes(8, "big") * (MIB // 8) for number in range(size // MIB)))
        (weights / "model.safetensors").write_bytes(data)
        (weights / "SHA256SUMS").write_text(f"{hashlib.sha256(data).hexdigest()}  model.safetensors\n")
        releases = self.root / "releases"
        releases.mkdir(parents=True)
        origin = 'source: "files:llm"' if streamed else "path: llm"
        (releases / "index.yaml").write_text(INDEX % ("place", origin))
        (releases / "sources.yaml").write_text(
            f'sources: {{files: {{kind: http, url: "{self.server.url}"}}}}\n'
        )
        (releases / "targets.yaml").write_text(f"targets: {{place: {target}}}\n")

    def interrupt(self, stalls: Callable[[], bool], *arguments: str, later: float = 0.2) -> None:
        """Run with `arguments`, interrupt it `later` seconds after it `stalls`, and check how it ends."""
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            wait_until("the run stalls", lambda: stalls() or process.poll() is not None)
            time.sleep(later)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            took = time.monotonic() - began
        finally:
            process.kill()
        print(f"ended after {took:.2f} s")
        assert took < _SOON
        assert process.returncode == 130, out + err
        assert err.endswith("error: interrupted\nhint: run again to finish\n")
        assert "Traceback" not in err
        wait_until("no child is left", lambda: not living(process.pid))

    def converges(self) -> None:
        """Check that the next run finishes, and that the plan after it is empty."""
        done = self.command()
        assert done.code == 0, done
        assert self.command("--dry-run", "--check", "full", "--exit-code").code == 0


@pytest.fixture
def scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Scene]:
    with file_server(tmp_path / "files") as server:
        root = tmp_path / "repository"
        yield Scene(root, server, CommandLine(root, monkeypatch, capsys))


STORE = "{kind: store, path: .reconcile/store}"


@pytest.mark.parametrize("stop", ["the weights", pytest.param("the listing", marks=pytest.mark.slow)])
def test_a_source_that_stalls(scene: Scene, stop: str) -> None:
    scene.prepare(STORE, 8 * MIB, streamed=True)
    after = 1 if stop == "the listing" else 3 * MIB
    scene.server.stops_after = after
    scene.interrupt(lambda: scene.server.sent >= after)
    assert not list(scene.root.glob(".reconcile/store/cars/*"))
    scene.server.stops_after = None
    scene.converges()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboNode]:
    with kubo_node(tmp_path_factory.mktemp("kubo")) as node:
        yield node


@pytest.fixture
def proxy(node: KuboNode) -> Iterator[FaultProxy]:
    node.empty()
    with FaultProxy("127.0.0.1", node.port) as proxy:
        yield proxy


@pytest.mark.ipfs
@pytest.mark.parametrize(
    ("path", "fault", "streamed"),
    [
        ("/dag/import", Unread(), False),
        *(
            pytest.param(path, fault, streamed, marks=pytest.mark.slow)
            for path, fault in (
                ("/pin/ls", Stall()),
                ("/dag/import", Unread()),
                ("/dag/import", Stall()),
                ("/dag/stat", Stall()),
                ("/pin/add", Stall()),
            )
            for streamed in (True, False)
        ),
    ],
)
def test_a_node_that_stalls(
    scene: Scene, proxy: FaultProxy, path: str, fault: Unread | Stall, streamed: bool
) -> None:
    scene.prepare(f'{{kind: kubo, api: "{proxy.url}"}}', 24 * MIB, streamed=streamed)
    proxy.arm(fault, path=path)
    scene.interrupt(lambda: proxy.hits > 0)
    proxy.disarm()
    scene.converges()


@pytest.mark.slow
@pytest.mark.ipfs
@pytest.mark.parametrize(
    "command",
    [("export", "llm@1.0.0", "x.car"), ("pieces", "llm@1.0.0"), ("verify", "llm@1.0.0")],
    ids=" ".join,
)
def test_a_node_that_stalls_while_it_is_read(
    scene: Scene, proxy: FaultProxy, command: tuple[str, ...]
) -> None:
    scene.prepare(f'{{kind: kubo, api: "{proxy.url}"}}', 24 * MIB, streamed=False)
    assert scene.command().code == 0
    (scene.root / "llm").rename(scene.root / "gone")
    proxy.arm(Stall(0.5), path="/block/get", skip=8)
    scene.interrupt(lambda: proxy.hits > 0, *command)
    assert not list(scene.root.glob("*.car"))
    proxy.disarm()
    assert scene.command(*command).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [True, False])
def test_a_version_on_its_way_into_the_store(scene: Scene, streamed: bool) -> None:
    scene.prepare(STORE, 600 * MIB, streamed=streamed)
    scene.interrupt(lambda: any(scene.root.glob(".reconcile/store/tmp/*.partial")))
    assert not list(scene.root.glob(".reconcile/store/cars/*"))
    scene.converges()
    assert not list(scene.root.glob(".reconcile/store/tmp/*"))


@pytest.mark.slow
def test_a_store_that_another_process_changes(scene: Scene) -> None:
    """A lock that is waited for does not notice the interrupt: then the process ends a little later."""
    scene.prepare(STORE, MIB, streamed=False)
    store = scene.root / ".reconcile/store"
    store.mkdir(parents=True)
    with filelock.FileLock(store / "lock"):
        scene.interrupt((scene.root / ".reconcile/run.json").exists, later=1.0)
    scene.converges()
