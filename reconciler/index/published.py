"""What an index published in its git history: collected newest first, cached between runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from reconciler.content import cid as cids
from reconciler.errors import DataError, InvalidIndexError, LockedError
from reconciler.fs import replace_file
from reconciler.git.file_history import FileHistory
from reconciler.index import guarded_yaml
from reconciler.index.guarded_yaml import YamlMapping, YamlNode, YamlScalar
from reconciler.index.load import DEFAULT_TARGETS
from reconciler.json_fields import JsonFields, load_json

_FORMAT = 1
_MAX_CACHE = 256 << 20


@dataclass(frozen=True, slots=True)
class LastState:
    """A version in the newest commit that has it: its protection, and the targets of a protected one."""

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
