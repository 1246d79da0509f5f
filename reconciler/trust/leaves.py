"""Leaves: the events of versions that an audit log records, and the files that hold them.

    releases/log/leaves/<model>@<version>.<number>.json

One leaf is one line of JSON with sorted keys and without spaces; without its line break it is the entry of
the log. Leaves of one version are numbered from 1 and never change. As each has a file of its own, branches
that add leaves merge without a conflict. Everything here is pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from reconciler.errors import DataError, TrustError
from reconciler.json_fields import load_json

LEAVES = "leaves"  #: the directory of the leaves in that of the log


class LeafEvent(StrEnum):
    """What happened to a version."""

    RELEASE = "release"  #: it got its CID
    RECORD = "record"  #: its record was written, or facts were added to it
    YANK = "yank"
    UNYANK = "unyank"
    RETIRE = "retire"
    RESTORE = "restore"  #: it is no longer retired
    REMOVE = "remove"  #: it is no longer in the index
    RETURN = "return"  #: it is in the index again


_SEGMENT = r"(?!\.)[A-Za-z0-9._+-]{1,200}"
_ENTRY = re.compile(
    r'\{"cid":"(?P<cid>b[a-z2-7]{20,200})"'
    rf',"event":"(?P<event>{"|".join(LeafEvent)})"'
    r',"index":"(?P<index>[A-Za-z0-9][A-Za-z0-9._-]{0,127})"'
    rf',"model":"(?P<model>{_SEGMENT}(?:/{_SEGMENT})?)"'
    r',"number":(?P<number>[1-9][0-9]{0,5})'
    r'(?:,"reason":(?P<reason>"(?:[^"\\\x00-\x1f]|\\.){1,4000}"))?'
    r'(?:,"record":"(?P<record>[0-9a-f]{64})")?'
    rf',"version":"(?P<version>{_SEGMENT})"\}}'
)


@dataclass(frozen=True, slots=True)
class LogLeaf:
    """One event of one version of the index `index`; `number` counts the events of the version from 1.

    `record` is the SHA-256 of the file of its record in hex, "" without one, for a release and a record;
    `reason` is that of a yank.
    """

    index: str
    model: str
    version: str
    number: int
    event: LeafEvent
    cid: str
    record: str = ""
    reason: str = ""

    @property
    def ref(self) -> str:
        """`model@version`."""
        return f"{self.model}@{self.version}"

    @property
    def path(self) -> str:
        """The path of its file in the directory of the log."""
        return leaf_path(self.model, self.version, self.number)

    @property
    def order(self) -> tuple[str, str, int]:
        """The key by which leaves are ordered that were merged together."""
        return self.model, self.version, self.number

    def entry(self) -> bytes:
        """Return its bytes in the log."""
        fields = {
            "cid": self.cid,
            "event": self.event.value,
            "index": self.index,
            "model": self.model,
            "number": self.number,
            "version": self.version,
        }
        fields |= {name: text for name in ("record", "reason") if (text := getattr(self, name))}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def file(self) -> bytes:
        """Return the bytes of its file."""
        return leaf_file(self.entry())


@dataclass(frozen=True, slots=True)
class LoggedState:
    """What the log says about a version, or what the repository says: `cid` is "" before it is released.

    `record` is as in LogLeaf, `yanked` the reason, "" without one.
    """

    cid: str = ""
    record: str = ""
    yanked: str = ""
    retired: bool = False
    removed: bool = False


UNRELEASED = LoggedState()


def leaf_file(entry: bytes) -> bytes:
    """Return the bytes of the file of a leaf with this entry."""
    return entry + b"\n"


def leaf_path(model: str, version: str, number: int) -> str:
    """Return the path of a leaf in the directory of the log."""
    return f"{LEAVES}/{model}@{version}.{number}.json"


def parse_leaf(entry: bytes, what: str) -> LogLeaf:
    """Parse an entry of the log, in exactly the form that `LogLeaf.entry` writes; errors call it `what`.

    Raises DataError.
    """
    try:
        match = _ENTRY.fullmatch(entry.decode("utf-8"))
        reason = "" if match is None or match["reason"] is None else load_json(match["reason"])
    except ValueError:
        match, reason = None, ""
    if match is None:
        raise DataError(f"{what} is not a leaf: {entry[:200].decode('utf-8', 'replace')!r}")
    leaf = LogLeaf(
        match["index"],
        match["model"],
        match["version"],
        int(match["number"]),
        LeafEvent(match["event"]),
        match["cid"],
        match["record"] or "",
        str(reason),
    )
    if reason and leaf.entry() != entry:  # the only field with several spellings
        raise DataError(f"{what} is not a leaf: its reason has another form")
    return leaf


def parse_leaf_file(data: bytes, path: str) -> LogLeaf:
    """Parse the file of a leaf at `path` in the directory of the log. Raises DataError."""
    leaf = parse_leaf(data.removesuffix(b"\n"), path)
    if leaf.path != path or not data.endswith(b"\n"):
        raise DataError(f"{path} has the leaf of {leaf.path}", hint="restore it from the git history")
    return leaf


def read_chain(read: Callable[[str], bytes | None], model: str, version: str) -> tuple[LogLeaf, ...]:
    """Return the leaves of a version in order; `read` returns a file of the log. Raises DataError."""
    found: list[LogLeaf] = []
    while (data := read(path := leaf_path(model, version, len(found) + 1))) is not None:
        found.append(parse_leaf_file(data, path))
    return tuple(found)


def replay(chain: Iterable[LogLeaf]) -> LoggedState:
    """Return what the leaves of one version, in order, say about it.

    Raises TrustError when they contradict each other: another CID, or a number that is missing or occurs
    twice.
    """
    state = UNRELEASED
    for expected, leaf in enumerate(chain, start=1):
        if leaf.number != expected:
            raise TrustError(f"{leaf.ref}: leaf {leaf.number} follows leaf {expected - 1} in the log")
        if state.cid and leaf.cid != state.cid:
            raise TrustError(
                f"{leaf.ref} was logged as {state.cid}, and as {leaf.cid} in leaf {leaf.number}",
                hint="a released CID is immutable: the log or the index was altered",
            )
        if (leaf.event is LeafEvent.RELEASE) != (expected == 1):
            raise TrustError(
                f"{leaf.ref}: leaf {leaf.number} is a {leaf.event.value}; the first is a release"
            )
        state = _after(state, leaf)
    return state


def _after(state: LoggedState, leaf: LogLeaf) -> LoggedState:
    match leaf.event:
        case LeafEvent.RELEASE:
            return LoggedState(leaf.cid, leaf.record)
        case LeafEvent.RECORD:
            return replace(state, record=leaf.record)
        case LeafEvent.YANK | LeafEvent.UNYANK:
            return replace(state, yanked=leaf.reason)
        case LeafEvent.RETIRE | LeafEvent.RESTORE:
            return replace(state, retired=leaf.event is LeafEvent.RETIRE)
        case LeafEvent.REMOVE | LeafEvent.RETURN:
            return replace(state, removed=leaf.event is LeafEvent.REMOVE)


def new_leaves(
    index: str, model: str, version: str, chain: Sequence[LogLeaf], now: LoggedState
) -> tuple[LogLeaf, ...]:
    """Return the leaves that lead from what `chain` says about a version to `now`, none when it says that.

    Raises TrustError when the version was logged with another CID.
    """
    before = replay(chain)
    made: list[LogLeaf] = []

    def add(event: LeafEvent, *, record: str = "", reason: str = "") -> None:
        number = len(chain) + len(made) + 1
        made.append(LogLeaf(index, model, version, number, event, now.cid, record, reason))

    if not before.cid:
        if not now.cid or now.removed:
            return ()
        add(LeafEvent.RELEASE, record=now.record)
        before = LoggedState(now.cid, now.record)
    if now.cid != before.cid:
        raise TrustError(
            f"{model}@{version} was logged as {before.cid}, and is {now.cid or 'without a CID'} now",
            hint="a released CID is immutable: restore it, and release the changed content as a new version",
        )
    if now.removed != before.removed:
        add(LeafEvent.REMOVE if now.removed else LeafEvent.RETURN)
    if now.removed:
        return tuple(made)
    if now.record not in ("", before.record):
        add(LeafEvent.RECORD, record=now.record)
    if now.yanked != before.yanked:
        add(LeafEvent.YANK if now.yanked else LeafEvent.UNYANK, reason=now.yanked)
    if now.retired != before.retired:
        add(LeafEvent.RETIRE if now.retired else LeafEvent.RESTORE)
    return tuple(made)
