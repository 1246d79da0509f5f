"""Strict reading of JSON: responses of peers, records, labels in stores, and caches.

A wrong type raises, an unknown field is ignored, and `load_json` refuses a repeated name. `JsonFields` is one
value of a document; its `fail` makes the error that the caller needs from a message such as "'cid' is not a
string": an UnexpectedResponseError that names the peer, or an InvalidIndexError that names the file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

#: makes the error for a message about the document, such as "'pin.cid' is not a string"
Fail = Callable[[str], Exception]


class DuplicateNameError(ValueError):
    """An object has the same name twice."""


def load_json(data: bytes | str) -> object:
    """Parse one JSON value. Raises ValueError for malformed JSON, invalid UTF-8, and a repeated name."""
    text = data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")
    if text.startswith("\ufeff"):
        raise json.JSONDecodeError("begins with a byte order mark (U+FEFF)", text, 0)
    try:
        value: object = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        repeated = next(name for name, count in counts.items() if count > 1)
        raise DuplicateNameError(f"the name {repeated!r} occurs twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates)  # `json.loads` makes one for each text


@dataclass(frozen=True, slots=True)
class JsonFields:
    """One JSON value and its path in the document; methods take one name for each level below it.

    Methods without `_or` raise `fail(message)` when the value is missing or has the wrong type. Methods with
    `_or` return their default when it is missing or null, and raise for a wrong type.
    """

    value: object
    fail: Fail
    path: str = ""

    def at(self, *names: str) -> JsonFields:
        """Return the value below `names`; null when there is none."""
        return JsonFields(self._dig(names), self.fail, self._path(names))

    def has(self, *names: str) -> bool:
        """Return whether there is a value other than null."""
        return self._dig(names) is not None

    def mapping(self, *names: str) -> dict[str, object]:
        """Return a JSON object."""
        found = self._dig(names)
        if not isinstance(found, dict):
            raise self.error("an object", *names)
        return found

    def text(self, *names: str) -> str:
        """Return a string."""
        found = self._dig(names)
        if not isinstance(found, str):
            raise self.error("a string", *names)
        return found

    def text_or(self, default: str, *names: str) -> str:
        """Return a string; `default` when it is missing or null."""
        return self.text(*names) if self.has(*names) else default

    def number(self, *names: str) -> int:
        """Return an integer. True, false, and numbers with a fraction or an exponent raise."""
        found = self._dig(names)
        if not isinstance(found, int) or isinstance(found, bool):
            raise self.error("a whole number", *names)
        return found

    def number_in(self, least: int, most: int, *names: str) -> int:
        """Return an integer between `least` and `most`, both included."""
        found = self.number(*names)
        if not least <= found <= most:
            raise self.error(f"a whole number from {least} to {most}", *names)
        return found

    def number_or(self, default: int, *names: str) -> int:
        """Return an integer; `default` when it is missing or null."""
        return self.number(*names) if self.has(*names) else default

    def flag(self, *names: str) -> bool:
        """Return a boolean; False when it is missing or null."""
        found = self._dig(names)
        if found is not None and not isinstance(found, bool):
            raise self.error("true or false", *names)
        return found is True

    def items(self, *names: str) -> Iterator[JsonFields]:
        """Iterate over the items of a list. Raises at the call, not at the first item."""
        found = self._dig(names)
        if not isinstance(found, list):
            raise self.error("a list", *names)
        path = self._path(names)
        return (JsonFields(item, self.fail, f"{path}[{number}]") for number, item in enumerate(found))

    def members(self, *names: str) -> Iterator[tuple[str, JsonFields]]:
        """Iterate over the names and values of an object. Raises at the call, not at the first member."""
        parent = self.at(*names)
        return ((name, parent.at(name)) for name in parent.mapping())

    def items_or_none(self, *names: str) -> Iterator[JsonFields]:
        """Iterate over the items of a list; over nothing when it is missing or null."""
        return self.items(*names) if self.has(*names) else iter(())

    def texts(self, *names: str) -> tuple[str, ...]:
        """Return the strings of a list that may be missing or null; items of other types are left out."""
        return tuple(item.value for item in self.items_or_none(*names) if isinstance(item.value, str))

    def words(self, *names: str) -> dict[str, str]:
        """Return the string values of a free-form object by name; {} when it is not an object."""
        found = self._dig(names)
        if not isinstance(found, dict):
            return {}
        return {name: word for name, word in found.items() if isinstance(word, str)}

    def moment(self, *names: str) -> datetime | None:
        """Return an RFC 3339 time; None when it cannot be read, or is Go's zero time (year 1)."""
        found = self._dig(names)
        if not isinstance(found, str):
            return None
        try:
            time = datetime.fromisoformat(found)
        except ValueError:
            return None
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        return time if time.year > 1 else None

    def error(self, expected: str, *names: str) -> Exception:
        """Make the error for a value that is not `expected`, such as "a string"."""
        path = self._path(names)
        return self.fail(f"{repr(path) if path else 'the document'} is not {expected}")

    def _dig(self, names: tuple[str, ...]) -> object:
        value = self.value
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def _path(self, names: tuple[str, ...]) -> str:
        return ".".join(part for part in (self.path, *names) if part)
