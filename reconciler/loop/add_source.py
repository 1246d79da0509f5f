"""A new version whose bytes are in a source: its commit, licence and format as the source states them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from reconciler.content.lint.finding import Finding
from reconciler.content.patterns import FilePatterns
from reconciler.content.remote_listing import remote_listing
from reconciler.content.scan import SourceListing
from reconciler.errors import DataError, UsageError
from reconciler.index.model import Model, SourceSpec, Version
from reconciler.index.names import closest
from reconciler.index.schemas import suggestion
from reconciler.index.version_source import (
    HUB_DATASETS,
    SourceReference,
    check_repository,
    is_commit,
    parse_source,
)
from reconciler.index.versions import newest_first
from reconciler.loop.entrance import listing_findings
from reconciler.loop.remote_version import SpanReader
from reconciler.loop.source_definition import open_declared
from reconciler.loop.source_license import spdx_license, weights_format
from reconciler.redaction import hide_secrets
from reconciler.sources.interface import (
    FileListing,
    SourceKind,
    TracksUpstream,
    UpstreamState,
)

DEFAULT_BRANCH = "main"  #: the branch of a repository that is named without a revision


@dataclass(frozen=True, slots=True)
class FoundSource:
    """What a source has: the `reference` to write, with a commit, and all its files.

    `asked` is the branch or tag that was resolved, "" for none. `former` is the name that was asked for, ""
    when the repository still has it. `kind`, `license` and `format` are those to
    write for a new model, None where they are unknown. `upstream` is None for a source without branches.
    """

    reference: SourceReference
    asked: str
    listing: FileListing
    kind: str | None = None
    license: str | None = None
    format: str | None = None
    upstream: UpstreamState | None = None
    former: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about it."""
        if self.upstream is None:
            return ()
        notes = []
        if self.former:
            notes.append(f"{self.former} was renamed to {self.upstream.repository}")
        if self.upstream.gated:
            notes.append("it is gated: readers of the source must have accepted its terms")
        if self.upstream.private:
            notes.append("it is private: what is published from it is not")
        if self.license is None:
            notes.append("it names no licence that SPDX has; add `license` to the model")
        return tuple(notes)


def is_source(text: str, root: Path) -> bool:
    """Return whether the argument PATH is a source and no file or directory below `root` or here."""
    name, colon, _ = text.partition(":")
    there = (root / text).exists() or Path(text).exists()
    return bool(colon) and bool(name) and "/" not in name and not there


def find_source(
    text: str, specs: Mapping[str, SourceSpec], root: Path, environ: Mapping[str, str]
) -> FoundSource:
    """Ask the source NAME:LOCATION what it has; a branch or tag becomes the commit that it is now.

    Raises UsageError for a name or location, and SourceError.
    """
    try:
        reference = parse_source(text)
    except DataError as error:
        shape = "the source" if "://" in text or "?" in text else f"source {text!r}"
        raise UsageError(f"{shape} {error.message}", hint=error.hint) from None
    spec = specs.get(reference.name)
    if spec is None:
        # "user:password@host" has the form of a source: its name is then a user's
        shown = f" {reference.name!r}" if hide_secrets(text) == text else ""
        raise UsageError(
            f"unknown source{shown}",
            hint=f"{suggestion(reference.name, specs)}; releases/sources.yaml declares others",
        )
    if spec.kind != SourceKind.HUGGING_FACE.value:
        with closing(open_declared(reference, spec, root, environ)) as source:
            listing = source.list()
        return FoundSource(reference, "", listing, format=_format(listing))
    try:
        check_repository(reference)
    except DataError as error:
        raise UsageError(f"source {text!r} {error.message}", hint=error.hint) from None
    return _find_repository(reference, spec, root, environ)


def _find_repository(
    reference: SourceReference, spec: SourceSpec, root: Path, environ: Mapping[str, str]
) -> FoundSource:
    repository, _, revision = reference.location.partition("@")
    revision = revision or DEFAULT_BRANCH
    asked = replace(reference, location=f"{repository}@{revision}")
    state = upstream_state(asked, spec, root, environ)
    prefix = HUB_DATASETS if repository.startswith(HUB_DATASETS) else ""
    pinned = replace(reference, location=f"{prefix}{state.repository.removeprefix(prefix)}@{state.commit}")
    with closing(open_declared(pinned, spec, root, environ)) as source:
        listing = source.list()
    return FoundSource(
        pinned,
        "" if is_commit(revision) else revision,
        listing,
        kind="dataset" if prefix else None,
        license=spdx_license(state.license),
        format=_format(listing),
        upstream=state,
        former="" if pinned.location.partition("@")[0] == repository else repository,
    )


def upstream_state(
    reference: SourceReference, spec: SourceSpec, root: Path, environ: Mapping[str, str]
) -> UpstreamState:
    """Return what the revision of `reference` is now. Raises SourceError."""
    with closing(open_declared(reference, spec, root, environ)) as source:
        return cast(TracksUpstream, source).upstream(reference.revision or DEFAULT_BRANCH)


def _format(listing: FileListing) -> str | None:
    return weights_format((file.path, file.size) for file in listing.files)


@dataclass(frozen=True, slots=True)
class SourceSelection:
    """The files of a version in its source, and the findings about them."""

    listing: SourceListing
    findings: tuple[Finding, ...]


def select_files(
    found: FoundSource, version: Version, spec: SourceSpec, root: Path, environ: Mapping[str, str]
) -> SourceSelection:
    """Select the files of `version`, and examine them by their names and headers. Raises SourceError."""
    with closing(open_declared(found.reference, spec, root, environ)) as source:
        listing = remote_listing(
            str(found.reference),
            ((file.path, file.size) for file in found.listing.files),
            include_hidden=version.include_hidden,
            patterns=version.patterns,
            read_span=SpanReader(source, {file.path: file for file in found.listing.files}),
        )
        return SourceSelection(listing, listing_findings(listing, version))


@dataclass(frozen=True, slots=True)
class NextVersion:
    """The next version of a model: its number, and what it takes over from its predecessor `after`."""

    after: str
    version: str
    source: str
    hidden: bool
    patterns: FilePatterns | None


def next_from_upstream(models: Mapping[str, Model], name: str) -> NextVersion:
    """Return the version that follows the newest one of `name` that has a repository as its source.

    `source` names the default branch of that repository. Raises UsageError.
    """
    model = models.get(name)
    if model is None:
        near = closest(name, models)
        raise UsageError(f"unknown model {name!r}", hint=f"did you mean {near!r}?" if near else None)
    for text in newest_first(list(model.versions)):
        version = model.versions[text]
        if version.source is not None and is_commit(version.source.revision):
            break
    else:
        raise UsageError(
            f"no version of {name!r} has a repository as its source",
            hint="`reconcile add MODEL VERSION hf:org/name@main` adds the first one",
        )
    repository = version.source.location.partition("@")[0]
    own = version.patterns if version.patterns != model.patterns else None
    return NextVersion(
        text,
        _following(newest_first(list(model.versions))),
        f"{version.source.name}:{repository}@{DEFAULT_BRANCH}",
        version.include_hidden,
        own,
    )


def _following(texts: Sequence[str]) -> str:
    """Return the next minor version after the highest of `texts`, which are ordered newest first."""
    numbers = texts[0].partition("+")[0].partition("-")[0].split(".")
    if "-" in texts[0].partition("+")[0]:
        return ".".join(numbers)  # the release that the pre-release announces
    return f"{numbers[0]}.{int(numbers[1]) + 1}.0"
