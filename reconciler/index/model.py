"""The content of an index as frozen dataclasses; `load.py` builds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.content.cid import Cid
from reconciler.content.patterns import ALL_FILES, FilePatterns
from reconciler.errors import Where
from reconciler.index.label import Label, mark_of

if TYPE_CHECKING:
    from reconciler.content.bundle_inputs import BundleInputs
    from reconciler.content.car import ShardedCar
    from reconciler.content.contents import BundleContents
    from reconciler.content.lint.finding import FindingCode
    from reconciler.index.provenance import Provenance
    from reconciler.index.seal_policy import SealPolicy
    from reconciler.index.signature_rules import SignatureRule
    from reconciler.index.version_source import SourceReference


@dataclass(frozen=True, slots=True)
class DealPolicy:
    """The deals that the index requires: at least `min` for every piece, with at least `providers` different
    providers. A deal counts until `renew_before` its end.
    """

    min: int
    providers: int
    renew_before: timedelta


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one model. `version` is SemVer 2.0 text; `where` points at its line in the index.

    Its bytes are at `path`, relative to the repository (or --source-root), or in `source`; both are None when
    the index names neither. `cid` is None until resolved. `targets` and `patterns` have the defaults of model
    and index applied. `yanked` is the reason, None without one. `deals` is the policy for its deals, None
    without one. A run leaves a `suspended` version alone. `accept` are the findings that do not keep it from
    being published. A new version is sealed if there is `seal`, the policy of its model. Unless `public`,
    only private targets may have it.
    """

    model: str
    version: str
    where: Where
    kind: str = "model"
    format: str | None = None
    license: str | None = None
    path: str | None = None
    source: SourceReference | None = None
    created_at: str | None = None
    cid: Cid | None = None
    yanked: str | None = None
    retired: bool = False
    protect: bool = False
    suspended: bool = False
    include_hidden: bool = False
    patterns: FilePatterns = ALL_FILES
    accept: tuple[FindingCode, ...] = ()
    targets: tuple[str, ...] = ()
    deals: DealPolicy | None = None
    seal: SealPolicy | None = None
    public: bool = True

    @property
    def ref(self) -> str:
        """`model@version`."""
        return f"{self.model}@{self.version}"

    @property
    def origin(self) -> str | None:
        """The path or the source, as the index has it; None without both."""
        return self.path if self.source is None else str(self.source)

    @property
    def inputs(self) -> BundleInputs:
        """What its bundle is made from, besides the bytes, according to the index."""
        from reconciler.content.bundle_inputs import BundleInputs
        from reconciler.content.manifest import ReleaseInfo

        release = ReleaseInfo(self.model, self.version, self.format, self.created_at)
        return BundleInputs(release, self.include_hidden, self.patterns)


@dataclass(frozen=True, slots=True)
class Model:
    """One model: its versions by SemVer text, in the order of the file, and its channels.

    While it is `suspended`, a run also leaves pins of versions alone that are no longer in the index.
    `patterns` are those of versions that have none of their own.
    `build` is the build metadata that a range takes among versions that differ only in it; None without one.
    `seal` is how new versions are sealed; with `seal_off` the model was sealed once, and is not any more.
    """

    name: str
    where: Where
    versions: Mapping[str, Version]
    channels: Mapping[str, str]
    suspended: bool = False
    patterns: FilePatterns = ALL_FILES
    build: str | None = None
    seal: SealPolicy | None = None
    seal_off: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """A valid index. `id` is the owner in its labels; `digest` is the sha256 of the file, hex.

    `patterns` are those of models that have none of their own. `signatures` is the rule about signatures that
    its own versions need, None without one.
    """

    id: str
    file: Path
    digest: str
    models: Mapping[str, Model]
    patterns: FilePatterns = ALL_FILES
    signatures: SignatureRule | None = None

    @property
    def mark(self) -> str:
        """The prefix of the labels of this index: `reconciler/<index id>/`."""
        return mark_of(self.id)

    def label(self, version: Version) -> Label:
        """Return the label under which targets keep this version."""
        return Label.of(self.id, version.ref)

    def versions(self) -> Iterator[Version]:
        """Iterate over every version of every model, in the order of the file."""
        for model in self.models.values():
            yield from model.versions.values()


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One entry of releases/targets.yaml, validated by the schema: `options` are the keys of its kind.

    Option values are str, bool, int, or nested lists and mappings of them, exactly as the schema types them.
    Only people whom its owner trusts can read from a `private` target.
    """

    name: str
    kind: str
    options: Mapping[str, object]
    where: Where
    private: bool = False


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One entry of releases/sources.yaml, or a source that needs none, in the form of a TargetSpec."""

    name: str
    kind: str
    options: Mapping[str, object]
    where: Where


@dataclass(frozen=True, slots=True)
class Record:
    """Immutable facts found at publishing: releases/records/<model>/<version>.json.

    `size` is the bytes of all files, `blocks` the number of unique blocks, `block_bytes` their bytes,
    `car_size` the bytes of the CARv1, `dirhash` the hex sha256 of SHA256SUMS. `pieces` are the CARs and piece
    CIDs for each sharding that a target of the version uses; empty when no target needs them. `inputs` is
    what the bundle was made from, and `contents` its files; both are None in records of earlier releases,
    `contents` also for very many files. `provenance` says where streamed bytes came from.
    """

    model: str
    version: str
    cid: Cid
    size: int
    files: int
    blocks: int
    block_bytes: int
    car_size: int
    dirhash: str
    profile: str
    pieces: tuple[ShardedCar, ...] = ()
    inputs: BundleInputs | None = None
    contents: BundleContents | None = None
    provenance: Provenance | None = None
