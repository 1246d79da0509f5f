"""The doors that `serve` was asked for, opened over its stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.gateway.doors.huggingface import HuggingFaceDoor
from reconciler.gateway.doors.interface import Door, DoorAccess, DoorContent
from reconciler.gateway.doors.layer_digests import LayerDigests
from reconciler.gateway.doors.oci import OciDoor
from reconciler.gateway.doors.ollama import OllamaDoor
from reconciler.gateway.release_files import FileTables
from reconciler.gateway.releases import ReleaseView
from reconciler.gateway.stores import ReadBlock
from reconciler.index.model import Index

DOOR_NAMES = ("hf", "oci", "ollama")


@dataclass(frozen=True, slots=True)
class OpenedDoors:
    """The doors of one server, the releases that all of them show, and who may read them."""

    view: ReleaseView
    doors: Sequence[Door]
    access: DoorAccess


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """The `names` of the doors, and what they answer from.

    `load` returns the index, and is called again after `reload_seconds`. `cache` is a directory for digests
    of image layers, which may be deleted at any time.
    """

    names: Sequence[str]
    load: Callable[[], Index]
    reload_seconds: float = 2.0
    cache: Path | None = None
    access: DoorAccess = field(default_factory=DoorAccess)

    def open(self, reader: Callable[[], ReadBlock], log: Callable[[str], None]) -> OpenedDoors:
        """Read the index and open the doors; `reader` as in DoorContent. Raises what `load` raises."""
        view = ReleaseView(self.load, seconds=self.reload_seconds, log=log)
        content = DoorContent(view, FileTables(reader), reader, self.access)
        digests = LayerDigests(self.cache / "image-layers" if self.cache else None)
        doors: Mapping[str, Callable[[], Door]] = {
            "hf": lambda: HuggingFaceDoor(content),
            "ollama": lambda: OllamaDoor(content),
            "oci": lambda: OciDoor(content, digests),  # after ollama, whose requests are below /v2, too
        }
        return OpenedDoors(view, [make() for name, make in doors.items() if name in self.names], self.access)


def parse_doors(text: str) -> tuple[str, ...]:
    """Parse a list such as `hf,oci`; "" for none. Raises UsageError for an unknown door."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in DOOR_NAMES:
            raise UsageError(f"unknown door {name!r}", hint=f"the doors are {', '.join(DOOR_NAMES)}")
    return names
