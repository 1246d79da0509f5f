"""The parts of a record that say what a bundle was made from, and what is in it.

    "bundle": {"model": "my-llm", "version": "1.2.0", "format": "gguf", "exclude": ["*.log"],
               "sealed": {"generation": 1, "key": "b9d2d2a8fe047a28", "names": "plain"}}
    "contents": [{"path": "config.json", "size": 631, "cid": "bafkrei..."}]
    "empty_directories": ["adapters"]

`bundle` has the names in a generated manifest and the rules that selected the files; unset fields are left
out. It stays as published when the index changes. Large lists are left out, see `MAX_LISTED`.
"""

from __future__ import annotations

import re

from reconciler.content import bounds
from reconciler.content import cid as cids
from reconciler.content.bundle_inputs import BundleInputs
from reconciler.content.contents import BundleContents, FileEntry
from reconciler.content.manifest import ReleaseInfo
from reconciler.content.patterns import ALL_FILES, MAX_PATTERNS, FilePatterns, parse_pattern
from reconciler.content.sealing.seal_key import SealInputs
from reconciler.errors import DataError
from reconciler.json_fields import JsonFields

MAX_LISTED = 4096  #: files and empty directories together, above which a record has no list
_MAX_TEXT = 256
_MOST_KEYS = 999_999
_KEY = re.compile(r"[0-9a-f]{16}")
_NAMES = ("plain", "sealed")
_RELEASE = ("model", "version", "format", "created_at")
_SELECTION = ("include", "exclude")
_INPUTS = {*_RELEASE, *_SELECTION, "hidden", "sealed"}
_MAX_COUNT = 2**53 - 1


def render_inputs(inputs: BundleInputs) -> dict[str, object]:
    """Return the JSON value of `bundle`."""
    release = inputs.release
    fields: dict[str, object] = {
        "model": release.model,
        "version": release.version,
        "format": release.format,
        "created_at": release.created_at,
        "hidden": inputs.include_hidden or None,
        "include": list(inputs.patterns.include) or None,
        "exclude": list(inputs.patterns.exclude) or None,
        "sealed": None if inputs.sealing is None else _render_sealing(inputs.sealing),
    }
    return {key: value for key, value in fields.items() if value is not None}


def render_contents(contents: BundleContents) -> dict[str, object]:
    """Return the JSON values of `contents` and `empty_directories`; the second only if there are some."""
    files = [{"path": file.path, "size": file.size, "cid": str(file.cid)} for file in contents.files]
    empty = list(contents.empty_directories)
    return {"contents": files} | ({"empty_directories": empty} if empty else {})


def is_listed(contents: BundleContents) -> bool:
    """Return whether a record lists `contents`."""
    return len(contents.files) + len(contents.empty_directories) <= MAX_LISTED


def parse_inputs(fields: JsonFields) -> BundleInputs:
    """Parse `bundle`. Raises the error of `fields`."""
    given = {key for key, value in fields.mapping().items() if value is not None}
    if unknown := sorted(fields.mapping().keys() - _INPUTS):
        raise fields.fail(f"unknown key {unknown[0][:80]!r} in {fields.path!r}")
    model, version, kind, created_at = (_text(fields, key) if key in given else None for key in _RELEASE)
    if model is None or version is None:
        raise fields.fail(f"{fields.path!r} has no model or no version")
    patterns = ALL_FILES
    if not given.isdisjoint(_SELECTION):
        patterns = FilePatterns(_patterns(fields, "include"), _patterns(fields, "exclude"))
    sealing = _parse_sealing(fields.at("sealed")) if "sealed" in given else None
    hidden = "hidden" in given and fields.flag("hidden")
    return BundleInputs(ReleaseInfo(model, version, kind, created_at), hidden, patterns, sealing)


def parse_contents(fields: JsonFields) -> BundleContents:
    """Parse `contents` and `empty_directories` of the record `fields`. Raises the error of `fields`."""
    files = tuple(_entry(entry) for entry in fields.items("contents"))
    empty: tuple[str, ...] = ()
    if fields.has("empty_directories"):
        empty = tuple(_path(item) for item in fields.items("empty_directories"))
    contents = BundleContents(files, empty)
    if not is_listed(contents):
        raise fields.fail(f"'contents' has more than {MAX_LISTED} entries")
    return contents


def _render_sealing(sealing: SealInputs) -> dict[str, object]:
    names = _NAMES[sealing.hides_names]
    return {"generation": sealing.generation, "key": sealing.key, "names": names}


def _parse_sealing(fields: JsonFields) -> SealInputs:
    if fields.mapping().keys() != {"generation", "key", "names"}:
        raise fields.fail(f"{fields.path!r} needs generation, key and names")
    key, names = fields.text("key"), fields.text("names")
    if not _KEY.fullmatch(key):
        raise fields.error("16 hex digits", "key")
    if names not in _NAMES:
        raise fields.error(" or ".join(_NAMES), "names")
    return SealInputs(fields.number_in(1, _MOST_KEYS, "generation"), key, names == _NAMES[True])


def _entry(fields: JsonFields) -> FileEntry:
    if fields.mapping().keys() != {"path", "size", "cid"}:
        raise fields.fail(f"{fields.path!r} needs path, size and cid")
    size = fields.number("size")
    if not 0 <= size <= _MAX_COUNT:
        raise fields.error("a whole number of at least 0", "size")
    try:
        return FileEntry(_path(fields.at("path")), size, cids.parse_canonical(fields.text("cid")))
    except DataError as error:
        raise fields.fail(f"{fields.path!r}: {error.message}") from None


def _path(fields: JsonFields) -> str:
    """Return a path below the bundle, whose parts are names that a bundle may have."""
    text = fields.text()
    try:
        for part in text.encode().split(b"/"):
            bounds.decode_name(part)
    except (DataError, UnicodeEncodeError):
        raise fields.error("a path below the bundle") from None
    return text


def _text(fields: JsonFields, key: str) -> str:
    text = fields.text(key)
    if not 0 < len(text) <= _MAX_TEXT:
        raise fields.error(f"a text of 1 to {_MAX_TEXT} characters", key)
    return text


def _patterns(fields: JsonFields, key: str) -> tuple[str, ...]:
    if not fields.has(key):
        return ()
    texts = tuple(item.text() for item in fields.items(key))
    if len(texts) > MAX_PATTERNS:
        raise fields.error(f"a list of at most {MAX_PATTERNS} patterns", key)
    for text in texts:
        try:
            parse_pattern(text)
        except DataError as error:
            raise fields.fail(f"{key} pattern {text[:80]!r} {error.message}") from None
    return texts
