"""Entry point of the action's step: `python -I -m reconciler.cli.action`.

While the step runs, the runner does not interpret its output as workflow commands: a name in an index or a
message of a peer could look like one. Only our own annotations are printed outside of that.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from reconciler.cli import guarded, streams
from reconciler.cli.action.step import run_step
from reconciler.errors import ExitCode
from reconciler.render.workflow import Annotation, write_annotations


def main() -> int:
    """Run the step and return its exit code."""
    streams.use_utf8_file_names()
    streams.prepare()
    annotations: list[Annotation] = []
    with _without_commands(sys.stdout):
        code = guarded(lambda: run_step(os.environ, annotations))
    if code not in (ExitCode.OK, ExitCode.PENDING) and not any(one.level == "error" for one in annotations):
        annotations.append(
            Annotation("error", "reconcile", f"the step failed with exit code {code}: see its log")
        )
    write_annotations(annotations, sys.stdout)
    sys.stdout.flush()
    return code


@contextmanager
def _without_commands(stream: TextIO) -> Iterator[None]:
    """Keep the runner from interpreting output as workflow commands while the block runs.

    Source: GitHub's documentation of `stop-commands`. The word that resumes commands cannot be guessed.
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
