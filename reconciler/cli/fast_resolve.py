"""`reconcile resolve`, which in its simplest form runs without loading the command-line library.

Inference nodes call it at every start. A call with anything but a REF, --json and -C DIR is parsed the
ordinary way, as is every usage error; a test checks that both ways print the same. Importing this
module loads no git and no HTTP library, and resolving against a known index loads no schema validator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import ExitCode

if TYPE_CHECKING:
    from reconciler.index.locations import RepositoryLayout


@dataclass(frozen=True, slots=True)
class PlainResolve:
    """The arguments of a `reconcile resolve` with only REF, --json and -C DIR."""

    ref: str
    directory: Path | None = None
    as_json: bool = False


def plain_resolve(arguments: Sequence[str]) -> PlainResolve | None:
    """Parse a `resolve` with only REF, --json and -C DIR; return None for any other arguments."""
    rest = list(arguments)
    directory = None
    if rest[:1] == ["-C"] and len(rest) > 2:
        directory, rest = Path(rest[1]), rest[2:]
    if rest[:1] != ["resolve"]:
        return None
    del rest[0]
    if "-C" in rest[:-1]:
        at = rest.index("-C")
        directory = Path(rest[at + 1])
        del rest[at : at + 2]
    as_json = rest.count("--json") == 1
    if as_json:
        rest.remove("--json")
    if len(rest) != 1 or rest[0].startswith("-"):
        return None
    return PlainResolve(rest[0], directory, as_json)


def show_resolution(layout: RepositoryLayout, ref: str, *, as_json: bool) -> int:
    """Print the CID of the version that `ref` names, and warnings (yanked, retired) on stderr."""
    from reconciler.cli import output as out
    from reconciler.index.load import load_index
    from reconciler.index.resolve import parse_ref, resolve

    wanted = parse_ref(ref, with_path=True)
    with contextlib.suppress(OSError):  # something may be in its way; then nothing is cached
        layout.make_state()
    found = resolve(load_index(layout.index_file, stamps=layout.cache), wanted)
    for warning in found.warnings:
        out.warn(warning)
    if as_json:
        from reconciler.render.documents import resolution_document

        out.result_json(resolution_document(found, ref))
    else:
        out.result(f"{found.cid}/{found.path}" if found.path else str(found.cid))
    return ExitCode.OK
