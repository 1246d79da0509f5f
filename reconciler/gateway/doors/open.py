"""The doors that `serve` was asked for, opened over its stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.gateway.background_digests import BackgroundDigests, UnhashedContent
from reconciler.gateway.doors.huggingface import HuggingFaceDoor
from reconciler.gateway.doors.interface import Door, DoorAccess, DoorContent
from reconciler.gateway.doors.oci import OciDoor
from reconciler.gateway.doors.ollama import OllamaDoor
from reconciler.gateway.doors.referrers import FindSignatures
from reconciler.gateway.release_files import FileTables
from reconciler.gateway.releases import ReleaseView
from reconciler.gateway.stores import ReadBlock, Stores
from reconciler.gateway.upstream import BlockCache, UpstreamSource, UpstreamStores
from reconciler.index.model import Index

DOOR_NAMES = ("hf", "oci", "ollama")


@dataclass(frozen=True, slots=True)
class OpenedDoors:
    """The doors of one server, the releases that all of them show, and who may read them."""

    view: ReleaseView
    doors: Sequence[Door]
    access: DoorAccess
    digests: BackgroundDigests

    def close(self) -> None:
        """Stop what runs in the background."""
        self.digests.close()


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where blocks come from that no store has, and the directory that keeps them.

    `cache_limit` is its size in bytes, None for no limit.
    """

    sources: Sequence[UpstreamSource]
    cache: Path
    cache_limit: int | None = None


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """The `names` of the doors, and what they answer from.

    `load` returns the index, and is called again after `reload_seconds`. `cache` is a directory for digests
    of image layers, which may be deleted at any time. `refused` as in ReleaseView; `signatures` returns the
    files with signatures of a version.
    """

    names: Sequence[str]
    load: Callable[[], Index]
    reload_seconds: float = 2.0
    upstream: Upstream | None = None
    cache: Path | None = None
    access: DoorAccess = field(default_factory=DoorAccess)
    refused: Callable[[], Mapping[str, str]] = dict
    signatures: FindSignatures = lambda _: ()

    def view(self, log: Callable[[str], None]) -> ReleaseView:
        """Read the index. Raises what `load` raises."""
        return ReleaseView(self.load, seconds=self.reload_seconds, log=log, refused=self.refused)

    def stores(self, directories: Sequence[Path], view: ReleaseView, log: Callable[[str], None]) -> Stores:
        """Return the stores at `directories`, with what `upstream` has of the versions in the index."""
        if self.upstream is None:
            return Stores(directories)
        cache = BlockCache(self.upstream.cache, self.upstream.cache_limit, log=log)
        return UpstreamStores(directories, self.upstream.sources, cache, view.has_root)

    def open(self, view: ReleaseView, reader: Callable[[], ReadBlock]) -> OpenedDoors:
        """Open the doors; `reader` as in DoorContent."""
        digests = BackgroundDigests(self.cache / "digests" if self.cache else None)

        def hash_files(contents: Sequence[UnhashedContent]) -> Sequence[bytes]:
            return digests.digests(contents, reader, "files that SHA256SUMS does not have")

        content = DoorContent(view, FileTables(reader, hash_files), reader, self.access, digests)
        doors: Mapping[str, Callable[[], Door]] = {
            "hf": lambda: HuggingFaceDoor(content),
            "ollama": lambda: OllamaDoor(content),
            "oci": lambda: OciDoor(
                content, self.signatures
            ),  # after ollama, whose requests are below /v2, too
        }
        opened = [make() for name, make in doors.items() if name in self.names]
        return OpenedDoors(view, opened, self.access, digests)


def parse_doors(text: str) -> tuple[str, ...]:
    """Parse a list such as `hf,oci`; "" for none. Raises UsageError for an unknown door."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in DOOR_NAMES:
            raise UsageError(f"unknown door {name!r}", hint=f"the doors are {', '.join(DOOR_NAMES)}")
    return names
