"""Measure the action on a pull request with 1,000 versions: time until the comment, and API calls.

The forge is a fake on loopback, so its responses take no time; the pauses between writes are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loop import git, repository
from benchmarks.measure import PROJECT, Figure, main, seconds
from reconciler.index.locations import RepositoryLayout
from reconciler.loop.run import apply, make_plan
from reconciler.loop.settings import RunOptions, Scope
from reconciler.loop.workspace import load
from reconciler.progress import QUIET
from tests.forges.fake_github import FakeGitHub
from tests.support.github_server import serving

NEW = """\
  model-new:
    versions:
      "1.0.0":
        path: weights/model-new/1.0.0
        created_at: "2026-05-07T00:00:00Z"
"""


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Measure with all versions published except one, which the pull request adds."""
    versions = 100 if quick else 1000
    root = directory / "repository"
    root.mkdir()
    layout = repository(root, versions)
    _publish(layout)
    (root / "weights/model-new/1.0.0").mkdir(parents=True)
    (root / "weights/model-new/1.0.0/config.json").write_text("{}", encoding="utf-8")
    with layout.index_file.open("a", encoding="utf-8") as stream:
        stream.write(NEW)
    github = FakeGitHub()
    base = _head(root)
    head = _commit(root)
    files = {
        path.relative_to(root).as_posix(): path.read_bytes() for path in (root / "releases").rglob("*.*")
    }
    github.push("main", files, "Start", sha=head)
    number = github.open_pull("feature")
    event = {"pull_request": {"number": number, "base": {"sha": base}}}
    with serving(github) as api:
        job = _Job(root, directory, api, github, event)
        job.install()  # fills the cache of pip
        installed = seconds(job.install) if job.can_install else None
        first = seconds(lambda: job.run("pull_request", "plan"))
        name = f"action: the plan job over {versions:,} versions"
        if installed is not None:
            detail = f"installation {installed:.1f} s, plan and comment {first:.1f} s"
            yield Figure(name, installed + first, "s", maximum=15, detail=detail)
        else:
            yield Figure(
                f"{name}, without the installation", first, "s", detail="pip reaches no package index"
            )
        yield Figure("action: calls of the API, plan and a new comment", job.calls, maximum=12)
        job.run("pull_request", "plan")
        yield Figure("action: calls of the API, the comment says that already", job.calls, maximum=6)
        job.run("push", "apply")
        yield Figure("action: calls of the API, apply and a new pull request", job.calls, maximum=16)
        job.run("push", "apply")
        yield Figure("action: calls of the API, the pull request is there already", job.calls, maximum=9)


@dataclass
class _Job:
    root: Path
    folder: Path
    api: str
    github: FakeGitHub
    event: object
    calls: int = 0
    can_install: bool = True

    def install(self) -> None:
        """Run the first step of action.yml, on a runner with only the cache of pip."""
        subprocess.run(["rm", "-rf", self.folder / "temp"], check=True)
        (self.folder / "temp").mkdir()
        script = PROJECT / "scripts" / "install_action.sh"
        done = subprocess.run(["bash", script], env=self._environ(), check=False, stdout=subprocess.DEVNULL)
        self.can_install = done.returncode == 0

    def run(self, event: str, command: str) -> None:
        """Run the second step and count its API calls."""
        before = self.github.calls
        (self.folder / "event.json").write_text(json.dumps(self.event))
        head = _head(self.root)
        environ = self._environ() | {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_REF": "refs/pull/1/merge" if event == "pull_request" else "refs/heads/main",
            "GITHUB_REF_TYPE": "branch",
            "GITHUB_REF_NAME": "main",
            "GITHUB_SHA": head,
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_API_URL": self.api,
            "GITHUB_WORKSPACE": str(self.root),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_TOKEN": self.github.token,
            "RECONCILE_INPUT_COMMAND": command,
        }
        own = self.folder / "temp" / "reconcile-action" / "bin" / "python"
        python: list[str | Path] = [own, "-I", "-X", "utf8"] if self.can_install else [sys.executable]
        subprocess.run(
            [*python, "-m", "reconciler.cli.action"],
            cwd=self.root,
            env=environ,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.calls = self.github.calls - before

    def _environ(self) -> dict[str, str]:
        place = {"RUNNER_TEMP": str(self.folder / "temp"), "GITHUB_ACTION_PATH": str(PROJECT)}
        return os.environ | place


def _publish(layout: RepositoryLayout) -> None:
    with load(Scope(layout), os.environ, QUIET) as workspace:
        report = apply(make_plan(workspace, RunOptions()), workspace)
    if report.failed:
        raise RuntimeError("the first run failed")
    _commit(layout.root)


def _commit(root: Path) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Change")
    return _head(root)


def _head(root: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main(run)
