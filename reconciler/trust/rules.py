"""From a declared rule to a policy: the files with keys, authorities and trust roots are read here.

Declared rules reach this room by their form, the protocols below, since what declares them is a room on the
same floor.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Protocol

from reconciler.errors import DataError, UsageError, Where
from reconciler.trust.certificates import parse_authorities
from reconciler.trust.policy import (
    AcceptedSigner,
    CertifiedSigner,
    IdentityHolder,
    KeyHolder,
    TrustPolicy,
    check_policy,
)
from reconciler.trust.provenance import ProvenanceRule
from reconciler.trust.public_keys import MAX_KEY, parse_public_key


class DeclaredSigner(Protocol):
    """One signer as a file declares it: a key, an authority, or an identity with its issuer."""

    @property
    def key(self) -> Path | None:
        """The file with the public key."""

    @property
    def until(self) -> date | None:
        """The last day on which the key is accepted."""

    @property
    def authority(self) -> Path | None:
        """The file with the root certificates of an authority."""

    @property
    def identity(self) -> str:
        """The exact identity, "" for any of the authority."""

    @property
    def issuer(self) -> str:
        """The exact OIDC issuer of the identity."""

    @property
    def trusted_root(self) -> Path | None:
        """The file with the trust root of a signing service."""


class DeclaredRule(Protocol):
    """One rule as a file declares it."""

    @property
    def signers(self) -> Sequence[DeclaredSigner]:
        """The signers that are accepted."""

    @property
    def threshold(self) -> int:
        """How many of them must have signed."""

    @property
    def provenance(self) -> tuple[str, str] | None:
        """The exact builder and source that are demanded, "" for any; None when no provenance is."""

    @property
    def where(self) -> Where:
        """The place of the rule."""


def make_policy(rule: DeclaredRule) -> TrustPolicy:
    """Read the files of a rule. Raises UsageError when one is missing or has another content."""
    try:
        signers = tuple(accepted_signer(each) for each in rule.signers)
        provenance = None if rule.provenance is None else ProvenanceRule(*rule.provenance)
        policy = TrustPolicy(signers, rule.threshold, provenance)
        check_policy(policy)
    except DataError as error:
        raise UsageError(error.message, hint=error.hint, where=rule.where) from None
    return policy


def accepted_signer(declared: DeclaredSigner) -> AcceptedSigner:
    """Return one signer of a policy. Raises UsageError and DataError."""
    if declared.key is not None:
        name = repr(str(declared.key))
        return KeyHolder(parse_public_key(read_file(declared.key), name), declared.key.name, declared.until)
    if declared.authority is not None:
        found = parse_authorities(read_file(declared.authority), repr(str(declared.authority)))
        return CertifiedSigner(found, declared.identity, declared.identity or declared.authority.name)
    return IdentityHolder(declared.identity, declared.issuer, declared.trusted_root)


def read_file(path: Path) -> bytes:
    """Return a small regular file. Raises UsageError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{str(path)!r} is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_KEY + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {str(path)!r}: {(error.strerror or str(error)).lower()}",
            hint="paths of keys are relative to the file that names them",
        ) from None
    if len(data) > MAX_KEY:
        raise UsageError(f"{str(path)!r} is larger than {MAX_KEY} bytes")
    return data
