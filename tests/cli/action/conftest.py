"""A repository, the forge it is on, and the jobs that run for it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.action.step import run_step
from reconciler.errors import ExitCode, ReconcilerError
from reconciler.forges.github import host
from reconciler.render.workflow import Annotation
from tests.forges.fake_github import FakeGitHub
from tests.support.command_line import INDEX, CommandLine
from tests.support.github_server import serving
from tests.support.project_on_github import TOKEN, Project


@dataclass
class Step:
    """The result of a step, and everything it passed to the runner."""

    code: int
    error: ReconcilerError | None
    annotations: list[Annotation]
    outputs: dict[str, str]
    summary: str

    @property
    def document(self) -> Any:
        return json.loads(Path(self.outputs["plan-json"]).read_text())


@dataclass
class Jobs:
    """Steps of the action over `reconcile`, each in the environment of a job, in this process."""

    reconcile: CommandLine
    github: FakeGitHub
    api: str
    patch: pytest.MonkeyPatch
    ran: list[Step] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.reconcile.root

    def __call__(self, event: str, payload: dict[str, Any] | None = None, **inputs: str) -> Step:
        """Run one step for an event; `inputs` have underscores for hyphens. `TOKEN` is the token."""
        folder = self.root.parent / f"step-{len(self.ran)}"
        folder.mkdir()
        (folder / "event.json").write_text(json.dumps(payload or {}))
        token = inputs.pop("TOKEN", self.github.token)
        environ = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "GITHUB_REF": "refs/pull/1/merge" if event == "pull_request" else "refs/heads/main",
            "GITHUB_REF_TYPE": "branch",
            "GITHUB_REF_NAME": "main",
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_API_URL": self.api,
            "GITHUB_RUN_ID": "77",
            "GITHUB_WORKSPACE": str(self.root),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_TOKEN": token,
            "RUNNER_TEMP": str(folder),
        }
        environ |= {
            name: value for name, value in os.environ.items() if name.startswith("RECONCILE_PROPOSAL_")
        }
        environ |= {f"RECONCILE_INPUT_{name.upper()}": value for name, value in inputs.items()}
        self.patch.chdir(self.root)
        told: list[Annotation] = []
        error: ReconcilerError | None = None
        try:
            code = run_step(environ, told)
        except ReconcilerError as raised:
            code, error = raised.exit_code, raised
        summary = folder / "summary"
        step = Step(
            ExitCode(code),
            error,
            told,
            read_outputs(folder / "output"),
            summary.read_text() if summary.exists() else "",
        )
        self.ran.append(step)
        return step

    def comments(self) -> list[str]:
        return [one["body"] for one in self.github.comments]


def read_outputs(file: Path) -> dict[str, str]:
    """Return the outputs that a runner reads from the file of GITHUB_OUTPUT."""
    found = {}
    lines = iter(file.read_text().splitlines())
    for line in lines:
        name, _, delimiter = line.partition("<<")
        value = []
        while (line := next(lines)) != delimiter:
            value.append(line)
        found[name] = "\n".join(value)
    return found


@pytest.fixture
def github() -> FakeGitHub:
    """With pull request 1, from the branch feature."""
    fake = FakeGitHub()
    fake.push("main", {"releases/index.yaml": INDEX.encode()}, "Add llm")
    fake.open_pull("feature")
    return fake


@pytest.fixture
def jobs(reconcile: CommandLine, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Over two versions that are still to be published."""
    subprocess.run(["git", "init", "--quiet", reconcile.root], check=True)
    monkeypatch.setattr(host, "_WRITE_GAP", 0.0)  # tests of the forge show that it is kept
    with serving(github) as api:
        yield Jobs(reconcile, github, api, monkeypatch)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Two versions that are still to be published, for workflows that `act` runs."""
    fake = FakeGitHub(token=TOKEN)
    with serving(fake) as api:
        yield Project(tmp_path, fake, api)
