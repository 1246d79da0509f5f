"""`releases/sources.yaml`: the definition of each source name.

As in targets.yaml, addresses are in this file only, and secrets in no file. Two names need no definition:
`hf`, the public Hugging Face Hub, and `lfs`, the Git LFS objects of this repository.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from reconciler.errors import DataError, InvalidIndexError, Where
from reconciler.index import guarded_yaml, schemas
from reconciler.index.declarations import (
    DeclaredKind,
    Entry,
    declared_kinds,
    entries,
    kind_problems,
    options,
    path_problems,
    url_problems,
)
from reconciler.index.guarded_yaml import IndexProblem, YamlNode, YamlScalar, raise_for, shown
from reconciler.index.model import Index, SourceSpec
from reconciler.index.version_source import BUILT_IN_SOURCES, SourceReference, check_location

NAME = "releases/sources.yaml"  #: the name of the file in errors, by default
BUCKET_SCHEMES = ("s3", "gs", "az")

#: keys of an object store that only one scheme has, or two
_KEYS_OF_SCHEMES: Mapping[str, Collection[str]] = {
    "region": ("s3",),
    "key_id_env": ("s3",),
    "session_token_env": ("s3",),
    "account": ("az",),
}


def source_kinds() -> Mapping[str, DeclaredKind]:
    """Return the kinds of sources by name, in the order of `schemas/sources.schema.json`."""
    return declared_kinds("sources", "source")


def load_sources(
    path: Path | None, *, stamp_directory: Path | None = None, name: str | None = None
) -> tuple[SourceSpec, ...]:
    """Return the sources in the file `path` in its order, and then those that need no definition.

    Without the file (or with None), return only these. Raises InvalidIndexError with `file:line`; errors call
    the file `name` and never show what may be a secret.
    """
    declared: tuple[SourceSpec, ...] = ()
    name = name or str(path or NAME)
    if path is not None and path.exists():
        declared = _read(path, name, stamp_directory)
    known = {spec.name for spec in declared}
    return declared + tuple(
        SourceSpec(built_in, kind, {}, Where(name))
        for built_in, kind in BUILT_IN_SOURCES.items()
        if built_in not in known
    )


def check_sources(index: Index, specs: Collection[SourceSpec]) -> None:
    """Raise InvalidIndexError when a version names a source that `specs` lack, or an invalid location."""
    known = {spec.name: spec for spec in specs}
    for version in index.versions():
        if version.source is not None:
            spec_of(version.source, known, version.ref)


def spec_of(source: SourceReference, known: Mapping[str, SourceSpec], ref: str) -> SourceSpec:
    """Return the definition of the source of `ref`. Raises InvalidIndexError for a name or location."""
    spec = known.get(source.name)
    if spec is None:
        raise InvalidIndexError(
            f"{ref} names the source {source.name!r}, which releases/sources.yaml does not define",
            hint=schemas.suggestion(source.name, known),
            where=source.where,
        )
    try:
        check_location(source, spec.kind)
    except DataError as error:
        message = f"source {shown(str(source))} {error.message}"
        raise InvalidIndexError(message, hint=error.hint, where=source.where) from None
    return spec


def _read(path: Path, name: str, stamp_directory: Path | None) -> tuple[SourceSpec, ...]:
    data = guarded_yaml.read(path, name)
    tree = guarded_yaml.parse(guarded_yaml.decode(data, name), name)
    key = schemas.stamp_key("sources", hashlib.sha256(data).hexdigest())
    stamped = stamp_directory is not None and schemas.is_stamped(stamp_directory, "sources", key)
    if not stamped:
        raise_for(schemas.problems("sources", tree), name)
    raise_for(list(_problems(tree)), name)
    if stamp_directory is not None and not stamped:
        schemas.write_stamp(stamp_directory, "sources", key)
    return tuple(
        SourceSpec(
            str(source),
            str(entry["kind"]),
            options(entry, source_kinds()[str(entry["kind"])]),
            Where(name, line),
        )
        for source, line, entry in entries(tree, "sources")
    )


def _problems(tree: YamlNode) -> Iterator[IndexProblem]:
    """Yield the problems that the schema cannot find, or that a forged stamp must not hide."""
    declared = list(entries(tree, "sources"))
    yield from kind_problems(declared, "source", source_kinds(), tree.line)
    for each in declared:
        name, line, entry = each
        kind = source_kinds().get(str(entry["kind"]))
        if kind is None:
            continue
        wanted = BUILT_IN_SOURCES.get(name)
        if wanted is not None and kind.name != wanted:
            hint = "choose another name"
            yield IndexProblem(line, f"source {shown(name)} must be of kind {wanted}", hint)
        yield from path_problems(entry)
        if kind.name == "object-store":
            yield from _bucket_problems(each)
            yield from url_problems(entry, kind.urls - {"url"})
        else:
            yield from url_problems(entry, kind.urls)


def _bucket_problems(each: Entry) -> Iterator[IndexProblem]:
    """Yield what is wrong with an object store: its `url`, and keys that contradict each other."""
    name, line, entry = each
    url = entry.get("url")
    scheme, separator, rest = url.partition("://") if isinstance(url, YamlScalar) else ("", "", "")
    bucket, _, prefix = rest.partition("/")
    if scheme not in BUCKET_SCHEMES or not separator or not bucket or not str(url).isprintable():
        hint = "write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
        yield IndexProblem(line, f"source {shown(name)} has no address of a bucket", hint)
        return
    if "@" in bucket or ":" in bucket:
        hint = "set an environment variable to it and name it with secret_env"
        yield IndexProblem(line, "'url' has a user name, a password or a port in the address", hint)
    if any(part in (".", "..", "") for part in prefix.rstrip("/").split("/")) and prefix.rstrip("/"):
        yield IndexProblem(line, "'url' has an empty, '.' or '..' part in its prefix", None)
    for key, schemes in _KEYS_OF_SCHEMES.items():
        if key in entry and scheme not in schemes:
            yield IndexProblem(_line(entry[key]), f"{key!r} has no meaning for {scheme}://", "remove it")
    if scheme == "s3" and ("key_id_env" in entry) != ("secret_env" in entry):
        yield IndexProblem(line, f"source {shown(name)} needs both key_id_env and secret_env", None)
    if scheme == "s3" and "session_token_env" in entry and "key_id_env" not in entry:
        yield IndexProblem(line, f"source {shown(name)} has a session token without a key", "add key_id_env")
    if scheme == "s3" and "endpoint" not in entry and "region" not in entry:
        yield IndexProblem(line, f"source {shown(name)} has no region", "add the region of the bucket")
    if scheme == "az" and "account" not in entry:
        yield IndexProblem(line, f"source {shown(name)} has no account", "add the storage account")


def _line(node: YamlNode) -> int:
    return int(getattr(node, "line", 1))
