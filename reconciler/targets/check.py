"""How deep an observation looks. A module of its own, so that flags can name it without loading a target."""

from enum import StrEnum


class Check(StrEnum):
    """How deep `observe` looks."""

    QUICK = "quick"  #: listings and sizes only; the number of requests does not grow with the versions
    SAMPLE = "sample"  #: random leaves are read and hashed as well
    FULL = "full"  #: every block is read and hashed
