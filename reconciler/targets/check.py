"""The level at which an observation checks.

A separate module, so that flags can use it without loading a target.
"""

from enum import StrEnum


class Check(StrEnum):
    """The check level of `observe`."""

    QUICK = "quick"  #: listings and sizes only; the number of requests does not grow with the versions
    SAMPLE = "sample"  #: random leaves are read and hashed as well
    FULL = "full"  #: every block is read and hashed
