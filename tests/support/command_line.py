"""Run the command `reconcile` in tests: in this process, or in a new one for tests of signals, pipes and
terminals.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import main
from tests.support.releases import assert_document
from tests.support.safetensors import safetensors

RUN = [sys.executable, "-c", "from reconciler.cli import main; main()"]

INDEX = """\
# What we keep. This comment stays.
schema: 1
id: acme
defaults: {targets: [store]}
models:
  llm:
    format: safetensors
    license: Apache-2.0
    channels: {stable: "1.0.0"}
    versions:
      "1.1.0":
        path: weights/llm/1.1.0      # the newest
        created_at: "2026-05-07T00:00:00Z"
      "1.0.0":
        path: weights/llm/1.0.0
        created_at: "2026-05-01T00:00:00Z"
"""


@dataclass(frozen=True, slots=True)
class Done:
    """The exit code of a command and its output on each stream."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout, validated against the schema of its kind (pieces are a list)."""
        document = json.loads(self.out)
        assert_document(document["kind"] if isinstance(document, dict) else "pieces", document)
        return document


class CommandLine:
    """`reconcile` in a temporary directory."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._patch = patch
        self._capture = capture

    def __call__(self, *arguments: str | Path, cwd: Path | None = None) -> Done:
        """Run in this process, through the real entry point. Fail on a traceback."""
        self._patch.chdir(cwd or self.root)
        self._patch.setattr(sys, "argv", ["reconcile", *map(str, arguments)])
        self._capture.readouterr()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as caught:
                main()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        said = self._capture.readouterr()
        assert isinstance(caught.value.code, int)
        assert "Traceback" not in said.out + said.err
        assert "this is a bug" not in said.err
        return Done(caught.value.code, said.out, said.err)

    def process(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Done:
        """Run as a new process, with pipes."""
        done = subprocess.run(
            [*RUN, *arguments],
            cwd=self.root,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file below the directory."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def files(self) -> dict[str, bytes]:
        """Return every file by relative path, without locks and caches, which may always exist."""
        return {
            name: path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
            and not (name := path.relative_to(self.root).as_posix()).startswith(
                (".reconcile/cache/", ".reconcile/run", ".reconcile/.gitignore", ".git/")
            )
            and path.name != "lock"
        }

    def releases(self) -> None:
        """Write an index with two versions, and their files."""
        self.write("releases/index.yaml", INDEX)
        for version in ("1.0.0", "1.1.0"):
            self.write(f"weights/llm/{version}/model.safetensors", safetensors(version.encode() * 100))
            self.write(f"weights/llm/{version}/config.json", "{}")

    def cars(self) -> list[Path]:
        """Return the CARs in the default store."""
        return sorted((self.root / ".reconcile/store/cars").glob("*.car"))
