"""The options that several commands share, declared once as annotated types.

A command lists only the options that it acts on: an option that a command ignores would mislead its user.
Typer reads these annotations at run time, so this module has no postponed evaluation.
"""

from pathlib import Path
from typing import Annotated

import typer

from reconciler.loop.settings import Drift, ProposeMode
from reconciler.targets.check import Check


def _or_before_command(context: typer.Context, directory: Path | None) -> Path | None:
    """Return `directory`, else the one given before the command, as in `reconcile -C DIR plan`."""
    return directory if directory is not None else context.obj


# -- which repository and which files ------------------------------------------------------------------------

Directory = Annotated[
    Path | None,
    typer.Option(
        "-C",
        metavar="DIR",
        callback=_or_before_command,
        help="Repository to operate on (default: the nearest directory with an index, searching upwards).",
    ),
]
NewDirectory = Annotated[
    Path | None,
    typer.Option(
        "-C",
        metavar="DIR",
        callback=_or_before_command,
        help="Directory to create the files in (default: the current directory).",
    ),
]
IndexFile = Annotated[
    Path | None,
    typer.Option("--index", metavar="FILE", help="Path of the index (default: releases/index.yaml)."),
]
AnyIndex = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar="FILE|URL",
        help="Index to read: a file, https://, git+https://…@REF, ipfs:// or ipns:// "
        "(default: releases/index.yaml).",
    ),
]
TargetsFile = Annotated[
    Path | None,
    typer.Option(
        "--targets", metavar="FILE", help="Path of the targets file (default: targets.yaml beside the index)."
    ),
]
SourceRoot = Annotated[
    Path | None,
    typer.Option(
        "--source-root",
        metavar="DIR",
        help="Directory that paths in the index are relative to (default: the repository).",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Use the cached copy of a remote index; make no request for it.")
]
Gateways = Annotated[
    list[str] | None,
    typer.Option("--gateway", metavar="URL", help="Trustless gateway to fetch from; may be repeated."),
]

# -- what to work on -----------------------------------------------------------------------------------------

Ref = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="model@1.2.0, model@^1.2, model@CHANNEL, model (highest version), or a CID."
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="GLOB",
        help="Select only matching models, versions (model@version) or targets; may be repeated. "
        "model@version#2/5 selects the second of five parts of a version with a source.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="GLOB", help="Skip matching models, versions or targets; may be repeated."
    ),
]
Hidden = Annotated[bool, typer.Option("--hidden", help="Include files whose names start with a dot.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Ignore cached hashes and read every byte again.")]

# -- how a run works -----------------------------------------------------------------------------------------

CheckDepth = Annotated[
    Check,
    typer.Option(
        "--check",
        help="How thoroughly to check what targets hold: quick (their listings), sample (also random "
        "blocks) or full (every byte).",
    ),
]
DriftAction = Annotated[
    Drift,
    typer.Option("--drift", help="What to do about published versions that are damaged or missing."),
]
Propose = Annotated[
    ProposeMode,
    typer.Option(
        "--propose",
        help="Where to write resolved CIDs: the working tree (write), a branch, or a pull request; none does "
        "not write them.",
    ),
]
Prune = Annotated[
    bool,
    typer.Option("--prune", help="Unpin content that this index published and no longer requires."),
]
AllowRemovals = Annotated[
    int | None,
    typer.Option(
        "--allow-removals",
        metavar="N",
        min=0,
        help="Maximum number of removals allowed per target (default: built-in thresholds).",
    ),
]
AllowUnpinRepair = Annotated[
    bool,
    typer.Option("--allow-unpin-repair", hidden=True, help="Accepted, without effect: no repair unpins."),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="REF",
        help="Git commit to compare released CIDs with (default: the whole history of HEAD).",
    ),
]

# -- what is printed -----------------------------------------------------------------------------------------

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ExitCodeFlag = Annotated[bool, typer.Option("--exit-code", help="Exit with 3 when changes are pending.")]
Identity = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        metavar="FILE",
        help="Private key that opens a sealed version (default: that of RECONCILE_IDENTITY).",
    ),
]
