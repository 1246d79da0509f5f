"""Who released what and when, from the git history of the index.

A version is released by the oldest commit in which it has its CID; the proposal is the pull request that this
commit, as forges word their merges, came with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reconciler.errors import UserError, Where
from reconciler.index.history import MAX_COMMITS
from reconciler.index.published import Published
from reconciler.index.repository import History

_MAX_COMMIT = 1 << 20
_AUTHOR = re.compile(r"^author (?P<name>.*?) ?<[^>]*> (?P<seconds>\d{1,12}) [+-]\d{4}$", re.MULTILINE)
_PROPOSAL = re.compile(
    r"\(#(\d+)\)\s*$|^Merge pull request #(\d+) |^See merge request \S*!(\d+)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Release:
    """One version as first published. `when` is UTC, RFC 3339; `proposal` a number, "" when unknown."""

    version: str
    cid: str
    commit: str
    author: str
    when: str
    subject: str
    proposal: str = ""


def release_log(index_file: Path, model: str) -> tuple[Release, ...]:
    """The releases of `model` in the history of HEAD, newest first.

    Raises UserError when there is no repository, or git cannot read it.
    """
    history = History.open(index_file)
    if history is None:
        raise UserError("there is no git repository, so no history", where=Where(str(index_file)))
    found: dict[tuple[str, str], Release] = {}
    with history:
        if history.head() is None:
            return ()
        for commit, oid in history.introductions(MAX_COMMITS):
            for ref, cids in Published.of(history, [(commit, oid)]).cids.items():
                name, _, version = ref.partition("@")
                for cid in cids if name == model else ():
                    if (version, cid) not in found:
                        found[version, cid] = _release(history, version, cid, commit)
    return tuple(reversed(found.values()))


def _release(history: History, version: str, cid: str, commit: str) -> Release:
    text = (history.read(commit, _MAX_COMMIT, "commit") or b"").decode("utf-8", "replace")
    head, _, message = text.partition("\n\n")
    author = _AUTHOR.search(head)
    when = datetime.fromtimestamp(int(author["seconds"]), UTC) if author else None
    proposal = _PROPOSAL.search(message)
    return Release(
        version=version,
        cid=cid,
        commit=commit,
        author=author["name"] if author else "",
        when=when.strftime("%Y-%m-%dT%H:%M:%SZ") if when else "",
        subject=message.partition("\n")[0],
        proposal=next((number for number in proposal.groups() if number), "") if proposal else "",
    )
