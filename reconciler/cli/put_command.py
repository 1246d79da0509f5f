"""`reconcile put` and `reconcile get`: artifacts without an index entry."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.cli import output as out
from reconciler.content import cid as cids
from reconciler.errors import DataError, ExitCode, UsageError
from reconciler.index.layout import Layout
from reconciler.loop.put import put
from reconciler.render.words import count, plain, size
from reconciler.targets.interface import State


def put_path(
    layout: Layout, path: Path, *, target: str | None, label: str | None, hidden: bool, as_json: bool
) -> int:
    """Publish `path` and print its CID. Raises what `put` raises."""
    if not path.exists():
        raise UsageError(f"no such file or directory: {str(path)!r}")
    layout.make_state()
    with out.progress() as progress:
        done = put(layout, path, target, label, hidden=hidden, environ=os.environ, progress=progress)
    if as_json:
        out.result_json(
            {
                "schema": 1,
                "kind": "put",
                "cid": str(done.root),
                "target": done.target,
                "label": done.label or None,
                "state": done.state.value,
                "files": done.files,
                "size": done.size,
                "blocks": done.blocks,
                "bytes_sent": done.bytes_sent,
                "detail": done.detail,
            }
        )
        return ExitCode.OK
    what = f"{count(done.files, 'file')}, {size(done.size)}"
    how = "accepted by" if done.state is State.PENDING else "kept on"
    out.say(f"{what}, {how} {done.target}" + (f" as {done.label}" if done.label else ""))
    if done.detail:
        out.say(f"note: {plain(done.detail)}")
    out.result(str(done.root))
    return ExitCode.OK


def get_cid(layout: Layout, text: str, destination: Path, *, as_json: bool) -> int:
    """Bring a CID back from the targets of the repository. Raises UsageError unless `text` is a CID."""
    from reconciler.api import Sources
    from reconciler.cli.fetch_command import fetch_version

    try:
        cid = cids.parse(text)
    except DataError as error:
        raise UsageError(
            error.message, hint=error.hint or "get takes a CID; `reconcile fetch` takes versions"
        ) from None
    return fetch_version(
        layout,
        str(cid),
        destination,
        Sources(),
        include=(),
        exclude=(),
        hugging_face_name=None,
        lock=None,
        no_cache=True,
        as_json=as_json,
    )
