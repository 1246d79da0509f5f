"""The facts that the git history of an index proves: frozen CIDs, and who released what and when.

Frozen CIDs: the index is compared with every content that its file had in the history of HEAD (or, with a
base, in that one commit). Violations are a version whose CID changed, a version that lost its CID, and a
protected version that was removed, retired, or removed from a target. Removing an unprotected version is a
matter for prune. A commit of its own may remove the protection.

The history of a long-lived index is read once: the result is kept in the cache directory. That file is
ignored when the repository itself tracks it, and the stamp of the last check names the commit of HEAD, which
no commit can contain; so a commit cannot bypass the check.

The release log: a version is released by the oldest commit in which it has its CID. The proposal is the pull
request of this commit, as forges word their merge commits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from reconciler.content import cid as cids
from reconciler.errors import DataError, InvalidIndexError, LockedError, UsageError, UserError, Where
from reconciler.fs import replace_file
from reconciler.git.file_history import FileHistory
from reconciler.git.repository import head_without_git
from reconciler.index import guarded_yaml
from reconciler.index.guarded_yaml import YamlMapping, YamlNode, YamlScalar
from reconciler.index.load import DEFAULT_TARGETS
from reconciler.index.model import Index, Version
from reconciler.index.schemas import is_stamped, write_stamp
from reconciler.json_fields import JsonFields, load_json
from reconciler.version import __version__

_FORMAT = 1
_MAX_CACHE = 256 << 20


@dataclass(frozen=True, slots=True)
class LastState:
    """A version in the newest commit that has it: whether it is protected, and if so its targets."""

    commit: str
    protected: bool
    targets: tuple[str, ...] = ()


@dataclass(slots=True)
class Published:
    """Facts from a series of contents of the index. Keys are `model@version`.

    `cids` has every CID that a version ever had, with the newest commit that has it, newest first; `last` the
    newest state of a version; `oids` the object ids of the contents read, newest first; `unreadable` how many
    of them were not a readable index.
    """

    cids: dict[str, dict[str, str]] = field(default_factory=dict)
    last: dict[str, LastState] = field(default_factory=dict)
    oids: list[str] = field(default_factory=list)
    unreadable: int = 0

    @classmethod
    def of(cls, history: FileHistory, contents: Iterable[tuple[str, str]]) -> Self:
        """Read the facts of `contents`: (commit, object id), newest first."""
        published = cls()
        published.add_older(history, contents)
        return published

    def add_older(self, history: FileHistory, contents: Iterable[tuple[str, str]]) -> None:
        """Add contents that are older than all those added before."""
        for commit, oid in contents:
            self.oids.append(oid)
            data = history.read(oid, guarded_yaml.MAX_BYTES)
            try:
                if data is None:
                    raise InvalidIndexError("too large")
                tree = guarded_yaml.parse(guarded_yaml.decode(data, oid), oid)
            except InvalidIndexError:
                self.unreadable += 1
                continue
            self._add(commit, tree)

    def extend(self, older: Published) -> None:
        """Add the facts of contents that are all older."""
        for ref, known in older.cids.items():
            mine = self.cids.setdefault(ref, {})
            for cid, commit in known.items():
                mine.setdefault(cid, commit)
        for ref, state in older.last.items():
            self.last.setdefault(ref, state)
        self.oids += older.oids
        self.unreadable += older.unreadable

    def _add(self, commit: str, tree: YamlNode) -> None:
        defaults = _targets(_child(tree, "defaults")) or DEFAULT_TARGETS
        for model, body in _items(_child(tree, "models")):
            inherited = _targets(body) or defaults
            for version, node in _items(_child(body, "versions")):
                ref = f"{model}@{version}"
                if isinstance(cid := _child(node, "cid"), YamlScalar) and _is_cid(cid):
                    self.cids.setdefault(ref, {}).setdefault(str(cid), commit)
                if ref not in self.last:
                    protected = _child(node, "protect") == "true"
                    targets = (_targets(node) or inherited) if protected else ()
                    self.last[ref] = LastState(commit, protected, targets)


def load_published(file: Path) -> Published | None:
    """Load what an earlier run saved in `file`; None when it is missing or damaged."""
    try:
        if file.stat().st_size > _MAX_CACHE:
            return None
        fields = JsonFields(load_json(file.read_bytes()), ValueError)
        if fields.number("format") != _FORMAT:
            return None
        last = {ref: _last_state(fields.at("last", ref)) for ref in fields.mapping("last")}
        cids = {ref: fields.at("cids", ref).words() for ref in fields.mapping("cids")}
        oids = [item.text() for item in fields.items("oids")]
        return Published(cids, last, oids, fields.number("unreadable"))
    except (OSError, ValueError):
        return None


def _last_state(fields: JsonFields) -> LastState:
    targets = tuple(item.text() for item in fields.items("targets"))
    return LastState(fields.text("commit"), fields.flag("protected"), targets)


def save_published(file: Path, published: Published) -> None:
    """Save `published` for later runs. A cache that cannot be written is not an error."""
    data = json.dumps({"format": _FORMAT, **asdict(published)}).encode()
    with contextlib.suppress(OSError, LockedError):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, data, mode=0o600, sync=False)


def _is_cid(text: str) -> bool:
    """Return whether `text` is a CID; a placeholder that was once committed was never published."""
    try:
        cids.parse_canonical(text)
    except DataError:
        return False
    return True


def _child(node: YamlNode | None, key: str) -> YamlNode | None:
    return node.value(key) if isinstance(node, YamlMapping) else None


def _items(node: YamlNode | None) -> Sequence[tuple[YamlScalar, YamlNode]]:
    return list(node.items()) if isinstance(node, YamlMapping) else []


def _targets(node: YamlNode | None) -> tuple[str, ...]:
    names = _child(node, "targets")
    return tuple(str(name) for name in names) if isinstance(names, guarded_yaml.YamlSequence) else ()


MAX_COMMITS = 5000  #: commits touching the index that are read

_STAMP = "frozen"
_MAX_COMMIT = 1 << 20  # bytes of one commit object
_AUTHOR = re.compile(r"^author (?P<name>.*?) ?<[^>]*> (?P<seconds>\d{1,12}) [+-]\d{4}$", re.MULTILINE)
_PROPOSAL = re.compile(
    r"\(#(\d+)\)\s*$|^Merge pull request #(\d+) |^See merge request \S*!(\d+)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One version that violates the rules: `ref` (model@version), its line, a message and a hint."""

    ref: str
    where: Where
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class FrozenCheck:
    """The violations, what the index was compared with (`checked`), and whether all history was read."""

    violations: tuple[Violation, ...]
    checked: str
    complete: bool = True


def check_frozen(index: Index, *, base: str | None = None, cache: Path | None = None) -> FrozenCheck:
    """Compare `index` with the git history of its file.

    `base` is a commit to compare with instead of the whole history of HEAD, `cache` a directory that may be
    deleted at any time. Raises UsageError when `base` names no commit, UserError when git cannot read the
    repository.
    """
    file = index.file
    key = None
    if base is None and cache is not None:
        key = _key(file, index, head_without_git(file.parent.resolve()))
        if key is not None and is_stamped(cache, _STAMP, key):
            return FrozenCheck((), "the history of HEAD (unchanged since the last check)")
    history = FileHistory.open(file)
    if history is None:
        if base is not None:
            raise UsageError(f"cannot compare with {base!r}: no git repository")
        return FrozenCheck((), "nothing: there is no git repository")
    if base is not None:
        return _check_base(history, index, base)
    result = _check_head(history, index, cache)
    if key is not None and cache is not None and result.complete and not result.violations:
        write_stamp(cache, _STAMP, key)
    return result


def _key(file: Path, index: Index, head: str | None) -> str | None:
    """Return the stamp of a successful check; None when HEAD is not known."""
    if head is None:
        return None
    parts = (__version__, head, str(file.resolve()), index.digest)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _check_base(history: FileHistory, index: Index, base: str) -> FrozenCheck:
    commit = history.commit(base)
    if commit is None:
        hint = "fetch it first (actions/checkout: fetch-depth: 0)"
        raise UsageError(f"{base!r} is not a commit of this repository", hint=hint)
    oid = history.blob(commit)
    if oid is None:
        return FrozenCheck((), f"nothing: {base} ({commit[:12]}) has no {history.path}")
    published = Published()
    published.add_older(history, [(commit, oid)])
    return _result(index, published, f"{base} ({commit[:12]})", incomplete="")


def _check_head(history: FileHistory, index: Index, cache: Path | None) -> FrozenCheck:
    if history.head() is None:
        return FrozenCheck((), "nothing: there is no commit yet")
    contents, is_all = history.contents(MAX_COMMITS)
    if not contents:
        return FrozenCheck((), f"nothing: no commit has {history.path}", complete=not history.is_shallow())
    incomplete = ""
    if history.is_shallow():
        incomplete = "the clone is shallow (actions/checkout: fetch-depth: 0)"
    elif not is_all:
        incomplete = f"only the {MAX_COMMITS} newest commits that touched it were read"
    published = _published(history, contents, cache)
    return _result(index, published, f"{len(contents)} revisions in the history of HEAD", incomplete)


def _published(history: FileHistory, contents: list[tuple[str, str]], cache: Path | None) -> Published:
    """Return what `contents` published; older contents that the cache knows are not read again."""
    if cache is None:
        return Published.of(history, contents)
    file = cache / "published.json"
    known = None if history.tracks(file) else load_published(file)
    oids = [oid for _, oid in contents]
    if known is not None and known.oids and oids[-len(known.oids) :] == list(known.oids):
        newer = contents[: len(oids) - len(known.oids)]
        published = Published.of(history, newer)
        published.extend(known)
    else:
        newer, published = contents, Published.of(history, contents)
    if newer:
        save_published(file, published)
    return published


def _result(index: Index, published: Published, checked: str, incomplete: str) -> FrozenCheck:
    notes = [incomplete] if incomplete else []
    if published.unreadable:
        notes.append(f"{published.unreadable} of them could not be read as an index")
    violations = tuple(_violations(index, published))
    return FrozenCheck(violations, "; ".join([checked, *notes]), complete=not notes)


def _violations(index: Index, published: Published) -> list[Violation]:
    found = []
    for version in index.versions():
        found += _moved(version, published)
    file = str(next((version.where.file for version in index.versions()), index.file))
    present = {version.ref for version in index.versions()}
    for ref, state in published.last.items():
        if state.protected and ref not in present:
            message = f"{ref} is protected (commit {state.commit[:12]}) and was removed"
            hint = "restore it; to remove it, first remove protect in a commit of its own"
            found.append(Violation(ref, Where(file), message, hint))
    return found


def _moved(version: Version, published: Published) -> list[Violation]:
    """Return the violations of one version that is still in the index."""
    ref, now = version.ref, None if version.cid is None else str(version.cid)
    for cid, commit in published.cids.get(ref, {}).items():
        if now is None:
            message = f"{ref} had the CID {cid} in commit {commit[:12]} and has none now"
            return [Violation(ref, version.where, message, f"restore it: cid: {cid}")]
        if cid != now:
            message = f"{ref} was {cid} in commit {commit[:12]} and is {now} now"
            hint = "a released CID is immutable: restore it, and release the changed content as a new version"
            return [Violation(ref, version.where, message, hint)]
    state = published.last.get(ref)
    if state is None or not state.protected:
        return []
    hint = "undo that; to do it, first remove protect in a commit of its own"
    if version.retired:
        return [
            Violation(
                ref, version.where, f"{ref} is protected (commit {state.commit[:12]}) and was retired", hint
            )
        ]
    if lost := [target for target in state.targets if target not in version.targets]:
        message = f"{ref} is protected (commit {state.commit[:12]}) and was removed from {', '.join(lost)}"
        return [Violation(ref, version.where, message, hint)]
    return []


# --- the release log


@dataclass(frozen=True, slots=True)
class LoggedRelease:
    """One version as first published. `when` is UTC, RFC 3339; `proposal` is a number, "" when unknown."""

    version: str
    cid: str
    commit: str
    author: str
    when: str
    subject: str
    proposal: str = ""


def release_log(index_file: Path, model: str) -> tuple[LoggedRelease, ...]:
    """Return the releases of `model` in the history of HEAD, newest first.

    Raises UserError when there is no repository, or git cannot read it.
    """
    history = FileHistory.open(index_file)
    if history is None:
        raise UserError("no git repository, so no history", where=Where(str(index_file)))
    found: dict[tuple[str, str], LoggedRelease] = {}
    if history.head() is None:
        return ()
    for commit, oid in history.introductions(MAX_COMMITS):
        for ref, published in Published.of(history, [(commit, oid)]).cids.items():
            name, _, version = ref.partition("@")
            for cid in published if name == model else ():
                if (version, cid) not in found:
                    found[version, cid] = _release(history, version, cid, commit)
    return tuple(reversed(found.values()))


def _release(history: FileHistory, version: str, cid: str, commit: str) -> LoggedRelease:
    text = (history.read(commit, _MAX_COMMIT, "commit") or b"").decode("utf-8", "replace")
    head, _, message = text.partition("\n\n")
    author = _AUTHOR.search(head)
    when = datetime.fromtimestamp(int(author["seconds"]), UTC) if author else None
    proposal = _PROPOSAL.search(message)
    return LoggedRelease(
        version=version,
        cid=cid,
        commit=commit,
        author=author["name"] if author else "",
        when=when.strftime("%Y-%m-%dT%H:%M:%SZ") if when else "",
        subject=message.partition("\n")[0],
        proposal=next((number for number in proposal.groups() if number), "") if proposal else "",
    )
