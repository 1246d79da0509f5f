"""Secrets: a type that never prints its value, and the Authorization header made from one."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn
from urllib.parse import quote, quote_plus

from reconciler.errors import UsageError

_HIDDEN = "[secret]"
_SHORTEST_HIDDEN = 4  # redacting shorter values would remove ordinary words and thereby disclose the value


class Secret:
    """A value that `repr`, `str`, `format` and pickling do not disclose; only `reveal` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value. Use it in a header or in a child's environment only."""
        return self._value

    def redact(self, text: str) -> str:
        """Remove this secret from `text`, also where it is encoded (base64, URL, JSON) or occurs in part."""
        for form in self._forms():
            text = text.replace(form, _HIDDEN)
        return text

    def _forms(self) -> list[str]:
        value = self._value
        parts = {value, *value.split(":")}  # both halves of user:password may be echoed
        forms = set()
        for part in parts:
            encoded = base64.b64encode(part.encode()).decode("ascii")
            forms |= {part, quote(part), quote(part, safe=""), quote_plus(part), json.dumps(part)[1:-1]}
            forms |= {encoded, encoded.rstrip("="), quote(encoded, safe="")}
            forms.add(base64.urlsafe_b64encode(part.encode()).decode("ascii").rstrip("="))
        return sorted((form for form in forms if len(form) >= _SHORTEST_HIDDEN), key=len, reverse=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret({_HIDDEN})"

    def __str__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return _HIDDEN

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


def from_env(name: str, environ: Mapping[str, str]) -> Secret:
    """Return the secret in the environment variable `name`, without surrounding white space.

    Raises UsageError when it is missing, empty, or contains characters that are invalid in a header; the
    message names the variable and never its value.
    """
    value = environ.get(name, "").strip()
    if not value:
        state = "is empty" if name in environ else "is not set"
        raise UsageError(
            f"the environment variable {name!r} {state}",
            hint=f"set {name} to the secret, or change its *_env key",
        )
    if not value.isascii() or not value.isprintable():
        raise UsageError(
            f"the environment variable {name!r} contains characters that are invalid in an HTTP header",
            hint="set it again from its source, without line breaks",
        )
    return Secret(value)


class Scheme(StrEnum):
    """The authentication schemes that peers use."""

    BEARER = "bearer"
    BASIC = "basic"  #: the secret is `user:password`


@dataclass(frozen=True, slots=True)
class Auth:
    """A secret and its authentication scheme. Raises UsageError for a basic secret without a colon."""

    scheme: Scheme
    secret: Secret = field(repr=False)

    def __post_init__(self) -> None:
        if self.scheme is Scheme.BASIC and ":" not in self.secret.reveal():
            raise UsageError("a basic secret has no colon", hint="write it as user:password")

    def header(self) -> str:
        """Return the value of the Authorization header."""
        value = self.secret.reveal()
        if self.scheme is Scheme.BEARER:
            return f"Bearer {value}"
        return f"Basic {base64.b64encode(value.encode()).decode('ascii')}"
