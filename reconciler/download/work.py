"""The units of a download: runs of them, and the part of a run that one connection works on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class RunForm(Enum):
    """How the units of a run can be requested.

    `RANGE`: any consecutive ones in one response. `WHOLE`: all of them in one response, some only one by one.
    `SINGLE`: one by one.
    """

    RANGE = "range"
    WHOLE = "whole"
    SINGLE = "single"


@dataclass(frozen=True, slots=True)
class UnitRun:
    """Units that belong together, such as the missing leaves of one file, in order.

    Unit number `units[i]` has the bytes `offsets[i]` to before `offsets[i + 1]`, relative to the first; so
    `offsets` has one entry more than `units`.
    """

    units: Sequence[int]
    offsets: Sequence[int]
    form: RunForm

    def size(self, start: int, stop: int) -> int:
        """Return the bytes of the units with the indices `start` to before `stop`."""
        return self.offsets[stop] - self.offsets[start]


@dataclass(slots=True, eq=False)
class Assignment:
    """A part of a run, given to one connection to source number `source`.

    These are the units with the indices `cursor` to before `stop`: the first ones leave when they are done,
    the last ones when another connection takes them over. `form` is how they are requested. `moved` is the
    moment of the last delivery, or the beginning; `first_byte` the one at which the first byte arrived.
    """

    source: int
    number: int  #: of the run
    run: UnitRun
    start: int
    stop: int
    form: RunForm
    began: float
    moved: float
    asked: int = 0  #: `stop` at the beginning: the end of what was requested
    cursor: int = 0
    first_byte: float = 0.0
    received: int = 0  #: bytes of units that were new
    delivered: int = 0  #: units, also those that another connection had delivered before
    misses: int = 0  #: consecutive units that the source lacks
    heard: float = 0.0  #: the moment at which bytes arrived last, or the beginning
    singly: bool = False  #: these and the following as of FreePart
    lacking: frozenset[int] = frozenset()
    setbacks: int = 0

    @property
    def units(self) -> Sequence[int]:
        """The numbers of the units that are left, also of some that are done."""
        return self.run.units[self.cursor : self.stop]

    @property
    def remaining(self) -> int:
        """The bytes that are left."""
        return self.run.size(self.cursor, self.stop) if self.cursor < self.stop else 0


@dataclass(frozen=True, slots=True)
class FreePart:
    """Units of a run that no connection works on.

    With `singly`, they are requested one by one. The sources `lacking` have none of them; those in `shy`
    lacked some next to them, and are asked last. `setbacks` weighs the requests that
    failed without any of them: those beside which no connection worked count more.
    """

    number: int
    run: UnitRun
    start: int
    stop: int
    singly: bool = False
    lacking: frozenset[int] = frozenset()
    shy: frozenset[int] = frozenset()
    setbacks: int = 0

    @property
    def size(self) -> int:
        """Bytes of all units."""
        return self.run.size(self.start, self.stop)
