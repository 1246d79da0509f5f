"""JSON of peers, read field by field: a wrong type is the peer's fault, an unknown field nobody's.

`peer` is the peer's name for the user. All raise UnexpectedResponseError, which names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from reconciler.net.errors import UnexpectedResponseError

_HINT = (
    "is this the address of the right API, and a version of it that the documentation of this target names?"
)


def record(peer: str, value: object, what: str) -> Mapping[str, object]:
    """`value` as a JSON object."""
    if not isinstance(value, dict):
        raise UnexpectedResponseError(peer, f"answered with something that is not {what}", hint=_HINT)
    return value


def items(peer: str, parent: Mapping[str, object], key: str) -> list[object]:
    """The list at `key`; missing and null are empty."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnexpectedResponseError(peer, f"answered with {key!r} that is not a list", hint=_HINT)
    return value


def texts(peer: str, parent: Mapping[str, object], key: str) -> tuple[str, ...]:
    """The strings in the list at `key`; other items are left out."""
    return tuple(item for item in items(peer, parent, key) if isinstance(item, str))


def text(peer: str, parent: Mapping[str, object], key: str) -> str:
    """The string at `key`; missing and null are ""."""
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnexpectedResponseError(peer, f"answered with {key!r} that is not a string", hint=_HINT)
    return value


def number(peer: str, parent: Mapping[str, object], key: str) -> int:
    """The integer at `key`; missing and null are 0."""
    value = parent.get(key)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnexpectedResponseError(peer, f"answered with {key!r} that is not a whole number", hint=_HINT)
    return value


def words(parent: Mapping[str, object], key: str) -> dict[str, str]:
    """The strings of the object at `key`, by name. Such objects are free-form: all else is left out."""
    value = parent.get(key)
    if not isinstance(value, dict):
        return {}
    return {name: word for name, word in value.items() if isinstance(word, str)}


def moment(parent: Mapping[str, object], key: str) -> datetime | None:
    """The RFC 3339 time at `key`; None when none can be read there, or it is Go's zero time (year 1)."""
    value = parent.get(key)
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return time if time.year > 1 else None
