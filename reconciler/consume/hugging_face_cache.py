"""The cache layout of huggingface_hub, so that libraries based on it load a version offline.

    <cache>/models--<org>--<name>/snapshots/<revision>/<files>      refs/<version | channel | main | CID>

A revision must be 40 hex digits; it is the beginning of the root's digest. The snapshot contains regular
files, where the Hub has links into blobs/; readers accept both. Source: huggingface.co/docs/hub/local-cache;
tested with huggingface_hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.errors import UsageError
from reconciler.fs import replace_file

_KINDS = {"model": "models", "dataset": "datasets"}
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)?[A-Za-z0-9_][A-Za-z0-9._-]*")
_LONGEST = 96


def repository(cache: Path, name: str, kind: str = "model") -> Path:
    """Return the directory of the repository `name` (or `org/name`) in `cache`.

    Raises UsageError for a kind that the layout cannot contain, and for a name that readers reject (see
    `validate_repo_id` of huggingface_hub).
    """
    bad_ending = any(part.endswith((".", "-", ".git")) for part in name.split("/"))
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or "--" in name or ".." in name or bad_ending:
        raise UsageError(
            f"{name!r} is not a valid repository name for huggingface_hub", hint="e.g. my-llm or acme/my-llm"
        )
    if kind not in _KINDS:
        raise UsageError(
            f"the cache of huggingface_hub cannot contain a {kind}", hint="fetch it without --hf-name"
        )
    return cache / f"{_KINDS[kind]}--{name.replace('/', '--')}"


def revision(root: Cid) -> str:
    """Return the revision of `root`: 40 hex digits."""
    return root.digest.hex()[:40]


def snapshot(repo: Path, root: Cid) -> Path:
    """Return the directory for the files of `root`."""
    return repo / "snapshots" / revision(root)


def write_refs(repo: Path, root: Cid, names: Iterable[str]) -> None:
    """Point the refs `names`, the CID and `main` to the snapshot of `root`. Raises OSError."""
    (repo / "blobs").mkdir(parents=True, exist_ok=True)
    (repo / "refs").mkdir(exist_ok=True)
    for name in (*names, str(root), "main"):
        replace_file(repo / "refs" / name, revision(root).encode(), mode=0o644)
