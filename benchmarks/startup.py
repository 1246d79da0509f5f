"""How quickly a command answers: `resolve` and `--help` as processes, against Python importing typer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import PROJECT, Figure, in_turn, main

_MAIN = "from reconciler.cli import main; main()"


def run(quick: bool, directory: Path) -> Iterator[Figure]:  # noqa: ARG001 - it makes no files
    """Against the project's own releases, whose index was validated before."""
    rounds = 5 if quick else 15
    for name, arguments in (
        ("resolve", ["resolve", "tiny-lm@^1", "-C", str(PROJECT)]),
        ("--help", ["--help"]),
    ):
        _run(_MAIN, *arguments)
        timing = in_turn(lambda arguments=arguments: _run(_MAIN, *arguments), _import_typer, rounds=rounds)  # type: ignore[misc]
        detail = f"{timing.subject * 1000:.0f} ms against {timing.baseline * 1000:.0f} ms"
        yield Figure(f"{name} / python -c 'import typer'", 1 / timing.ratio, maximum=1.6, detail=detail)


def _import_typer() -> None:
    _run("import typer")


def _run(code: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(run)
