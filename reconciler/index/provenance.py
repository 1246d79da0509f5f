"""The part of a record that says where the bytes came from, and what their source had committed to.

    "provenance": {
      "source": "hf:org/name@2c1f...", "kind": "huggingface", "revision": "2c1f...",
      "files": [{"path": "model.safetensors", "size": 70, "sha256": "9f86...", "git": "d670...", "lfs": true}]
    }

`sha256` was computed here while the file was streamed. `git` is the id of the object at this path in the tree
of the revision: of the file itself, or with `lfs` of its Git LFS pointer, whose text follows from SHA-256 and
size. So the record can be checked against a clone without weights. `md5` and `version` are those of object
stores. Very long lists are left out, see MAX_FILES.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.content.lfs_pointer import LfsPointer
from reconciler.json_fields import JsonFields

MAX_FILES = 20_000  #: above which a record has no list
_MAX_TEXT = 2048
_MAX_COUNT = 2**53 - 1
_SHA256, _SHA1, _MD5 = (re.compile(rf"[0-9a-f]{{{length}}}") for length in (64, 40, 32))
_OPTIONAL = {"git": _SHA1, "md5": _MD5, "version": re.compile(r".{1,1024}")}


@dataclass(frozen=True, slots=True)
class SourcedFile:
    """One file as its source had it, digests in hex; "" for what the source does not state."""

    path: str
    size: int
    sha256: str
    git: str = ""
    lfs: bool = False
    md5: str = ""
    version: str = ""

    @property
    def pointer_id(self) -> str:
        """The git id of the Git LFS pointer that the file has in its repository, in hex."""
        return LfsPointer(bytes.fromhex(self.sha256), self.size).git_blob.hex()


@dataclass(frozen=True, slots=True)
class Provenance:
    """The `source` as in the index, its kind, its revision, and its files in the order of their paths.

    `files` is empty for a very long list.
    """

    source: str
    kind: str
    revision: str
    files: tuple[SourcedFile, ...] = ()


def render_provenance(provenance: Provenance) -> dict[str, object]:
    """Return the JSON value of `provenance`."""
    fields: dict[str, object] = {
        "source": provenance.source,
        "kind": provenance.kind,
        "revision": provenance.revision,
    }
    if provenance.files:
        fields["files"] = [_render_file(file) for file in provenance.files]
    return fields


def parse_provenance(fields: JsonFields) -> Provenance:
    """Parse `provenance`. Raises the error of `fields`."""
    _check_keys(fields, {"source", "kind", "revision"}, {"files"})
    source, kind, revision = (_text(fields, key, _MAX_TEXT) for key in ("source", "kind", "revision"))
    files = tuple(_file(entry) for entry in fields.items("files")) if fields.has("files") else ()
    if len(files) > MAX_FILES:
        raise fields.fail(f"{fields.path!r} has more than {MAX_FILES} files")
    return Provenance(source, kind, revision, files)


def _render_file(file: SourcedFile) -> dict[str, object]:
    fields: dict[str, object] = {"path": file.path, "size": file.size, "sha256": file.sha256}
    fields |= {key: getattr(file, key) for key in _OPTIONAL if getattr(file, key)}
    return fields | ({"lfs": True} if file.lfs else {})


def _file(fields: JsonFields) -> SourcedFile:
    _check_keys(fields, {"path", "size", "sha256"}, {*_OPTIONAL, "lfs"})
    size = fields.number("size")
    if not 0 <= size <= _MAX_COUNT:
        raise fields.error("a whole number of at least 0", "size")
    texts = {}
    for key, pattern in {"sha256": _SHA256, **_OPTIONAL}.items():
        if fields.has(key):
            texts[key] = fields.text(key)
            if not pattern.fullmatch(texts[key]):
                raise fields.fail(f"invalid {key!r} in {fields.path!r}")
    lfs = fields.has("lfs") and fields.flag("lfs")
    return SourcedFile(_text(fields, "path", 4096), size, lfs=lfs, **texts)


def _text(fields: JsonFields, key: str, longest: int) -> str:
    text = fields.text(key)
    if not 0 < len(text) <= longest:
        raise fields.error(f"a text of 1 to {longest} characters", key)
    return text


def _check_keys(fields: JsonFields, required: set[str], optional: set[str]) -> None:
    found = fields.mapping().keys()
    if unknown := sorted(found - required - optional):
        raise fields.fail(f"unknown key {unknown[0][:80]!r} in {fields.path!r}")
    if missing := sorted(required - found):
        raise fields.fail(f"missing key {missing[0]!r} in {fields.path!r}")
