"""How a secret goes into the Authorization header of each request, and nowhere else."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.errors import UsageError
from reconciler.net.secret import Secret


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
