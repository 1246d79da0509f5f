"""Damage, publishing, repair, pruning, faults and kills in random order, on a real node.

After a change that succeeded, its version is whole and pinned; whatever happened, no other version lost its
pin, and no block that was intact was damaged. `KUBO_SEED=N` repeats a run; a failure prints its seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.content import car
from reconciler.errors import BlockUnavailableError, PeerError
from tests.support.dags import MemoryDag
from tests.support.fault_proxy import FAULTS, SLOW, FaultProxy
from tests.support.kubo_node import SMALL_CACHE, KuboNode, kubo_node
from tests.support.scratch import PROJECT
from tests.targets.kubo import kubo_step
from tests.targets.kubo.conftest import make_target
from tests.targets.kubo.kubo_step import VERSIONS, keep, label, version

pytestmark = pytest.mark.ipfs

COMMANDS = ("pin/ls", "pin/add", "block/stat", "block/get", "dag/import", "dag/stat", "dag/export")
QUICK_FAULTS = [fault for name, fault in FAULTS.items() if name not in SLOW]


class Story:
    """A node, what should be on it, and a source of chance. `kills` permits processes that are killed."""

    def __init__(self, node: KuboNode, proxy: FaultProxy, seed: int, *, kills: bool) -> None:
        self.node, self.proxy, self.kills = node, proxy, kills
        self.chance = random.Random(seed)
        self.salt = f"random {seed}"
        self.versions = [version(self.salt, number) for number in range(VERSIONS)]
        self.told: list[str] = []

    def tell(self, what: str) -> None:
        self.told.append(what)
        print(what)

    def step(self) -> None:
        moves = [self.damage, self.damage, self.keep, self.keep, self.fail, self.strange, self.prune]
        if self.kills:
            moves += [self.kill, self.kill, self.crash]
        pins, intact = self.node.pins(), self.intact()
        gone = self.chance.choice(moves)()
        after = self.node.pins()
        lost = {cid: name for cid, name in pins.items() if after.get(cid) != name and cid != gone}
        assert not lost, f"pins lost: {lost}"
        assert self.told[-1].startswith("damage") or intact <= self.intact(), "a good block became bad"

    def damage(self) -> None:
        """Corrupt, truncate or remove some blocks on the node: leaves, inner nodes, roots."""
        dag = self.chance.choice(self.versions)
        there = [block.cid for block in dag.layout if self.node.block_file(block.cid).exists()]
        victims = self.chance.sample(there, min(len(there), self.chance.choice((1, 1, 2, 4, 9))))
        self.tell(f"damage {len(victims)} blocks of version {self.versions.index(dag)}")
        for cid in victims:
            file = self.node.block_file(cid)
            data = file.read_bytes()
            file.chmod(0o644)
            match self.chance.randrange(3):
                case 0:
                    file.unlink()
                case 1 if data:
                    file.write_bytes(data[: len(data) // 2])
                case _ if data:
                    at = self.chance.randrange(len(data))
                    file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])

    def keep(self) -> None:
        number = self.chance.randrange(VERSIONS)
        self.tell(f"keep version {number}")
        target = make_target(self.node.url)
        keep(target, self.versions[number], number)
        target.close()
        self.assert_kept(number)

    def fail(self) -> None:
        """Keep a version while some calls of one command fail."""
        number, command = self.chance.randrange(VERSIONS), self.chance.choice(COMMANDS)
        fault, times = self.chance.choice(QUICK_FAULTS), self.chance.choice((1, 3, None))
        self.tell(f"keep version {number} while {command} has the fault {fault}, {times} times")
        self.proxy.disarm()
        self.proxy.arm(fault, path=command, times=times, skip=self.chance.randrange(4))
        target = make_target(self.proxy.url, attempts=2)
        try:
            keep(target, self.versions[number], number)
        except (PeerError, BlockUnavailableError):
            return
        finally:
            self.proxy.disarm()
            target.close()
        if self.node.pins().get(str(self.versions[number].layout.root)) == label(number):
            self.assert_kept(number)

    def strange(self) -> None:
        """Let somebody add some blocks without a pin."""
        number = self.chance.randrange(VERSIONS)
        dag = self.versions[number]
        some = sorted(self.chance.sample(range(len(dag.layout)), self.chance.randint(1, 8)))
        self.tell(f"add {len(some)} blocks of version {number}")
        path = self.node.home / "some.car"
        path.write_bytes(b"".join(car.stream_partial(dag, some)))
        self.node.call("version")
        self.node.run("dag", "import", "--pin-roots=false", str(path))

    def prune(self) -> str:
        number = self.chance.randrange(VERSIONS)
        self.tell(f"prune version {number}")
        target = make_target(self.node.url)
        root = self.versions[number].layout.root
        target.unpin(root, label(number))
        target.close()
        assert str(root) not in self.node.pins()
        return str(root)

    def kill(self) -> str | None:
        """Kill a process that keeps or prunes a version."""
        number, action = self.chance.randrange(VERSIONS), self.chance.choice(("keep", "keep", "prune"))
        wait = self.chance.uniform(0.2, 1.5)
        self.tell(f"kill the {action} of version {number} after {wait:.2f} s")
        self.kill_after(number, action, wait)
        return str(self.versions[number].layout.root) if action == "prune" else None

    def crash(self) -> None:
        """Kill the node while a version is kept, and start it again."""
        number, wait = self.chance.randrange(VERSIONS), self.chance.uniform(0.3, 1.0)
        self.tell(f"kill the node {wait:.2f} s into the keep of version {number}")
        process = self.begin(number, "keep")
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        self.node.stop(signal.SIGKILL)
        process.kill()
        process.wait()
        self.node.start()
        self.proxy.port = self.node.port

    def kill_after(self, number: int, action: str, wait: float) -> None:
        process = self.begin(number, action)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        process.kill()
        process.wait()

    def begin(self, number: int, action: str) -> subprocess.Popen[bytes]:
        arguments = [self.node.url, self.salt, str(number), action]
        return subprocess.Popen(
            [sys.executable, kubo_step.__file__, *arguments],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stderr=subprocess.DEVNULL,
        )

    def intact(self) -> set[str]:
        return {
            str(block.cid) for dag in self.versions for block in dag.layout if self.is_intact(dag, block.cid)
        }

    def is_intact(self, dag: MemoryDag, cid: object) -> bool:
        file = self.node.block_file(cid)  # type: ignore[arg-type]
        return file.exists() and cid.matches(file.read_bytes())  # type: ignore[attr-defined]

    def assert_kept(self, number: int) -> None:
        dag = self.versions[number]
        assert self.node.pins().get(str(dag.layout.root)) == label(number)
        bad = [str(block.cid) for block in dag.layout if not self.is_intact(dag, block.cid)]
        assert not bad, f"version {number} was kept with {len(bad)} bad blocks: {bad[:3]}"


def run(home: Path, seed: int, steps: int, *, kills: bool, node: KuboNode | None = None) -> None:
    print(f"KUBO_SEED={seed}")
    if node is None:
        with kubo_node(home / "node", config=SMALL_CACHE) as own:
            run(home, seed, steps, kills=kills, node=own)
        return
    with FaultProxy("127.0.0.1", node.port) as proxy:
        story = Story(node, proxy, seed, kills=kills)
        stranger = Path(node.home, "stranger")
        stranger.write_bytes(f"a stranger {seed}".encode())
        node.run("add", "--pin-name=backups", str(stranger))
        for _ in range(steps):
            story.step()
        for number in range(VERSIONS):
            target = make_target(node.url)
            keep(target, story.versions[number], number)
            target.close()
        for number in range(VERSIONS):
            story.assert_kept(number)
        assert "backups" in node.pins().values()


def test_a_short_story_with_a_fixed_seed(node: KuboNode, tmp_path: Path) -> None:
    run(tmp_path, 18, 14, kills=False, node=node)


@pytest.mark.slow
@pytest.mark.parametrize("repetition", range(3))
def test_random_stories_with_kills(tmp_path: Path, repetition: int) -> None:
    seed = int(os.environ.get("KUBO_SEED") or random.SystemRandom().randrange(1 << 32)) + repetition
    run(tmp_path, seed, 60, kills=True)
