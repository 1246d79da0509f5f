"""`releases/index.yaml`: from text to a valid Index.

Three steps: the guarded reader, the JSON Schema (skipped when a stamp says that this very text passed it),
and the rules that no schema expresses: names, SemVer, canonical CIDs, safe paths, deal policies, channels
that name a version. The last step trusts neither of the others, so a forged stamp lets nothing through.

What few indexes have (signatures, sealing, accepted findings) is read by modules that are imported only then:
`resolve` loads an index at every start of an inference node.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.content.patterns import ALL_FILES, FilePatterns
from reconciler.errors import DataError, UsageError, Where
from reconciler.index import guarded_yaml, schemas
from reconciler.index.file_patterns import read_patterns
from reconciler.index.guarded_yaml import (
    IndexProblem,
    YamlMapping,
    YamlNode,
    YamlScalar,
    YamlSequence,
    raise_for,
    shown,
)
from reconciler.index.label import RESERVED_IDS
from reconciler.index.model import DealPolicy, Index, Model, Version
from reconciler.index.names import CHANNEL_NAME, is_model_name, name_hint, name_key, version_hint
from reconciler.index.version_source import (
    BUILT_IN_SOURCES,
    SourceReference,
    check_location,
    parse_source,
    path_problem,
)
from reconciler.index.versions import is_build, is_version, parse_range

if TYPE_CHECKING:
    from reconciler.content.lint.finding import FindingCode
    from reconciler.index.seal_policy import SealPolicy
    from reconciler.index.signature_rules import SignatureRule

DEFAULT_TARGETS = ("store",)  #: when nothing names a target

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z")
MAX_DEALS = 100  #: of one piece
RENEW_BEFORE = timedelta(days=30)  #: the default
_PERIOD = re.compile(r"([1-9][0-9]{0,3})d")


def load_index(path: Path, *, stamps: Path | None = None, name: str | None = None) -> Index:
    """Return the index in the file `path`; errors call the file `name`.

    `stamps` is a cache directory that remembers which text passed the schema; it may be deleted at any time.
    Raises InvalidIndexError with `file:line`.
    """
    name = name or str(path)
    data = guarded_yaml.read(path, name)
    return parse_index(guarded_yaml.decode(data, name), path, stamp_directory=stamps, name=name)


def parse_index(
    text: str, path: Path, *, stamp_directory: Path | None = None, name: str | None = None
) -> Index:
    """Return the index in `text`, the content of `path`. Raises as `load_index` does."""
    name = name or str(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    tree = guarded_yaml.parse(text, name)
    key = schemas.stamp_key("index", digest) if stamp_directory is not None else ""
    stamped = stamp_directory is not None and schemas.is_stamped(stamp_directory, "index", key)
    if not stamped:
        raise_for(schemas.problems("index", tree), name)
    index = _IndexBuilder(name, path, digest).index(tree)
    if stamp_directory is not None and not stamped:
        schemas.write_stamp(stamp_directory, "index", key)
    return index


class _IndexBuilder:
    """The construction of one Index from a tree; all problems are collected and reported together."""

    def __init__(self, name: str, path: Path, digest: str) -> None:
        self.name = name
        self.path = path
        self.digest = digest
        self.problems: list[IndexProblem] = []
        self.paths: dict[tuple[str, str], tuple[int, str]] = {}

    def index(self, tree: YamlNode) -> Index:
        """Return the whole index. Raises InvalidIndexError."""
        root = self._mapping(tree)
        if self._text(root, "schema", "'schema' is missing") != "1":
            self._problem(root, "'schema' must be 1")
        mark = self._text(root, "id", "'id' is missing")
        if self._check(_NAME, mark, "is not a name") and mark in RESERVED_IDS:
            self._problem(
                mark, f"'id' must not be {shown(mark)}: it is reserved for content without an index"
            )
        defaults = self._mapping(root.value("defaults"))
        targets = self._targets(defaults, DEFAULT_TARGETS)
        patterns = read_patterns(defaults, ALL_FILES, self.problems)
        deals = read_deal_policy(root, None, self.problems)
        models = {}
        spellings: dict[str, YamlScalar] = {}
        for key, node in self._mapping(root.value("models")).items():
            self._check_model_name(key, spellings)
            models[str(key)] = self._model(key, self._mapping(node), targets, deals, patterns)
        signatures = self._signatures(root.value("signatures"))
        raise_for(self.problems, self.name)
        return Index(str(mark), self.path, self.digest, models, patterns, signatures)

    def _model(
        self,
        key: YamlScalar,
        node: YamlMapping,
        defaults: tuple[str, ...],
        deals: DealPolicy | None,
        patterns: FilePatterns,
    ) -> Model:
        targets = self._targets(node, defaults)
        values = {field: self._optional(node, field) for field in ("kind", "format", "license")}
        shared: dict[str, Any] = {field: value for field, value in values.items() if value is not None}
        shared["deals"] = read_deal_policy(node, deals, self.problems)
        suspended = shared["suspended"] = self._boolean(_scalars(node), "suspend")
        shared["public"] = "public" not in _scalars(node) or self._boolean(_scalars(node), "public")
        seal, seals_no_more = self._seal(node)
        shared["seal"] = seal
        patterns = read_patterns(node, patterns, self.problems)
        versions: dict[str, Version] = {}
        folded: dict[str, str] = {}
        for text, body in self._mapping(node.value("versions")).items():
            if not is_version(text):
                self._problem(text, f"{shown(text)} is not a SemVer 2.0 version", version_hint(text))
                continue
            other = folded.setdefault(text.lower(), text)
            if other != text:
                self._problem(
                    text, f"version {shown(text)} differs from {shown(other)} only by case", "rename one"
                )
            versions[str(text)] = self._version(
                str(key), text, self._mapping(body), targets, patterns, shared
            )
        channels: dict[str, str] = {}
        for channel, target in self._mapping(node.value("channels")).items():
            self._check_channel(channel)
            if not isinstance(target, YamlScalar) or target not in versions:
                self._problem(
                    target,
                    f"channel {shown(channel)} names {shown(str(target))}, not a version of {shown(key)}",
                    schemas.suggestion(str(target), versions),
                )
            channels[str(channel)] = str(target)
        build = node.value("build")
        if build is not None and not (isinstance(build, YamlScalar) and is_build(build)):
            self._problem(build, f"{shown(str(build))} is not build metadata", "write it like cu121")
        preferred = None if build is None else str(build)
        where = Where(self.name, key.line)
        return Model(str(key), where, versions, channels, suspended, patterns, preferred, seal, seals_no_more)

    def _check_model_name(self, key: YamlScalar, spellings: dict[str, YamlScalar]) -> None:
        """Check the form of a name, and that it and its `org` are spelled in one way in the whole index."""
        if not is_model_name(key):
            self._problem(key, f"{shown(key)} is not a model name", name_hint(key))
            return
        first = spellings.setdefault(name_key(key), key)
        if first != key:
            self._problem(
                key,
                f"model {shown(key)} differs from {shown(first)} (line {first.line}) only by case",
                "rename one, or move its versions below the other",
            )
            return
        top = key.partition("/")[0]  # a directory of records
        other = spellings.setdefault(f"{name_key(top)}/", key)
        if other.partition("/")[0] != top:
            hint = f"write {other.partition('/')[0]!r} in both"
            self._problem(key, f"{shown(key)} and {shown(other)} differ in the case of {shown(top)}", hint)

    def _version(
        self,
        model: str,
        key: YamlScalar,
        node: YamlMapping,
        targets: tuple[str, ...],
        patterns: FilePatterns,
        shared: dict[str, Any],
    ) -> Version:
        fields = _scalars(node)
        path, created_at = fields.get("path"), fields.get("created_at")
        cid = self._cid(fields["cid"]) if "cid" in fields else None
        retired, protect = self._boolean(fields, "retired"), self._boolean(fields, "protect")
        ref = f"{model}@{key}"
        if "suspend" in fields:
            shared = shared | {"suspended": self._boolean(fields, "suspend")}
        source = self._source(fields["source"], ref) if "source" in fields else None
        if path is not None:
            self._check_path(path, ref)
        if path is not None and "source" in fields:
            self._problem(fields["source"], f"{ref} has both a path and a source", "remove one of them")
        if path is None and "source" not in fields and "cid" not in fields:
            self._problem(
                key,
                f"{ref} has neither a path nor a source nor a cid",
                "add the path of its directory, or its source",
            )
        if created_at is not None:
            self._check_time(created_at)
        if retired and "cid" not in fields:
            self._problem(fields["retired"], f"{ref} is retired without a cid", "remove the version instead")
        if retired and protect:
            self._problem(
                fields["retired"],
                f"{ref} is both retired and protected",
                "first remove protect, in a commit of its own",
            )
        yanked = fields.get("yanked")
        if yanked is not None and not yanked.strip():
            self._problem(
                yanked, f"{ref} is yanked without a reason", 'give the reason: yanked: "wrong tokenizer"'
            )
        return Version(
            model=model,
            version=str(key),
            where=Where(self.name, key.line),
            path=None if path is None else str(path),
            source=source,
            created_at=None if created_at is None else str(created_at),
            cid=cid,
            yanked=None if yanked is None else str(yanked),
            retired=retired,
            protect=protect,
            include_hidden=fields.get("hidden") == "include",
            patterns=read_patterns(node, patterns, self.problems),
            accept=self._accepted(node.value("accept")),
            targets=self._targets(node, targets),
            **shared,
        )

    def _cid(self, text: YamlScalar) -> Cid | None:
        try:
            return cids.parse_canonical(text)
        except DataError as error:
            self._problem(text, error.message, error.hint)
            return None

    def _check_path(self, path: YamlScalar, ref: str) -> None:
        if problem := path_problem(path):
            self._problem(path, f"path {shown(path)} {problem[0]}", problem[1])
        self._check_once("path", path, ref)

    def _source(self, text: YamlScalar, ref: str) -> SourceReference | None:
        try:
            source = parse_source(text, Where(self.name, text.line))
            if source.name in BUILT_IN_SOURCES:
                check_location(source, BUILT_IN_SOURCES[source.name])
        except DataError as error:
            shape = f"source {shown(text)}" if "://" not in text and "?" not in text else "source"
            self._problem(text, f"{shape} {error.message}", error.hint)
            return None
        self._check_once("source", text, ref)
        return source

    def _check_once(self, key: str, text: YamlScalar, ref: str) -> None:
        """Check that no other version of the model has this path or source.

        Two models may be one directory under two names; within a model it is a copied line.
        """
        line, other = self.paths.setdefault((ref.partition("@")[0], text), (text.line, ref))
        if other != ref:
            self._problem(
                text,
                f"{ref} and {other} (line {line}) have the same {key} {shown(text)}",
                f"give each version its own {key}",
            )

    def _check_time(self, text: YamlScalar) -> None:
        try:
            if not _TIME.fullmatch(text):
                raise ValueError
            datetime.fromisoformat(text[:19])
        except ValueError:
            hint = 'write it like "2026-05-07T00:00:00Z"'
            self._problem(text, f"{shown(text)} is not an RFC 3339 time in UTC", hint)

    def _check_channel(self, channel: YamlScalar) -> None:
        if not self._check(CHANNEL_NAME, channel, "is not a channel name"):
            return
        try:
            parse_range(channel)
        except UsageError:
            return
        self._problem(
            channel, f"channel {shown(channel)} is also a version range", "choose a name such as stable"
        )

    def _targets(self, node: YamlMapping, inherited: tuple[str, ...]) -> tuple[str, ...]:
        names = node.value("targets")
        if names is None:
            return inherited
        if not isinstance(names, YamlSequence) or not names:
            self._problem(names, "'targets' must be a list of names")
            return inherited
        for name in names:
            self._check(_NAME, name, "is not a target name")
        return tuple(str(name) for name in names)

    def _signatures(self, node: YamlNode | None) -> SignatureRule | None:
        if node is None:
            return None
        from reconciler.index.signature_rules import read_rule

        return read_rule(node, self.path, self.name, self.problems, files_inside=True)

    def _seal(self, node: YamlMapping) -> tuple[SealPolicy | None, bool]:
        """Return the policy of a model, and whether it says `seal: none`."""
        if node.value("seal") is None:
            return None, False
        from reconciler.index.seal_policy import read_seal_policy, seals_no_more

        return read_seal_policy(node, self.problems), seals_no_more(node)

    def _accepted(self, node: YamlNode | None) -> tuple[FindingCode, ...]:
        if node is None:
            return ()
        from reconciler.content.lint.finding import ACCEPTABLE, FindingCode

        if not isinstance(node, YamlSequence):
            self._problem(node, "'accept' must be a list of findings")
            return ()
        accepted = []
        for name in node:
            if isinstance(name, YamlScalar) and name in list(map(str, ACCEPTABLE)):
                accepted.append(FindingCode(str(name)))
            else:
                what = f"'accept' has {shown(str(name))}, which cannot be accepted"
                self._problem(name, what, f"use {', '.join(ACCEPTABLE)}")
        return tuple(accepted)

    def _boolean(self, fields: dict[str, YamlScalar], field: str) -> bool:
        if (value := fields.get(field)) is None:
            return False
        if (said := schemas.as_boolean(value)) is None:
            self._problem(value, f"{field!r} must be true or false")
        return bool(said)

    def _check(self, pattern: re.Pattern[str], value: YamlNode, what: str) -> bool:
        if isinstance(value, YamlScalar) and pattern.fullmatch(value):
            return True
        self._problem(value, f"{shown(str(value))} {what}")
        return False

    def _mapping(self, node: YamlNode | None) -> YamlMapping:
        if isinstance(node, YamlMapping):
            return node
        if node is not None:
            self._problem(node, "expected a mapping")
        return YamlMapping()

    def _optional(self, node: YamlMapping, field: str) -> str | None:
        value = node.value(field)
        return str(value) if isinstance(value, YamlScalar) else None

    def _text(self, node: YamlMapping, field: str, missing: str) -> YamlScalar:
        value = node.value(field)
        if isinstance(value, YamlScalar):
            return value
        self._problem(value if value is not None else node, missing)
        empty = YamlScalar()
        empty.line = getattr(node, "line", 1)
        return empty

    def _problem(self, node: YamlNode, message: str, hint: str | None = None) -> None:
        self.problems.append(IndexProblem(getattr(node, "line", 1), message, hint))


def _scalars(node: YamlMapping) -> dict[str, YamlScalar]:
    """Return the keys of `node` that have a single value."""
    return {str(name): value for name, value in node.items() if isinstance(value, YamlScalar)}


# --- what the index requires of deals


def read_deal_policy(
    node: YamlMapping, inherited: DealPolicy | None, problems: list[IndexProblem]
) -> DealPolicy | None:
    """Return the policy of `node`, else `inherited`; add what is invalid in it to `problems`.

    Format: `policy: {deals: {min: 2, providers: 2, renew_before: 30d}}`.
    """
    policy = node.value("policy")
    if policy is None:
        return inherited
    deals = policy.value("deals") if isinstance(policy, YamlMapping) else None
    if not isinstance(deals, YamlMapping):
        problems.append(IndexProblem(_line(policy), "'policy' needs a mapping 'deals'", "deals: {min: 2}"))
        return inherited
    least = _count(deals, "min", None, problems)
    providers = _count(deals, "providers", 1, problems)
    if providers > least:
        problems.append(
            IndexProblem(
                _line(deals.value("providers")),
                f"{providers} providers cannot have {least} deals",
                "require at least as many deals as providers",
            )
        )
    return DealPolicy(least, providers, _period(deals.value("renew_before"), problems))


def _count(deals: YamlMapping, key: str, otherwise: int | None, problems: list[IndexProblem]) -> int:
    value = deals.value(key)
    if value is None and otherwise is not None:
        return otherwise
    count = schemas.as_integer(value) if isinstance(value, YamlScalar) else None
    if count is None or not 1 <= count <= MAX_DEALS:
        node = deals if value is None else value
        problems.append(
            IndexProblem(_line(node), f"{key!r} must be a whole number from 1 to {MAX_DEALS}", None)
        )
        return 1
    return count


def _period(value: YamlNode | None, problems: list[IndexProblem]) -> timedelta:
    if value is None:
        return RENEW_BEFORE
    match = _PERIOD.fullmatch(value) if isinstance(value, YamlScalar) else None
    if match is None:
        text = shown(str(value)) if isinstance(value, YamlScalar) else "the value"
        problems.append(IndexProblem(_line(value), f"{text} is not a number of days", "write it like 30d"))
        return RENEW_BEFORE
    return timedelta(days=int(match[1]))


def _line(node: YamlNode | None) -> int:
    return getattr(node, "line", 1)
