"""A version with a `source`, for targets that need its root before its bytes: Filecoin, and a Storacha space.

The sources, a web server and a Hugging Face hub, count the bytes of files that leave them.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reconciler.targets.filecoin.waits import DEFAULT_WAITS
from tests.support.command_line import RUN, CommandLine
from tests.support.file_server import file_server
from tests.support.http_peer import Asked
from tests.support.hub_server import HubRepository, hub_server
from tests.support.onchain.lab import KEYS, OnchainLab, deployed_lab
from tests.support.onchain.payer import Payer
from tests.support.onchain.pdp_provider import PdpProvider
from tests.support.onchain.storage import deployed_providers, onchain_storage
from tests.support.safetensors import safetensors
from tests.support.scripted_server import Sent
from tests.support.storacha_service import READS, packages, storacha_service

MIB = 1 << 20
INDEX = """\
schema: 1
id: acme
defaults: {{targets: [late]}}
models:
  llm:
    format: safetensors
    license: MIT
    versions:
      "1.0.0": {{source: "{source}", created_at: "2026-05-01T00:00:00Z"}}
"""


# -- where the bytes come from -------------------------------------------------------------------------------


@dataclass
class Origin:
    """A source: its name and entry in sources.yaml, its reference, and the bytes of files it has sent."""

    name: str
    entry: dict[str, Any]
    source: str
    sent: Callable[[], int]


@contextmanager
def web_server(files: dict[str, bytes], root: Path) -> Iterator[Origin]:
    """Serve a directory with its SHA256SUMS."""
    (root / "llm").mkdir()
    sums = ""
    for name, data in sorted(files.items()):
        (root / "llm" / name).write_bytes(data)
        sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
    (root / "llm/SHA256SUMS").write_text(sums)
    with file_server(root) as server:
        yield Origin("web", {"kind": "http", "url": server.url}, "web:llm", lambda: server.sent)


@contextmanager
def hub(files: dict[str, bytes], root: Path) -> Iterator[Origin]:
    """Serve a repository of a Hugging Face hub."""
    del root
    sizes = []

    def count(kind: str, asked: Asked, true: Sent) -> Sent:
        if kind in ("resolve", "storage") and true.status in (200, 206) and asked.method == "GET":
            sizes.append(len(true.body))
        return true

    with hub_server() as server:
        repository = server.add(HubRepository.make("acme/llm", files))
        server.lie = count
        entry = {"kind": "huggingface", "endpoint": server.url}
        yield Origin("hub", entry, f"hub:acme/llm@{repository.commit}", lambda: sum(sizes))


# -- where they go -------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A target: its entry in targets.yaml, its environment, and how it refuses bytes."""

    entry: dict[str, Any]
    environ: dict[str, str]
    refuse: Callable[[bool], None]  #: whether it refuses bytes from now on
    pause: float = 0.0  #: seconds in which a service repeats its last answer


@contextmanager
def filecoin(scratch: Path, *, anvil: bool = False) -> Iterator[Place]:
    """Run a chain with two providers, which keep two copies; the second one pulls from the first."""
    del scratch
    with onchain_storage(anvil=anvil, providers=2) as cloud:
        yield _on_chain(cloud.lab, cloud.providers)


@contextmanager
def real_contracts(scratch: Path) -> Iterator[Place]:
    """Use the deployment that the environment names, with two providers."""
    del scratch
    lab = deployed_lab(os.environ)
    if lab is None:
        pytest.skip("ONCHAIN_RPC and ONCHAIN_SERVICE name no deployment")
    with deployed_providers(lab) as providers, closing(Payer(lab)):
        yield _on_chain(lab, providers)


def _on_chain(lab: OnchainLab, providers: dict[int, PdpProvider]) -> Place:
    def refuse(wanted: bool) -> None:
        for each in providers.values():
            each.faults["wrong_piece"] = wanted

    entry = {
        "kind": "filecoin",
        "network": "devnet",
        "rpc": [lab.url],
        "contract": lab.service,
        "key_env": "LATE_KEY",
        "copies": 2,
    }
    return Place(entry, {"LATE_KEY": KEYS[0]}, refuse)


@contextmanager
def storacha(scratch: Path) -> Iterator[Place]:
    """Run a service with one space."""
    installed = packages()
    if installed is None:
        pytest.skip("npm cannot bring the Storacha service: no Node.js, or no network")
    (scratch / "storacha").mkdir()
    with storacha_service(installed, scratch / "storacha") as service:
        keys = service.delegate(READS, secret="a password of the bridge")
        entry = {
            "kind": "storacha",
            "space": service.space,
            "endpoint": service.url,
            "service": service.did,
            "cli": str(service.cli),
            "principal_env": "LATE_KEY",
            "proof_env": "LATE_PROOF",
            "bridge_secret_env": "LATE_SECRET",
            "bridge_auth_env": "LATE_AUTH",
        }
        environ = {
            "LATE_KEY": service.principal,
            "LATE_PROOF": service.proof,
            "LATE_SECRET": keys.secret,
            "LATE_AUTH": keys.authorization,
        }

        def refuse(wanted: bool) -> None:
            service.ask("_writes", {"disabled": wanted})

        yield Place(entry, environ, refuse, 1.1)


# -- a repository between them -------------------------------------------------------------------------------


@dataclass
class Project:
    """A repository whose one version goes from `origin` to `place`; `spool` is where the copy is kept."""

    cli: CommandLine
    origin: Origin
    place: Place
    size: int
    spool: Path = field(init=False)

    def __post_init__(self) -> None:
        self.spool = self.cli.root / ".reconcile/spool"
        self.cli.write("releases/index.yaml", INDEX.format(source=self.origin.source))
        self.cli.write("releases/targets.yaml", json.dumps({"targets": {"late": self.place.entry}}))
        self.use_spool(True)

    def use_spool(self, wanted: bool) -> None:
        entry = self.origin.entry | ({"spool": ".reconcile/spool"} if wanted else {})
        self.cli.write("releases/sources.yaml", json.dumps({"sources": {self.origin.name: entry}}))

    @property
    def sent(self) -> float:
        """The bytes that left the source, in sizes of the version."""
        return self.origin.sent() / self.size

    @property
    def kept(self) -> float:
        """What is in the spool, in sizes of the version."""
        return sum(path.stat().st_blocks * 512 for path in self.spooled()) / self.size

    def spooled(self) -> list[Path]:
        return list(self.spool.iterdir()) if self.spool.exists() else []

    def apply(self, code: int = 0) -> Any:
        time.sleep(self.place.pause)
        done = self.cli("--json")
        assert done.code == code, done.out + done.err
        return done.document

    def in_sync(self) -> bool:
        """Whether nothing but a proof on the chain is left to wait for."""
        time.sleep(self.place.pause)
        items = self.cli("--dry-run", "--json").document["items"]
        return {item["change"] for item in items} <= {"wait"}

    def kill(self, moment: Callable[[], bool]) -> None:
        """Run in a process of its own, and kill that at a moment."""
        process = subprocess.Popen(
            [*RUN, "--json"], cwd=self.cli.root, env={**os.environ}, stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 60
        while not moment():
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < end
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # until the servers have noticed, and said so on stderr


@pytest.fixture(params=["web", pytest.param("hub", marks=pytest.mark.slow)])
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Origin]:
    (tmp_path / "served").mkdir()
    with {"web": web_server, "hub": hub}[request.param](files(), tmp_path / "served") as found:
        yield found


def files() -> dict[str, bytes]:
    return {"model.safetensors": safetensors(os.urandom(12 * MIB)), "config.json": b"{}"}


@pytest.fixture(
    params=[
        "filecoin",
        pytest.param("anvil", marks=[pytest.mark.anvil, pytest.mark.slow]),
        pytest.param("real contracts", marks=pytest.mark.slow),
        pytest.param("storacha", marks=[pytest.mark.storacha, pytest.mark.slow]),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    makers: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
        "filecoin": filecoin,
        "anvil": partial(filecoin, anvil=True),
        "real contracts": real_contracts,
        "storacha": storacha,
    }
    before = DEFAULT_WAITS.interval
    with makers[request.param](tmp_path) as found:
        for name, value in found.environ.items():
            monkeypatch.setenv(name, value)
        object.__setattr__(DEFAULT_WAITS, "interval", 0.0)
        yield found
        object.__setattr__(DEFAULT_WAITS, "interval", before)


@pytest.fixture
def project(empty: CommandLine, origin: Origin, place: Place) -> Project:
    return Project(empty, origin, place, 12 * MIB)


def test_with_a_spool_the_bytes_leave_the_source_once(project: Project) -> None:
    project.apply()
    assert 1 <= project.sent <= 1.01
    assert project.spooled() == [], "no target lacks the version any more"
    assert project.in_sync()


@pytest.mark.slow
def test_without_a_spool_they_leave_it_twice(project: Project) -> None:
    project.use_spool(False)
    project.apply()
    assert 2 <= project.sent <= 2.02
    assert project.spooled() == []
    assert project.in_sync()


def test_what_a_target_refused_is_sent_by_the_next_run_from_the_spool(project: Project) -> None:
    project.place.refuse(True)
    project.apply(code=5)
    assert len(project.spooled()) == 1
    before = project.sent
    project.place.refuse(False)
    project.apply()
    assert project.sent - before <= 0.01
    assert project.spooled() == []
    assert project.in_sync()


@pytest.mark.slow
def test_a_spool_that_was_damaged_costs_the_leaf_that_it_damages(project: Project) -> None:
    assert project.cli("plan", "--identify", "--json").code == 0
    (file,) = project.spooled()
    with file.open("r+b") as opened:
        opened.seek(7 * MIB)
        opened.write(bytes(100))
    before = project.sent
    project.apply()
    assert 1 / 13 <= project.sent - before <= 2.1 / 12
    assert project.in_sync()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 1.0], ids=["reads", "sends"])
def test_a_run_that_was_killed_is_continued(project: Project, share: float) -> None:
    """The next run reads only what is not in the spool."""
    project.kill(lambda: project.kept >= share)
    kept, before = project.kept, project.sent
    project.apply()
    assert project.sent - before <= 1.01 - kept + 2 / 12, "a leaf that was written in part, for each thread"
    assert project.spooled() == []
    assert project.in_sync()
