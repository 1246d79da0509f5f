"""The doors that `serve` was asked for, opened over its stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.errors import UsageError
from reconciler.gateway.doors.huggingface import HuggingFaceDoor
from reconciler.gateway.doors.interface import Door, DoorAccess, DoorContent
from reconciler.gateway.release_files import FileTables
from reconciler.gateway.releases import ReleaseView
from reconciler.gateway.stores import ReadBlock
from reconciler.index.model import Index

_DOORS: Mapping[str, Callable[[DoorContent], Door]] = {"hf": HuggingFaceDoor}
DOOR_NAMES = tuple(_DOORS)


@dataclass(frozen=True, slots=True)
class OpenedDoors:
    """The doors of one server and the releases that all of them show."""

    view: ReleaseView
    doors: Sequence[Door]


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """The `names` of the doors, and what they answer from.

    `load` returns the index, and is called again after `reload_seconds`.
    """

    names: Sequence[str]
    load: Callable[[], Index]
    reload_seconds: float = 2.0
    access: DoorAccess = field(default_factory=DoorAccess)

    def open(self, reader: Callable[[], ReadBlock], log: Callable[[str], None]) -> OpenedDoors:
        """Read the index and open the doors; `reader` as in DoorContent. Raises what `load` raises."""
        view = ReleaseView(self.load, seconds=self.reload_seconds, log=log)
        content = DoorContent(view, FileTables(reader), reader, self.access)
        return OpenedDoors(view, [_DOORS[name](content) for name in self.names])


def parse_doors(text: str) -> tuple[str, ...]:
    """Parse a list such as `hf,oci`; "" for none. Raises UsageError for an unknown door."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in _DOORS:
            raise UsageError(f"unknown door {name!r}", hint=f"the doors are {', '.join(DOOR_NAMES)}")
    return names
