"""Run workflows with `act`, without containers and network, in the repository of an `Act`.

The action consists of this project's files. Its install step runs without downloads: the `python3` on its
PATH replaces pip by the packages of the test environment, unless `download=True`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
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
    """One run: act's exit code, the lines of the log, the outputs of the step, and the step summaries."""

    code: int
    lines: list[str]
    outputs: dict[str, str]
    summaries: list[str]

    @property
    def summary(self) -> str:
        (summary,) = self.summaries
        return summary

    @property
    def annotations(self) -> list[str]:
        """The workflow commands that act recognized."""
        return [found[1] for line in self.lines if (found := _OURS.match(line))]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Act:
    """A repository o/r at `root` whose workflows run on this machine; `api` is the URL of the forge."""

    def __init__(self, folder: Path, api: str = "http://127.0.0.1:9") -> None:
        self.root = folder / "repository"
        self.root.mkdir()
        self.folder = folder
        self.api = api
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("remote", "add", "origin", "https://github.com/o/r.git")
        self.action = scratch_copy(folder / "action", commit=False)
        self.programs = folder / "bin"
        self.programs.mkdir()
        python = self.programs / "python3"
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = sysconfig.get_path("purelib")
        python.write_text(_PYTHON.format(packages=packages, name=name, python=sys.executable))
        python.chmod(0o755)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.root, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, message: str = "Change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def step(
        self,
        event: str,
        payload: dict[str, Any] | None = None,
        *,
        token: str = "",
        download: bool = False,
        **inputs: str,
    ) -> Ran:
        """Run a workflow of one step, with `inputs` (underscores for hyphens)."""
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        return self.run(_one_step(given), event, payload, token=token, download=download)

    def run(
        self,
        workflow: str,
        event: str,
        payload: dict[str, Any] | None = None,
        *,
        token: str = "",
        download: bool = False,
        stubs: Mapping[str, Path] | None = None,
    ) -> Ran:
        """Run the text of a workflow for an event. `stubs` replace actions that would be downloaded."""
        kept = self.folder / "kept.json"
        kept.unlink(missing_ok=True)
        file, given = self.folder / "workflow.yml", self.folder / "event.json"
        file.write_text(workflow)
        given.write_text(json.dumps(payload or {}))
        command: list[str | Path] = [ACT, event, "--workflows", file, "--eventpath", given]
        for label in ("ubuntu-24.04", "self-hosted", "weights"):
            command += ["--platform", f"{label}=-self-hosted"]
        command += ["--pull=false", "--action-offline-mode", "--secret", f"GITHUB_TOKEN={token}"]
        command += ["--env", f"GITHUB_API_URL={self.api}", "--env", f"KEPT={kept}"]
        for name, folder in {f"{ACTION}@{COMMIT}": self.action, **(stubs or {})}.items():
            command += ["--local-repository", f"{name}={folder}"]
        environ = os.environ | {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache")}
        if not download:
            environ["PATH"] = f"{self.programs}:{os.environ['PATH']}"
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
        return Ran(
            done.returncode,
            [found[1] if (found := _LINE.match(line)) else line for line in done.stdout.splitlines()],
            json.loads(kept.read_text()) if kept.exists() else {},
            list(dict.fromkeys(_SUMMARY.findall(done.stdout))),
        )


def _one_step(inputs: dict[str, str]) -> str:
    """Return a workflow that runs the action once and saves its outputs."""
    keep = {
        "if": "always()",
        "env": {"OUTPUTS": "${{ toJSON(steps.model.outputs) }}"},
        "run": 'printf %s "$OUTPUTS" >"$KEPT"',
    }
    steps = [{"uses": CHECKOUT}, {"id": "model", "uses": f"{ACTION}@{COMMIT}", "with": inputs}, keep]
    job = {"runs-on": "ubuntu-24.04", "steps": steps}
    return json.dumps({"name": "t", "on": ["push", "pull_request"], "jobs": {"j": job}})
