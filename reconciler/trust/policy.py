"""Whose releases are accepted: the rule of a consumer, and its judgement of the bundles of one release.

A pure decision: the caller brings the bytes of the bundles, and opens no connection for blocks before the
verdict. A bundle counts when its signature is by one of the signers of the rule and its statement names
exactly this release; a signer counts once, however many keys, spellings or bundles it has. What does not
count is ignored, and named when the threshold is not met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from reconciler.errors import DataError, TrustError
from reconciler.trust.certificates import certified_identity, identities, verify_chain
from reconciler.trust.dsse import SignatureBundle, parse_bundle
from reconciler.trust.keyless import verify_keyless
from reconciler.trust.provenance import ProvenanceRule
from reconciler.trust.public_keys import PublicKey, SignatureError, verify_signature
from reconciler.trust.signing import identity_folder, key_folder
from reconciler.trust.statement import Release, Statement, check_release, check_subject, parse_statement


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The holder of the private key of `key`, not accepted after the day `until`."""

    key: PublicKey
    label: str
    until: date | None = None

    @property
    def folder(self) -> str:
        """The folder of its signatures below a version."""
        return key_folder(self.key)

    def verify(self, bundle: SignatureBundle, now: datetime) -> bytes:
        """Return the payload that this signer signed. Raises SignatureError."""
        if bundle.certificates:
            raise SignatureError("the signature was made with a certificate")
        if self.until is not None and now.date() > self.until:
            raise SignatureError(f"{self.label} is accepted until {self.until} only")
        verify_signature(self.key, bundle.signature, bundle.signed)
        return bundle.payload


@dataclass(frozen=True, slots=True)
class CertifiedSigner:
    """Who has a certificate for `identity` (any, when it is "") by one of the authorities (DER)."""

    authorities: tuple[bytes, ...]
    identity: str
    label: str

    @property
    def folder(self) -> str:
        """The folder of its signatures below a version."""
        return identity_folder(self.identity, "certificate")

    def verify(self, bundle: SignatureBundle, now: datetime) -> bytes:
        """Return the payload that this signer signed. Raises SignatureError."""
        if not bundle.certificates or bundle.logged:
            raise SignatureError("the signature has no certificate of an authority of one's own")
        key = verify_chain(bundle.certificates, self.authorities, now)
        names = identities(bundle.certificates[0])
        if self.identity and self.identity not in names:
            raise SignatureError(f"the certificate is for {', '.join(names)[:200]!r}, not {self.identity!r}")
        verify_signature(key, bundle.signature, bundle.signed)
        return bundle.payload


@dataclass(frozen=True, slots=True)
class IdentityHolder:
    """An OIDC identity and its issuer, both exact; `trusted_root` is a file, None for the public service."""

    identity: str
    issuer: str
    trusted_root: Path | None = None

    @property
    def label(self) -> str:
        """The identity."""
        return self.identity

    @property
    def folder(self) -> str:
        """The folder of its signatures below a version."""
        return identity_folder(self.identity, self.issuer)

    def verify(self, bundle: SignatureBundle, now: datetime) -> bytes:  # noqa: ARG002 - the bundle proves a time
        """Return the payload that this signer signed. Raises SignatureError."""
        if not bundle.certificates or not bundle.logged:
            raise SignatureError("the signature has no certificate for an identity")
        claimed = certified_identity(bundle.certificates[0])
        if claimed != (self.identity, self.issuer):  # so that most refusals load no library
            raise SignatureError(f"the certificate is for {claimed[0][:200]!r} by {claimed[1][:200]!r}")
        return verify_keyless(bundle.text, self.identity, self.issuer, self.trusted_root)


AcceptedSigner = KeyHolder | CertifiedSigner | IdentityHolder


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """The signers that are accepted, how many of them must have signed, and what the origin must be."""

    signers: tuple[AcceptedSigner, ...]
    threshold: int = 1
    provenance: ProvenanceRule | None = None


@dataclass(frozen=True, slots=True)
class BundleFile:
    """The bytes of one file with a signature, and its place in messages."""

    place: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who signed a release, as far as the policy accepts them, and why other bundles do not count.

    `builder` is that of an accepted provenance statement, "" without one.
    """

    release: Release
    accepted: bool
    signers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    builder: str = ""
    needed: int = 1

    def require(self) -> None:
        """Raise TrustError when the release is not accepted."""
        if self.accepted:
            return
        ref = self.release.ref
        if not self.signers and not self.problems:
            raise TrustError(
                f"{ref} is not signed, and a trust rule demands a signature",
                hint="ask its publisher to sign it, or change the rule under `trust` in your configuration",
            )
        count = f"{len(self.signers)} of {self.needed} signers" if self.signers else "no accepted signer"
        why = "; ".join(self.problems[:4])
        raise TrustError(
            f"{ref} is refused by a trust rule: {count} signed it" + (f" ({why})" if why else ""),
            hint="compare the signers under `trust` in your configuration with what its publisher announces",
        )


@dataclass
class _Count:
    """The distinct signers so far, and what does not count."""

    labels: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def judge(
    release: Release,
    bundles: Sequence[BundleFile],
    provenance: Sequence[BundleFile],
    policy: TrustPolicy,
    now: datetime | None = None,
) -> Verdict:
    """Return whether `policy` accepts `release`, given its release and provenance bundles.

    `now` is the current time by default. Raises ReconcilerError only when a library is missing or a trust
    root cannot be read.
    """
    now = now or datetime.now(UTC)
    count = _Count()
    for found in bundles:
        signed = _signed_by(found, policy.signers, now, count)
        if signed is None:
            continue
        signer, statement = signed
        try:
            check_release(statement, release)
        except DataError as error:
            count.problems.append(f"{found.place}: {error.message}")
        else:
            count.labels[signer.folder] = signer.label
    builder, proven = "", policy.provenance is None
    for found in provenance if policy.provenance is not None else ():
        signed = _signed_by(found, policy.signers, now, count)
        if signed is None or policy.provenance is None:
            continue
        try:
            check_subject(signed[1], release)
            builder, proven = policy.provenance.check(signed[1]), True
        except DataError as error:
            count.problems.append(f"{found.place}: {error.message}")
    if not proven and not provenance:
        count.problems.append("it has no signed provenance")
    accepted = len(count.labels) >= policy.threshold and proven
    return Verdict(
        release, accepted, tuple(count.labels.values()), tuple(count.problems), builder, policy.threshold
    )


def _signed_by(
    found: BundleFile, signers: Sequence[AcceptedSigner], now: datetime, count: _Count
) -> tuple[AcceptedSigner, Statement] | None:
    """Return the signer of a bundle and its statement; None, and a problem, without an accepted signer."""
    try:
        bundle = parse_bundle(found.data)
    except DataError as error:
        count.problems.append(f"{found.place}: {error.message}")
        return None
    reasons = []
    for signer in signers:
        try:
            return signer, parse_statement(signer.verify(bundle, now))
        except SignatureError as error:
            reasons.append(error.message)
        except DataError as error:
            count.problems.append(f"{found.place}: {error.message}")
            return None
    count.problems.append(f"{found.place}: {reasons[-1] if reasons else 'no signer is accepted'}")
    return None


def check_policy(policy: TrustPolicy) -> None:
    """Check that enough distinct signers are named. Raises DataError."""
    distinct = {signer.folder for signer in policy.signers}
    if len(distinct) < policy.threshold:
        raise DataError(
            f"{policy.threshold} signatures are demanded of {len(distinct)} distinct signers",
            hint="name more signers, or lower `threshold`; a key that is listed twice counts once",
        )
