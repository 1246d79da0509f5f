"""The cache layout of huggingface_hub, so that its readers load a version offline.

    <cache>/models--<org>--<name>/snapshots/<revision>/<files>      refs/<version | channel | main | CID>

A revision has to be 40 hex digits to be one; it is the head of the root's digest. Readers take files where
the Hub has links into blobs/. Source: huggingface.co/docs/hub/local-cache; tried with huggingface_hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.errors import UsageError
from reconciler.index.replace_file import replace_file

_KINDS = {"model": "models", "dataset": "datasets"}
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)?[A-Za-z0-9_][A-Za-z0-9._-]*")
_LONGEST = 96


def repository(cache: Path, name: str, kind: str = "model") -> Path:
    """Where `name` (or `org/name`) is kept in `cache`.

    Raises UsageError for a kind that the layout lacks, and for a name that readers refuse (as
    `validate_repo_id` of huggingface_hub does).
    """
    ends = any(part.endswith((".", "-", ".git")) for part in name.split("/"))
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or "--" in name or ".." in name or ends:
        raise UsageError(
            f"{name!r} is no name of a repository for huggingface_hub", hint="such as my-llm, or acme/my-llm"
        )
    if kind not in _KINDS:
        raise UsageError(f"the layout of huggingface_hub has no place for a {kind}", hint="fetch it plainly")
    return cache / f"{_KINDS[kind]}--{name.replace('/', '--')}"


def revision(root: Cid) -> str:
    """The 40 hex digits under which the root is known."""
    return root.digest.hex()[:40]


def snapshot(repo: Path, root: Cid) -> Path:
    """Where the files of `root` go."""
    return repo / "snapshots" / revision(root)


def name_it(repo: Path, root: Cid, names: Iterable[str]) -> None:
    """Make `names`, the CID and `main` lead to the snapshot of `root`. Raises OSError."""
    (repo / "blobs").mkdir(parents=True, exist_ok=True)
    (repo / "refs").mkdir(exist_ok=True)
    for name in (*names, str(root), "main"):
        replace_file(repo / "refs" / name, revision(root).encode(), 0o644)
