"""From a reference to one version: `model@1.2.0`, `model@^1.2`, `model@stable`, `model`, or a bare CID.

Pure functions. Which versions a selector may pick:

| selector      | without a CID | yanked           | retired          | pre-release       |
|---------------|---------------|------------------|------------------|-------------------|
| exact version | error         | with a warning   | with a warning   | yes               |
| channel       | error         | with a warning   | with a warning   | yes               |
| range         | skipped       | skipped          | skipped          | only if named     |
| none          | skipped       | skipped          | skipped          | skipped           |

An exact version (also as `v1.2.0` or `=1.2.0`) names one build: 1.0.0 and 1.0.0+cu118 are two versions. A
range ignores build metadata, so it may find several builds of one version; then `build` of the model decides,
and without it the reference is an error.

A range skips versions without a CID, so that a version which is added but not yet published breaks no
consumer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.content.cid_path import CidPath, parse_cid_path
from reconciler.errors import DataError, UsageError
from reconciler.index.guarded_yaml import shown
from reconciler.index.model import Index, Model, Version
from reconciler.index.names import CHANNEL_NAME, is_model_name, suggested_name
from reconciler.index.schemas import suggestion
from reconciler.index.versions import (
    Range,
    highest_of,
    is_version,
    newest_first,
    parse_range,
    parse_version,
    plain_version,
)
from reconciler.redaction import hide_secrets, shown_address

_LIKE_CID = re.compile(r"(?:baf[ky]|Qm)[A-Za-z0-9]{20,}")
_MAX_REF = 512
_PUBLISH = "publish it first: run reconcile"
_HINT = "a reference is model@1.2.0, model@^1.2, model@stable, model, or a CID"


@dataclass(frozen=True, slots=True)
class Exact:
    """One version, by its SemVer text."""

    version: str


@dataclass(frozen=True, slots=True)
class Channel:
    """The version that a channel names now."""

    name: str


Selector = Exact | Channel | Range


@dataclass(frozen=True, slots=True)
class Ref:
    """A parsed reference: its `text`, and either `cid` or a `model` with a selector (None: the newest).

    `path` is the path below the CID, "" when there is none.
    """

    text: str
    model: str = ""
    selector: Selector | None = None
    cid: Cid | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedReference:
    """The version that a reference means; `version` is None for a CID that is not in the index.

    `path` is the path that was given below a CID, "" when there was none.
    """

    requested: str
    cid: Cid
    version: Version | None
    warnings: tuple[str, ...] = ()
    path: str = ""


def parse_ref(text: str, *, with_path: bool = False) -> Ref:
    """Parse a reference. Raises UsageError when it is malformed.

    A CID may be written in any spelling that `content.cid_path` reads. A path below it is an error unless
    `with_path`.
    """
    if len(text) > _MAX_REF:
        raise UsageError(f"a reference longer than {_MAX_REF} characters", hint=_HINT)
    found = _cid_path(text)
    if found is not None:
        if found.path and not with_path:
            raise UsageError(
                f"{shown(text)} names a path below a CID, and this needs the whole of it",
                hint=f"give {found.cid}; fetch, export, pieces and verify take a path",
            )
        return Ref(text, cid=found.cid, path=found.path)
    if hide_secrets(text) != text:
        raise UsageError(f"{shown_address(text)!r} is an address and not a reference", hint=_HINT)
    model, at, selector = text.partition("@")
    if not is_model_name(model):
        near = suggested_name(model)
        raise UsageError(
            f"{shown(text)} is not a reference: {shown(model)} is not a model name",
            hint=f"{_HINT}; did you mean {near!r}?" if near else _HINT,
        )
    if not at:
        return Ref(text, model)
    if not selector:
        raise UsageError(f"{shown(text)} has no version after '@'", hint=_HINT)
    if is_version(version := plain_version(selector)):
        return Ref(text, model, Exact(version))
    try:
        return Ref(text, model, parse_range(selector))
    except UsageError:
        if CHANNEL_NAME.fullmatch(selector):
            return Ref(text, model, Channel(selector))
        raise


def resolve(index: Index, ref: Ref) -> ResolvedReference:
    """Return the version of `index` that `ref` means.

    Raises UsageError when there is none, with a suggestion where a name is close.
    """
    if ref.cid is not None:
        return _resolve_cid(index, ref, ref.cid)
    model = index.models.get(ref.model)
    if model is None:
        hint = why_no_cid(ref.model) or suggestion(ref.model, index.models)
        raise UsageError(f"unknown model {shown(ref.model)}", hint=hint)
    if isinstance(ref.selector, Exact):
        return _resolution(ref, _named(model, ref.selector.version))
    if isinstance(ref.selector, Channel):
        version = model.channels.get(ref.selector.name)
        if version is None:
            raise UsageError(
                f"model {model.name!r} has no channel {shown(ref.selector.name)}",
                hint=suggestion(ref.selector.name, model.channels) or "it has no channels; name a version",
            )
        return _resolution(ref, _named(model, version))
    return _resolution(ref, _highest(model, ref))


def _highest(model: Model, ref: Ref) -> Version:
    """Return the highest version in the range of `ref` (or the highest release) that a range may pick."""
    wanted = ref.selector if isinstance(ref.selector, Range) else parse_range("*")
    matching = [text for text in newest_first(model.versions) if wanted.contains(parse_version(text))]
    offered = [model.versions[text] for text in matching]
    usable = [v.version for v in offered if v.cid is not None and v.yanked is None and not v.retired]
    if usable:
        return model.versions[_one_build(model, ref, highest_of(usable))]
    if not offered:
        what = f"has no version in {shown(wanted.text)}" if ref.selector else "has no release"
        raise UsageError(f"model {model.name!r} {what}", hint=_listed(newest_first(model.versions)))
    reasons = ", ".join(f"{version.version} {_why_skipped(version)}" for version in offered[:5])
    is_unpublished = all(v.cid is None and v.yanked is None and not v.retired for v in offered)
    hint = _PUBLISH if is_unpublished else "name one version exactly"
    raise UsageError(f"no version to pick for {shown(ref.text)}: {reasons}", hint=hint)


def _one_build(model: Model, ref: Ref, builds: list[str]) -> str:
    """Return the one of `builds`, versions of equal precedence, that the index prefers. Raises UsageError."""
    if len(builds) == 1:
        return builds[0]
    preferred = [text for text in builds if text.partition("+")[2] == model.build]
    if preferred:
        return preferred[0]
    raise UsageError(
        f"{shown(ref.text)} may mean several builds: {', '.join(builds)}",
        hint=f"name one, such as {model.name}@{builds[0]}, or a channel; `build` in the index prefers one",
    )


def _why_skipped(version: Version) -> str:
    if version.yanked is not None:
        return "is yanked"
    return "is retired" if version.retired else "has no CID yet"


def _named(model: Model, text: str) -> Version:
    version = model.versions.get(text)
    if version is None:
        number = text.partition("+")[0]
        builds = [each for each in newest_first(model.versions) if each.partition("+")[0] == number]
        hint = f"name one of its builds: {', '.join(builds)}" if builds else suggestion(text, model.versions)
        raise UsageError(f"model {model.name!r} has no version {shown(text)}", hint=hint)
    return version


def _resolution(ref: Ref, version: Version) -> ResolvedReference:
    if version.cid is None:
        raise UsageError(
            f"{version.ref} has no CID yet",
            hint=_PUBLISH,
            where=version.where,
        )
    return ResolvedReference(ref.text, version.cid, version, _warnings(version))


def _warnings(version: Version) -> tuple[str, ...]:
    warnings = []
    if version.yanked is not None:
        warnings.append(f"{version.ref} is yanked: {version.yanked}")
    if version.retired:
        warnings.append(f"{version.ref} is retired: it may no longer be available")
    return tuple(warnings)


def _resolve_cid(index: Index, ref: Ref, cid: Cid) -> ResolvedReference:
    """Resolve a CID to itself, and to a version that has it: preferably one that is not yanked or retired."""
    known = [version for version in index.versions() if version.cid == cid]
    known.sort(key=lambda version: (version.yanked is not None, version.retired))
    version = known[0] if known else None
    return ResolvedReference(ref.text, cid, version, _warnings(version) if version else (), ref.path)


def _cid_path(text: str) -> CidPath | None:
    """Parse the CID in a reference, None for one without. Raises UsageError for an unsupported CID."""
    try:
        return parse_cid_path(text)
    except DataError as error:
        raise UsageError(f"{shown(text)} cannot be read: {error.message}", hint=error.hint) from None


def why_no_cid(text: str) -> str | None:
    """Return a hint for the name of a model that looks like a mistyped CID; None for any other."""
    if not _LIKE_CID.fullmatch(text):
        return None
    try:
        cids.parse(text)
    except DataError as error:
        return f"it looks like a CID, but it is not one: {error.message}; copy it again"
    return None


def _listed(texts: Iterable[str]) -> str:
    names = list(texts)
    return (
        "it has " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        if names
        else "it has no versions"
    )
