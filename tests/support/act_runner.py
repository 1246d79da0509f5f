"""Runs workflows by `act`, without containers and without a network: `Act` has a repository to run them in.

The action is taken from this project's files. Its step that installs runs as it is, but for the download: the
`python` it is given answers for pip with the packages of the test environment. `download=True` leaves pip
alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.scratch import scratch_copy

ACT = Path(sysconfig.get_path("scripts")) / "act"
ACTION = "acme/model-reconciler"
COMMIT = "0" * 40
CHECKOUT = "actions/checkout@" + "1" * 40
_LINE = re.compile(r"^\[[^\]]*\]\s*(?:\|\s?)?(.*)$")
_SUMMARY = re.compile(r"^\[[^\]]*\]\s*\S+\s+Summary - (.*?)(?=^\[|\Z)", re.DOTALL | re.MULTILINE)
_OURS = re.compile(r"^\S+ +(::(?:error|warning|notice) .*)$")

_PYTHON = """\
#!/bin/sh
case " $* " in
*" -m pip "*)
  cd "$RUNNER_TEMP/reconcile-action/lib/{name}/site-packages"
  printf '%s\\n' {packages} "$GITHUB_ACTION_PATH" >shared.pth ;;
*) exec {python} "$@" ;;
esac
"""


@dataclass(frozen=True)
class Ran:
    """One run: whether the job succeeded, every line of its log, and what the steps handed over."""

    code: int
    lines: list[str]
    outputs: dict[str, str]
    summary: str

    @property
    def annotations(self) -> list[str]:
        """The workflow commands that were taken for ones."""
        return [found[1] for line in self.lines if (found := _OURS.match(line))]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Act:
    """A repository o/r at `root` whose workflows run on this machine; `api` is the forge's address."""

    def __init__(self, folder: Path, api: str = "http://127.0.0.1:9") -> None:
        self.root = folder / "repository"
        self.root.mkdir()
        self.folder = folder
        self.api = api
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("remote", "add", "origin", "https://github.com/o/r.git")
        self.action = scratch_copy(folder / "action", commit=False)
        self.python = folder / "python"
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = sysconfig.get_path("purelib")
        self.python.write_text(_PYTHON.format(packages=packages, name=name, python=sys.executable))
        self.python.chmod(0o755)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.root, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, message: str = "Change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def run(
        self,
        event: str,
        payload: dict[str, Any] | None = None,
        *,
        token: str | None = None,
        download: bool = False,
        inputs: dict[str, str] | None = None,
        workflow: str | None = None,
    ) -> Ran:
        """Run a workflow of one step with `inputs`, or the file `workflow`, for an event."""
        kept = self.folder / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        file = self.folder / "workflow.yml"
        text = workflow or one_step(inputs or {}, python="python3" if download else str(self.python))
        file.write_text(text)
        given = self.folder / "event.json"
        given.write_text(json.dumps(payload or {}))
        stand_in = self.folder / "checkout"
        stand_in.mkdir(exist_ok=True)
        (stand_in / "action.yml").write_text(
            "name: checkout\ndescription: x\nruns: {using: composite, steps: []}\n"
        )
        command: list[str | Path] = [ACT, event, "--workflows", file, "--eventpath", given]
        command += ["--platform", "ubuntu-latest=-self-hosted", "--platform", "ubuntu-24.04=-self-hosted"]
        command += ["--pull=false", "--action-offline-mode", "--env", f"GITHUB_API_URL={self.api}"]
        command += ["--env", f"KEPT={kept}", "--local-repository", f"{ACTION}@{COMMIT}={self.action}"]
        command += ["--secret", f"GITHUB_TOKEN={token or ''}"]
        environ = os.environ | {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache")}
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        lines = [found[1] for line in done.stdout.splitlines() if (found := _LINE.match(line))]
        outputs = kept / "outputs.json"
        summary = _SUMMARY.search(done.stdout)
        return Ran(
            done.returncode,
            lines or done.stdout.splitlines(),
            json.loads(outputs.read_text()) if outputs.exists() else {},
            summary[1] if summary else "",
        )


def one_step(inputs: dict[str, str], *, python: str) -> str:
    """A workflow that runs the action once and keeps what it handed over."""
    given = inputs | {"python": python}
    steps = [
        {"uses": CHECKOUT},
        {"id": "model", "uses": f"{ACTION}@{COMMIT}", "with": given},
        {
            "if": "always()",
            "env": {"OUTPUTS": "${{ toJSON(steps.model.outputs) }}"},
            "run": 'printf %s "$OUTPUTS" >"$KEPT/outputs.json"',
        },
    ]
    job = {"runs-on": "ubuntu-latest", "steps": steps}
    return json.dumps({"name": "t", "on": ["push", "pull_request"], "jobs": {"j": job}})
