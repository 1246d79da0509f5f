"""Measure the start of `resolve` and `--help` against a Python process that imports typer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import PROJECT, Figure, in_turn, main

_MAIN = "from reconciler.cli import main; main()"


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Measure with the releases of this project, validated before; modules are compiled, as after pip."""
    rounds = 5 if quick else 15
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(directory / "compiled")

    def call(code: str, *arguments: str) -> None:
        command = [sys.executable, "-c", code, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

    for name, arguments in (
        ("resolve", ["resolve", "tiny-lm@^1", "-C", str(PROJECT)]),
        ("--help", ["--help"]),
        ("plan --help", ["plan", "--help"]),
    ):
        work, baseline = partial(call, _MAIN, *arguments), partial(call, "import typer")
        work()
        baseline()
        timing = in_turn(work, baseline, rounds=rounds)
        detail = f"{timing.subject * 1000:.0f} ms against {timing.baseline * 1000:.0f} ms"
        yield Figure(f"{name} / python -c 'import typer'", 1 / timing.ratio, maximum=1.5, detail=detail)
        timing = in_turn(work, partial(call, "pass"), rounds=rounds)
        detail = f"{timing.subject * 1000:.0f} ms against {timing.baseline * 1000:.0f} ms"
        yield Figure(f"{name} / python -c pass", 1 / timing.ratio, detail=detail)


if __name__ == "__main__":
    main(run)
