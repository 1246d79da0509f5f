"""A repository on a fake GitHub, with workflows that `act` runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reconciler.forges.interface import PROPOSAL_BRANCH
from tests.forges.fake_github import FakeGitHub
from tests.support.act_runner import Act
from tests.support.command_line import INDEX

TOKEN = "ghs_canary0123456789"


class Project(Act):
    """A repository with two versions on a fake GitHub, and a store outside it."""

    def __init__(self, folder: Path, github: FakeGitHub, api: str) -> None:
        super().__init__(folder, api)
        self.github = github
        self.write("releases/index.yaml", INDEX)
        store = folder / "store"
        self.write(
            "releases/targets.yaml", json.dumps({"targets": {"store": {"kind": "store", "path": str(store)}}})
        )
        for version in ("1.0.0", "1.1.0"):
            self.write(f"weights/llm/{version}/model.safetensors", version * 100)
        self.push()

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def push(self) -> str:
        """Commit everything, in the clone and on the forge."""
        sha = self.commit()
        names = self.git("ls-files").splitlines()
        self.github.push("main", {name: (self.root / name).read_bytes() for name in names}, "Change", sha=sha)
        return sha

    def pull(self) -> None:
        """Commit what was merged on the forge to the clone, so that both have the same commit."""
        for name, data in self.github.files("main").items():
            self.write(name, data.decode())
        self.push()

    def pull_request(self) -> dict[str, object]:
        """Open a pull request for the last commit; return the event for a runner."""
        base = self.git("rev-parse", "HEAD^")
        number = self.github.open_pull("feature")
        return {
            "pull_request": {
                "number": number,
                "base": {"sha": base, "ref": "main"},
                "head": {"ref": "feature"},
            }
        }

    def proposals(self) -> list[dict[str, Any]]:
        """Return the open pull requests with resolved CIDs."""
        return [pull for pull in self.github.open_pulls() if pull["head"] == PROPOSAL_BRANCH]

    def cars(self) -> list[Path]:
        return sorted((self.folder / "store").rglob("*.car"))
