"""A forge's JSON answer, read without believing its shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.net.errors import UnexpectedResponseError

_HINT = "is this the address of the forge's API?"


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON value of `peer`'s answer; names are given one a level.

    Every reader raises UnexpectedResponseError.
    """

    peer: str
    value: object

    def text(self, *names: str) -> str:
        """A string that must be there."""
        found = self._dig(names)
        if not isinstance(found, str):
            raise self._unexpected(names)
        return found

    def text_or(self, default: str, *names: str) -> str:
        """A string that may be missing or null."""
        found = self._dig(names)
        return found if isinstance(found, str) else default

    def number(self, *names: str) -> int:
        """A whole number that must be there."""
        found = self._dig(names)
        if not isinstance(found, int) or isinstance(found, bool):
            raise self._unexpected(names)
        return found

    def flag(self, *names: str) -> bool:
        """Whether something is true; missing and null count as false."""
        return self._dig(names) is True

    def at(self, *names: str) -> Fields:
        """What is below these names, null when there is nothing."""
        return Fields(self.peer, self._dig(names))

    def has(self, *names: str) -> bool:
        """Whether there is something other than null."""
        return self._dig(names) is not None

    def items(self, *names: str) -> Iterator[Fields]:
        """The items of a list that must be there (with no name: of the value itself)."""
        found = self._dig(names)
        if not isinstance(found, list):
            raise self._unexpected(names)
        for item in found:
            yield Fields(self.peer, item)

    def items_or_none(self, *names: str) -> Iterator[Fields]:
        """The items of a list that may be missing or null."""
        return self.items(*names) if self.has(*names) else iter(())

    def _dig(self, names: tuple[str, ...]) -> object:
        value = self.value
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def _unexpected(self, names: tuple[str, ...]) -> UnexpectedResponseError:
        return UnexpectedResponseError(
            self.peer, f"answered without {'.'.join(names) or 'a list'!r}", hint=_HINT
        )
