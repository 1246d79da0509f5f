"""Secrets as a type that never prints.

How a secret goes into the Authorization header of each request, and nowhere else.
"""

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
_SHORTEST_HIDDEN = 4  # redacting shorter values would eat ordinary words and tell what the value is


class Secret:
    """A value that `repr`, `str`, `format` and pickling do not give away; only `reveal` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Put it in a header and nowhere else."""
        return self._value

    def redact(self, text: str) -> str:
        """`text` without this secret, also where a peer echoes it encoded (base64, URL, JSON) or in part."""
        for form in self._forms():
            text = text.replace(form, _HIDDEN)
        return text

    def _forms(self) -> list[str]:
        value = self._value
        parts = {value, *value.split(":")}  # user:password is also sent, and echoed, in its halves
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
    """The secret in the environment variable `name`, without surrounding white space.

    Raises UsageError, naming the variable and never its value, when it is missing, empty, or fits no header.
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
            f"the environment variable {name!r} holds characters that no HTTP header can carry",
            hint="set it again from its source; line breaks inside are a usual mistake",
        )
    return Secret(value)


class Scheme(StrEnum):
    """The schemes our peers know."""

    BEARER = "bearer"
    BASIC = "basic"  #: the secret is `user:password`


@dataclass(frozen=True, slots=True)
class Auth:
    """A secret and the scheme it is shown under. Raises UsageError for a basic secret without a colon."""

    scheme: Scheme
    secret: Secret = field(repr=False)

    def __post_init__(self) -> None:
        if self.scheme is Scheme.BASIC and ":" not in self.secret.reveal():
            raise UsageError("a basic secret has no colon", hint="it is written user:password")

    def header(self) -> str:
        """The value of the Authorization header."""
        value = self.secret.reveal()
        if self.scheme is Scheme.BEARER:
            return f"Bearer {value}"
        return f"Basic {base64.b64encode(value.encode()).decode('ascii')}"
