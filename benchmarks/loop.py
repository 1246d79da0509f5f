"""Measure a run with nothing to do, over 1,000 versions, against loading and listing alone.

Loading is that of the index and its records: a run compares every record with the index.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main
from reconciler.index.load import load_index
from reconciler.index.locations import RepositoryLayout
from reconciler.index.record_check import check_records
from reconciler.loop.run import apply, make_plan
from reconciler.loop.settings import RunOptions, Scope
from reconciler.loop.workspace import load
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected
from reconciler.targets.store import StoreTarget


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Publish small bundles, commit, then time a run that has nothing to do."""
    versions = 100 if quick else 1000
    layout = repository(directory, versions)
    scope = Scope(layout)
    with load(scope, os.environ, QUIET) as workspace:
        report = apply(make_plan(workspace, RunOptions()), workspace)
    if report.failed:
        raise RuntimeError("the first run failed")
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message", "Resolve")
    index = load_index(layout.index_file)
    expected = [Expected(version.cid, (index.label(version),)) for version in index.versions() if version.cid]
    store = StoreTarget("store", layout.state / "store")

    def nothing_to_do() -> None:
        with load(scope, os.environ, QUIET) as again:
            plan = make_plan(again, RunOptions())
            if plan.pending or plan.in_sync != versions:
                raise RuntimeError("there was something to do")
            apply(plan, again)

    def allowed() -> None:
        for _ in range(2):
            check_records(load_index(layout.index_file, stamps=layout.cache))
        store.observe(expected, Check.QUICK, index.mark, QUIET)

    def loaded() -> None:
        check_records(load_index(layout.index_file, stamps=layout.cache))

    def index_alone() -> None:
        load_index(layout.index_file, stamps=layout.cache)

    nothing_to_do()  # the first run after a commit reads its history
    timing = in_turn(nothing_to_do, allowed, rounds=7)
    detail = f"{timing.subject * 1000:.0f} ms against {timing.baseline * 1000:.0f} ms"
    name = f"nothing to do, {versions:,} versions / (2 x load + listing)"
    yield Figure(name, 1 / timing.ratio, maximum=1.0, detail=detail)

    timing = in_turn(nothing_to_do, loaded, rounds=7)
    detail = f"{timing.subject * 1000:.0f} ms against {timing.baseline * 1000:.0f} ms"
    name = f"nothing to do, {versions:,} versions / load index and records"
    yield Figure(name, 1 / timing.ratio, maximum=3.0, detail=detail)

    timing = in_turn(nothing_to_do, index_alone, rounds=7)
    detail = f"{timing.subject * 1000:.0f} ms against {timing.baseline * 1000:.0f} ms"
    yield Figure(f"nothing to do, {versions:,} versions / load the index", 1 / timing.ratio, detail=detail)

    def whole_process() -> None:
        subprocess.run(
            [sys.executable, "-c", "from reconciler.cli import main; main()", "-C", str(directory)],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def started() -> None:
        subprocess.run([sys.executable, "-c", "import typer"], check=True)

    timing = in_turn(whole_process, started, rounds=5)
    detail = f"{timing.subject * 1000:.0f} ms against {timing.baseline * 1000:.0f} ms"
    yield Figure("the same as a process / python -c 'import typer'", 1 / timing.ratio, detail=detail)


def repository(root: Path, versions: int) -> RepositoryLayout:
    """Create a repository at `root` with an index of small versions, and no commit yet."""
    lines = ["schema: 1", "id: bench", "models:"]
    for number in range(versions):
        model, version = f"model-{number // 10:03}", f"1.{number % 10}.0"
        if number % 10 == 0:
            lines += [f"  {model}:", "    versions:"]
        path = Path("weights") / model / version
        (root / path).mkdir(parents=True)
        (root / path / "config.json").write_text(f'{{"number": {number}}}', encoding="utf-8")
        lines += [f'      "{version}":', f"        path: {path.as_posix()}"]
        lines += ['        created_at: "2026-05-07T00:00:00Z"']
    index = root / "releases" / "index.yaml"
    index.parent.mkdir()
    index.write_text("\n".join(lines) + "\n", encoding="utf-8")
    layout = RepositoryLayout(root, index, index.with_name("targets.yaml"), root)
    layout.make_state()
    git(root, "init", "--quiet")
    return layout


def git(root: Path, *arguments: str) -> None:
    """Run git in `root`."""
    identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True)


if __name__ == "__main__":
    main(run)
