"""Scenes of a store whose writer is killed, for test_crash.py; each returns the number of kills.

They fork for every kill, so they run in a small separate process: forking the process of a whole test run
takes ten times as long.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import filelock  # noqa: F401 - once here, not in every child

from reconciler.content.dag import Dag
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.store import StoreTarget
from tests.conformance.targets import LABEL, MARK, OTHER_LABEL
from tests.support.shapes import bundle, single_leaf, twins
from tests.support.store_files import canonical, car_path, contents, harm, snapshot

CHANGING = ("fsync", "replace", "pwrite", "unlink", "ftruncate", "mkdir")
SEEDS = {"one": bundle, "two": lambda salt: twins(salt)[0], "three": single_leaf}
HARM = ("flipped", "cut", "too long", "header", "no index")


def no_waiting_for_the_disk() -> None:
    """What a killed process wrote is there without fsync; the calls are still counted."""
    os.fsync = lambda fd: None


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Executioner:
    """Kills this process before its change number `at`, or in the middle of its write number `at`."""

    def __init__(self, at: int, torn: bool) -> None:
        self.left, self.torn = at, torn

    def install(self) -> None:
        for name in ("pwrite",) if self.torn else CHANGING:
            setattr(os, name, self.around(getattr(os, name)))
        if not self.torn:
            fcntl.flock = self.around(fcntl.flock)

    def around(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            if self.left == 0:
                if self.torn:
                    fd, data, offset = args
                    real(fd, memoryview(data)[: len(data) // 2], offset)
                die()
            self.left -= 1
            return real(*args, **options)

        return call


def killed(action: Callable[[], None], at: int, torn: bool) -> bool:
    """Run `action` in a child that dies as Executioner says; False when it ended before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            Executioner(at, torn).install()
            action()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


class Scene:
    """A store with a healthy sibling in it, restored before every death."""

    def __init__(self, tmp_path: Path, seed: str) -> None:
        self.directory = tmp_path / "store"
        self.dag: Dag = SEEDS[seed](seed)
        self.sibling = bundle("sibling")
        self.target().publish(self.sibling, OTHER_LABEL, QUIET)
        self.saved = tmp_path / "saved"

    def target(self) -> StoreTarget:
        return StoreTarget("store", self.directory, lock_seconds=10)

    def save(self) -> None:
        shutil.copytree(self.directory, self.saved)

    def restore(self) -> None:
        shutil.rmtree(self.directory)
        shutil.copytree(self.saved, self.directory)

    def state(self, check: Check) -> State:
        expected = Expected(self.dag.layout.root, (LABEL,))
        inventory = self.target().observe([expected], check, MARK, QUIET)
        return inventory.observations[self.dag.layout.root].state

    def assert_truthful(self) -> None:
        """Check that FULL reports held only when every byte is right, and partial for a damaged CAR."""
        path = car_path(self.directory, self.dag)
        right = path.is_file() and path.read_bytes() == canonical(self.dag)
        full = self.state(Check.FULL)
        assert full is not State.HELD or right
        if not path.exists():
            assert full is State.ABSENT
        elif not right:
            assert full is State.PARTIAL

    def deaths(self, action: Callable[[], None], after: Callable[[], None]) -> int:
        """Kill `action` at each of its changes in turn; `after` looks at what is left. How many deaths."""
        self.save()
        count = 0
        for torn in (False, True):
            at = 0
            while killed(action, at, torn):
                after()
                self.restore()
                at += 1
                count += 1
        return count


def publish(directory: Path, seed: str) -> int:
    """A killed publish is never reported as held, and the next publish finishes it."""
    scene = Scene(directory, seed)
    scene.target().publish(scene.dag, LABEL, QUIET)
    finished = contents(scene.directory)
    scene.target().unpin(scene.dag.layout.root, LABEL)

    def after() -> None:
        scene.assert_truthful()
        assert (scene.state(Check.QUICK) is State.HELD) == (scene.state(Check.FULL) is State.HELD)
        sibling = snapshot(scene.directory / "cars")
        scene.target().publish(scene.dag, LABEL, QUIET)
        assert contents(scene.directory) == finished
        name = f"{scene.sibling.layout.root}.car"
        assert snapshot(scene.directory / "cars")[name] == sibling[name]

    return scene.deaths(lambda: scene.target().publish(scene.dag, LABEL, QUIET), after)


def repair(directory: Path, seed: str, harmed: str) -> int:
    """A killed repair stays partial, and the next repair finishes it."""
    scene = Scene(directory, seed)
    scene.target().publish(scene.dag, LABEL, QUIET)
    finished = contents(scene.directory)
    path, size = car_path(scene.directory, scene.dag), scene.dag.layout.car_size
    if harmed == "flipped":
        for offset in (
            scene.dag.layout.data_start(0),
            size - 1,
        ):  # two places, so one can be repaired before the other
            harm(path, offset, bytes((canonical(scene.dag)[offset] ^ 1,)))
    elif harmed == "cut":
        os.truncate(path, size - 50)
    elif harmed == "too long":
        harm(path, size, b"more")
    elif harmed == "header":
        harm(path, 5, b"?")
    else:
        path.with_suffix(".idx").unlink()
    before = path.read_bytes()

    def after() -> None:
        scene.assert_truthful()
        if path.read_bytes() != before and scene.state(Check.FULL) is not State.HELD:
            assert scene.state(Check.QUICK) is State.PARTIAL
        scene.target().repair(scene.dag, (), LABEL, QUIET)
        assert contents(scene.directory) == finished

    return scene.deaths(lambda: scene.target().repair(scene.dag, (), LABEL, QUIET), after)


def unpin(directory: Path, seed: str) -> int:
    """The next writer finishes a killed unpin."""
    scene = Scene(directory, seed)
    without = contents(scene.directory)
    scene.target().publish(scene.dag, LABEL, QUIET)

    def after() -> None:
        scene.assert_truthful()
        unpinned = scene.state(Check.QUICK) is not State.HELD
        if unpinned:  # begun: any change to this store ends it
            scene.target().unpin(scene.sibling.layout.root, Label("reconciler/suite/absent@1.0.0"))
        else:
            scene.target().unpin(scene.dag.layout.root, LABEL)
        assert contents(scene.directory) == without

    return scene.deaths(lambda: scene.target().unpin(scene.dag.layout.root, LABEL), after)


def unpin_and_publish(directory: Path, seed: str) -> int:
    """A killed unpin does not stop a new publish."""
    scene = Scene(directory, seed)
    scene.target().publish(scene.dag, LABEL, QUIET)
    finished = contents(scene.directory)

    def after() -> None:
        scene.target().publish(scene.dag, LABEL, QUIET)
        assert scene.state(Check.FULL) is State.HELD
        assert contents(scene.directory) == finished

    return scene.deaths(lambda: scene.target().unpin(scene.dag.layout.root, LABEL), after)


def relabel(directory: Path, seed: str) -> int:
    """A killed relabel keeps the root."""
    scene = Scene(directory, seed)
    scene.target().publish(scene.dag, LABEL, QUIET)

    def after() -> None:
        assert scene.state(Check.FULL) is State.HELD
        scene.target().relabel(scene.dag.layout.root, OTHER_LABEL)
        assert scene.state(Check.FULL) is State.HELD

    return scene.deaths(lambda: scene.target().relabel(scene.dag.layout.root, OTHER_LABEL), after)


def make(directory: Path) -> int:
    """A store that is killed while it is made is made by the next run."""
    dag, place = bundle("first"), directory / "deep" / "store"

    def action() -> None:
        StoreTarget("store", place).publish(dag, LABEL, QUIET)

    for at in range(100):
        died = killed(action, at, torn=False)
        action()
        assert car_path(place, dag).read_bytes() == canonical(dag)
        assert list((place / "tmp").iterdir()) == []
        if not died:
            return at
        shutil.rmtree(directory / "deep")
    raise AssertionError("it never ends")
