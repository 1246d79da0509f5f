"""`reconcile add` and `reconcile init`: edits of the index that a person would make by hand."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from reconciler.cli import output as out
from reconciler.content.scan import scan
from reconciler.errors import ExitCode, UsageError
from reconciler.index.edits import add_version, write_edit
from reconciler.index.layout import INDEX, Layout
from reconciler.index.load import load_index
from reconciler.render.words import count, size


def add_version_to_index(
    layout: Layout,
    model: str,
    version: str,
    path: str,
    *,
    format: str | None,  # noqa: A002
    license: str | None,  # noqa: A002
    created_at: str | None,
    as_json: bool,
) -> int:
    """Write one more version into the index, after looking at its directory. Raises InvalidIndex,
    BundleError.
    """
    load_index(layout.index_file)
    inside = _relative_path(layout, path)
    listing = scan(layout.source_root / inside, include_hidden=False)
    if not listing.files:
        raise UsageError(f"no files in {path!r}")
    text = layout.index_file.read_bytes().decode("utf-8")
    created_at = created_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    edited = add_version(
        text,
        model,
        version,
        path=inside,
        created_at=created_at,
        format=format,
        license=license,
        name=str(layout.index_file),
    )
    write_edit(layout.index_file, text, edited)
    if as_json:
        out.result_json(
            {
                "schema": 1,
                "kind": "added",
                "model": model,
                "version": version,
                "path": inside,
                "created_at": created_at,
                "index": str(layout.index_file),
            }
        )
    else:
        total = sum(file.stamp.size for file in listing.files)
        out.result(f"added {model}@{version} to {layout.index_file}")
        out.say(f"{count(len(listing.files), 'file')}, {size(total)}, in {inside}")
        if listing.hidden:
            left = count(len(listing.hidden), "hidden entry", "hidden entries")
            out.say(f"note: {left} left out; `hidden: include` takes them")
        out.say("next: `reconcile --dry-run` shows what a run would do")
    return ExitCode.OK


def _relative_path(layout: Layout, path: str) -> str:
    """`path` as the index writes it: relative to the source root, with slashes. Raises UsageError."""
    root = layout.source_root.resolve()
    for candidate in (layout.source_root / path, Path(path)):
        if candidate.is_dir() and candidate.resolve().is_relative_to(root):
            return candidate.resolve().relative_to(root).as_posix()
    if Path(path).is_dir():
        raise UsageError(
            f"{path!r} is outside {str(layout.source_root)!r}",
            hint="move it there, or say with --source-root where the paths of the index begin",
        )
    raise UsageError(f"no such directory: {path!r}")


INDEX_TEXT = """\
# Which versions of which models must exist. People write this file; the reconciler only adds `cid` lines.
schema: 1
id: {id}                # marks what is ours on every target; chosen once
defaults: {{targets: [store]}}
models: {{}}
"""

TARGETS_TEXT = """\
# What the target names of the index mean. Addresses stand here and nowhere else; secrets stand in environment
# variables that are named here.
targets:
  store: {kind: store, path: .reconcile/store}
  # node: {kind: kubo, api: "http://127.0.0.1:5001", token_env: KUBO_RPC_TOKEN}
"""


def make_index(root: Path, index_id: str | None, *, as_json: bool) -> int:
    """Make both files below `root`; what exists is left alone. Raises UsageError."""
    if not root.is_dir():
        raise UsageError(f"not a directory: {str(root)!r}")
    name = index_id or re.sub(r"[^a-z0-9._-]+", "-", root.resolve().name.lower()).strip("-._") or "models"
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise UsageError(
            f"{name!r} cannot be an index id", hint="lower-case letters, digits, '.', '_' and '-', at most 64"
        )
    made: list[Path] = []
    for file, text in (
        (root / INDEX, INDEX_TEXT.format(id=name)),
        (root / INDEX.with_name("targets.yaml"), TARGETS_TEXT),
    ):
        if file.exists():
            out.say(f"{file} exists already; left alone")
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        made.append(file)
    if (root / INDEX) not in made:
        raise UsageError(f"{root / INDEX} exists already", hint="`reconcile add` adds versions to it")
    if as_json:
        out.result_json({"schema": 1, "kind": "init", "id": name, "made": [str(file) for file in made]})
        return ExitCode.OK
    for file in made:
        out.result(f"made {file}")
    out.say("next: `reconcile add MODEL VERSION PATH`, then `reconcile --dry-run`")
    return ExitCode.OK
