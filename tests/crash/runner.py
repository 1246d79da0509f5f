"""Run the whole command in forked children, kill each at a chosen call, and print the results.

    python runner.py SCENARIO DIRECTORY SEEDS         named points: before or after a system call
    python runner.py SCENARIO DIRECTORY SEEDS few     named points: before a system call, or within a write
    python runner.py SCENARIO DIRECTORY SEEDS random  SEEDS random moments instead

Prints one line per case: `ok POINT` or `FAILED POINT: why`. After each kill, the index must load, `status`
must succeed, the next run must succeed with the same CIDs and CAR bytes, and then the plan with a full check
must be empty.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

# imported and built once, for all children
import git  # noqa: F401
import jsonschema  # noqa: F401
import typer.main

import reconciler.cli.fast_resolve
import reconciler.cli.loop_commands
import reconciler.cli.operator_commands
import reconciler.forges.branch
import reconciler.loop.remote
import reconciler.render.progress  # noqa: F401
from reconciler.cli import main
from reconciler.cli.app import app
from reconciler.index.load import load_index
from reconciler.targets.store.target import StoreTarget

CALLS = ("fsync", "replace", "pwrite", "pwritev", "unlink", "mkdir", "ftruncate")
WRITES = ("pwrite", "pwritev")
MOMENTS = ("before", "after", "torn")  # torn: half of a write
FEW_MOMENTS = ("before", "torn")
STREAMS = ("stream", "spool")  # from a source to two stores; with `spool`, to stores that need the root first
Seam = Callable[[], None]


typer.main.get_command = functools.cache(typer.main.get_command)
assert len(typer.main.get_command(app).commands.values()) > 1  # type: ignore[attr-defined]  builds them all


def child(directory: Path, *arguments: str, seam: Seam = lambda: None) -> int:
    """Run the command in a child; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(begun(directory, *arguments, seam=seam), 0)[1])


def begun(directory: Path, *arguments: str, seam: Seam = lambda: None) -> int:
    """Start the command in a child with its own process group; return the process ID."""
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # parent or child, whichever is first, sets the group
            os.setpgid(pid, pid)
        return pid
    try:
        os.setpgid(0, 0)
        os.chdir(directory)
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.argv = ["reconcile", *arguments]
        seam()
        main()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(99)


def killed_after(seconds: float, directory: Path, arguments: list[str]) -> None:
    """Run the command and kill its process group after a delay."""
    pid = begun(directory, *arguments)
    time.sleep(seconds)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def counting(file: Path) -> Seam:
    """Count the calls of one run and write the counts to `file`."""

    def patch() -> None:
        counts: Counter[str] = Counter()
        for name in CALLS:
            real = getattr(os, name)

            def counted(
                *args: object, _name: str = name, _real: Callable[..., object] = real, **kw: object
            ) -> object:
                counts[_name] += 1
                file.write_text(repr(dict(counts)))
                return _real(*args, **kw)

            setattr(os, name, counted)

    return patch


def killing(name: str, number: int, moment: str) -> Seam:
    """Kill the process at call `number` (from 1) of os.`name`."""

    def patch() -> None:
        real = getattr(os, name)
        calls, lock = 0, threading.Lock()

        def deadly(*args: object, **kw: object) -> object:
            nonlocal calls
            with lock:
                calls += 1
                mine = calls == number
            if mine and moment == "torn":
                descriptor, data, offset = args
                written = b"".join(map(bytes, data)) if name == "pwritev" else bytes(data)  # type: ignore[call-overload]
                os.pwrite(descriptor, written[: len(written) // 2], offset)  # type: ignore[arg-type]
            if mine and moment != "after":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kw)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, name, deadly)

    return patch


def run_git(directory: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Crash", "-c", "user.email=crash@example.com")
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


def template(scenario: str, directory: Path) -> tuple[Path, list[str]]:
    """Create a repository in the state before the killed run; return the arguments of that run."""
    repository = directory / "template"
    if scenario in STREAMS:
        return streamed(scenario, repository), []
    lines = ["schema: 1", "id: crash", "models:", "  m:", "    versions:"]
    for number in (1, 2):
        path = repository / "w" / str(number)
        path.mkdir(parents=True)
        (path / "model.bin").write_bytes(bytes([number]) * 1_500_000)
        (path / "config.json").write_text("{}")
        lines.append(f'      "{number}.0.0": {{path: w/{number}, created_at: "2026-05-07T00:00:00Z"}}')
    index = repository / "releases" / "index.yaml"
    index.parent.mkdir()
    index.write_text("\n".join(lines) + "\n")
    (repository / ".gitignore").write_text(".reconcile/\n")
    run_git(repository, "init", "--quiet")
    run_git(repository, "config", "user.name", "Crash")
    run_git(repository, "config", "user.email", "crash@example.com")
    run_git(repository, "add", "--all")
    run_git(repository, "commit", "--quiet", "--message", "start")
    if scenario == "branch":
        return repository, ["--propose", "branch"]
    if scenario == "publish":
        return repository, []
    assert child(repository) == 0
    run_git(repository, "add", "--all")
    run_git(repository, "commit", "--quiet", "--message", "resolved")
    if scenario == "repair":
        for car in (repository / ".reconcile" / "store" / "cars").glob("*.car"):
            with car.open("r+b") as file:
                file.seek(700_000)
                file.write(b"\xff")
                file.truncate(1_400_000)
        return repository, ["--check", "full"]
    index.write_text(
        "".join(line for line in index.read_text().splitlines(keepends=True) if '"1.0.0"' not in line)
    )
    run_git(repository, "commit", "--quiet", "--all", "--message", "without 1.0.0")
    return repository, ["--prune", "--allow-removals", "1"]


def streamed(scenario: str, repository: Path) -> Path:
    """Create a repository with a version from a source: a file of several segments, and equal leaves.

    The files are not copied with the repository: their times are part of the revision in the record.
    """
    path = repository.parent / "share" / "m"
    path.mkdir(parents=True)
    (path / "model.bin").write_bytes(random.Random(1).randbytes(9_500_000))
    (path / "zeros.bin").write_bytes(bytes(3 << 20))
    (path / "config.json").write_text("{}")
    releases = repository / "releases"
    releases.mkdir(parents=True)
    (releases / "index.yaml").write_text(
        "schema: 1\nid: crash\ndefaults: {targets: [store, second]}\nmodels:\n  m:\n    versions:\n"
        '      "1.0.0": {source: "share:m", created_at: "2026-05-07T00:00:00Z"}\n'
    )
    (releases / "targets.yaml").write_text(
        "targets:\n  store: {kind: store, path: .reconcile/store}\n"
        "  second: {kind: store, path: .reconcile/second}\n"
    )
    spool = ", spool: .reconcile/spool" if scenario == "spool" else ""
    source = f"{{kind: directory, path: {path.parent}{spool}}}"
    (releases / "sources.yaml").write_text(f"sources: {{share: {source}}}\n")
    if scenario == "spool":
        del StoreTarget.ingest  # in this process and all its children
    return repository


def outcome(repository: Path) -> dict[str, bytes]:
    """Return what must not depend on kills: CARs, labels, index, records."""
    files = [*(repository / ".reconcile").rglob("*.car"), *(repository / "releases").rglob("*.*")]
    files += (repository / ".reconcile").glob("*/labels/*.json")
    return {path.relative_to(repository).as_posix(): path.read_bytes() for path in files}


def wait_for_the_lock(repository: Path) -> None:
    """Wait for the lock; a forked child of the killed run that has not yet started git may still hold it."""
    with (
        contextlib.suppress(FileNotFoundError),
        (repository / ".reconcile" / "run.lock").open("rb") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)


def problem(repository: Path, arguments: list[str], wanted: dict[str, bytes]) -> str:
    """Return what is wrong after a kill; "" if the next run gives the same result as without a kill."""
    wait_for_the_lock(repository)
    load_index(repository / "releases" / "index.yaml")
    if (code := child(repository, "status")) not in (0, 5):
        return f"status exits {code}"
    if code := child(repository, *arguments):
        return f"the next run exits {code}"
    if code := child(repository, "plan", "--check", "full", "--exit-code", *propose_of(arguments)):
        return f"then the plan exits {code}"
    state = repository / ".reconcile"
    if left := [*state.glob("*/tmp/*"), *state.glob("spool/*")]:
        return f"left behind: {left}"
    found = outcome(repository)
    return (
        ""
        if found == wanted
        else f"differs in {[k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k)]}"
    )


def propose_of(arguments: list[str]) -> list[str]:
    return arguments if "--propose" in arguments else []


def run() -> int:
    scenario, directory, seeds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    repository, arguments = template(scenario, directory)

    def fresh() -> Path:
        copy = directory / "case"
        shutil.rmtree(copy, ignore_errors=True)
        return Path(shutil.copytree(repository, copy, symlinks=True))

    case = fresh()
    started = time.monotonic()
    assert child(case, *arguments) == 0, "the run itself fails"
    took = time.monotonic() - started
    wanted = outcome(case)
    case, counts_file = fresh(), directory / "counts"
    child(case, *arguments, seam=counting(counts_file))
    counts = eval(counts_file.read_text())
    chance = random.Random(scenario)
    points: list[tuple[str, int, str]] = []
    if sys.argv[4:] == ["random"]:
        for number in range(seeds):
            case = fresh()
            pause = chance.random() * took
            killed_after(pause, case, arguments)
            why = problem(case, arguments, wanted)
            print(
                f"FAILED random {number} at {pause:.3f} s: {why}" if why else f"ok random {number}",
                flush=True,
            )
        return 0
    for name in CALLS:
        for moment in FEW_MOMENTS if sys.argv[4:] == ["few"] else MOMENTS:
            if counts.get(name) and (moment != "torn" or name in WRITES):
                points += [(name, chance.randint(1, counts[name]), moment) for _ in range(seeds)]
    for name, number, moment in points:
        case = fresh()
        ended = child(case, *arguments, seam=killing(name, number, moment))
        label = f"{scenario} {moment} {name} {number}"
        if ended not in (-signal.SIGKILL, 0):
            print(f"FAILED {label}: the killed run ended with {ended}", flush=True)
            continue
        why = problem(case, arguments, wanted)
        print(f"FAILED {label}: {why}" if why else f"ok {label}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run())
