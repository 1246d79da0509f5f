"""The errors of age files and keys. None of them quotes a key."""

from __future__ import annotations

from reconciler.errors import DataError, UsageError


class AgeError(DataError):
    """An age file is malformed, was altered, or was encrypted in a way that is not supported."""


class NotForIdentityError(AgeError):
    """No identity at hand opens an age file."""


class AgeKeyError(UsageError):
    """A recipient or an identity is not a key, or is of a kind that is not supported."""
