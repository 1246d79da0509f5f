"""The entry point of a container image: `reconcile-container URI DEST`, as KServe calls it.

URI is `model://REF` or `ipfs://CID`; DEST is a directory, usually the mount point of an empty volume. KServe
passes only these two arguments, so the index and the gateways come from the environment (RECONCILE_INDEX,
RECONCILE_GATEWAYS) or the user's configuration. The image works as an init container and with `docker run`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reconciler.errors import ExitCode, UsageError

_SCHEMES = ("model://", "ipfs://")


def main() -> None:
    """Run the command `reconcile-container` and exit."""
    from reconciler.cli import run_and_exit

    run_and_exit(lambda: run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Fetch the version or CID of the URI into the directory. Raises UsageError, and what a fetch raises."""
    if len(arguments) != 2 or not arguments[0].startswith(_SCHEMES):
        raise UsageError(
            "expected a URI (model:// or ipfs://) and a directory",
            hint="reconcile-container model://my-llm@^1.2 /models",
        )
    from reconciler.api import fetch
    from reconciler.cli import output as out
    from reconciler.cli.reader_options import ReaderOptions

    ref = arguments[0].split("://", 1)[1].strip("/")
    destination = Path(arguments[1])
    sources = ReaderOptions().sources()
    with out.progress() as progress:
        done = fetch(ref, destination, sources=sources, cache=False, progress=progress)
    out.say(f"{done.root} is at {str(destination)!r}, every block verified")
    return ExitCode.OK
