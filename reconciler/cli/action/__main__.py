"""Start of the action's step: `python -I -m reconciler.cli.action`.

While the step works, the runner is told to take nothing in its log for a command: names from an index, or
what a peer says, could be one. Only our own annotations are printed outside of that.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from reconciler.cli import guarded
from reconciler.cli.action.step import run_step
from reconciler.errors import ExitCode
from reconciler.render.workflow import Annotation, write_annotations


def main() -> int:
    """Run the step; its exit code."""
    told: list[Annotation] = []
    with _no_commands(sys.stdout):
        code = guarded(lambda: run_step(os.environ, told))
    if code not in (ExitCode.OK, ExitCode.PENDING) and not any(one.level == "error" for one in told):
        told.append(Annotation("error", "reconcile", f"the step failed with exit code {code}: see its log"))
    write_annotations(told, sys.stdout)
    sys.stdout.flush()
    return code


@contextmanager
def _no_commands(stream: TextIO) -> Iterator[None]:
    """Nothing printed meanwhile is a workflow command.

    Source: GitHub's documentation of `stop-commands`; the word that ends it cannot be guessed.
    """
    word = secrets.token_hex(16)
    print(f"::stop-commands::{word}", file=stream, flush=True)
    try:
        yield
    finally:
        sys.stderr.flush()
        print(f"::{word}::", file=stream, flush=True)


if __name__ == "__main__":
    sys.exit(main())
