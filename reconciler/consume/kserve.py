"""The verification that KServe asks of a container that fetches a model, from its environment.

| variable | field of `verification` in the storage spec |
|---|---|
| VERIFICATION_DIGEST | `digest`: `sha256:` and the hex of the root block (in the CID), or of SHA256SUMS |
| VERIFICATION_BUNDLE | `signature.bundle`: a file with the signature; default: beside the index |
| VERIFICATION_PUBLIC_KEY | `signature.publicKeyRef`: a file with the key |
| VERIFICATION_IDENTITY, VERIFICATION_OIDC_ISSUER | `signature.identity` and `signature.oidcIssuer` |
| VERIFICATION_TRUST_CONFIG | `signature.trustConfigRef`: a file with the trust root of the signing service |
| VERIFICATION_MODE | `enforce` (default) or `warn` |

KServe passes a storage container two arguments and an environment. The name of the first variable is that of
its proposal; it has released none for the others. A demand here is one more beside the trust rules of the
configuration.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.consume.trusted import NOT_ASKED, TrustCheck, TrustOutcome
from reconciler.content import checksums
from reconciler.errors import TrustError, UsageError, Where

if TYPE_CHECKING:
    from reconciler.content.cid import Cid
    from reconciler.index.signature_rules import SignatureRule

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_WHERE = Where("the environment")


@dataclass(frozen=True, slots=True)
class Verification:
    """What the environment demands: a digest in hex ("" for none), a rule about signatures, and a bundle."""

    digest: str = ""
    rule: SignatureRule | None = None
    bundle: Path | None = None
    warns: bool = False

    def require(self, check: TrustCheck, model: str, version: str, cid: Cid) -> TrustOutcome:
        """Return who signed a release, as a `Demand` does. Raises TrustError unless it only warns."""
        if self.rule is None:
            return NOT_ASKED
        if self.bundle is None:
            return replace(check, rules=(self.rule,)).require(model, version, cid)
        try:
            return TrustOutcome(self._signers(check.index_id if model else None, model, version, cid))
        except TrustError as error:
            if not self.warns:
                raise
            return TrustOutcome(warnings=(error.message,))

    def _signers(self, index: str | None, model: str, version: str, cid: Cid) -> tuple[str, ...]:
        """Return who signed the bundle of the environment. Raises TrustError."""
        from reconciler.trust.dsse import MAX_BUNDLE
        from reconciler.trust.policy import BundleFile, judge
        from reconciler.trust.rules import make_policy
        from reconciler.trust.statement import Release

        assert self.rule is not None and self.bundle is not None  # noqa: S101, PT018  the caller checked both
        try:
            with self.bundle.open("rb") as file:
                found = (BundleFile(str(self.bundle), file.read(MAX_BUNDLE + 1)),)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise TrustError(
                f"the signature {str(self.bundle)!r} cannot be read: {reason}",
                hint="VERIFICATION_BUNDLE names the file with it",
            ) from None
        verdict = judge(Release(index, model, version, cid), found, (), make_policy(self.rule))
        verdict.require()
        return verdict.signers

    def check_digest(self, cid: Cid, destination: Path) -> str:
        """Compare the digest with the CID, or with SHA256SUMS in `destination`; return a warning or "".

        Raises TrustError unless it only warns.
        """
        if self.digest in ("", cid.digest.hex()):
            return ""
        try:
            sums = hashlib.sha256((destination / checksums.NAME).read_bytes()).hexdigest()
        except OSError:
            sums = ""
        if sums == self.digest:
            return ""
        message = f"neither the root block of {cid} nor its {checksums.NAME} has sha256:{self.digest}"
        if self.warns:
            return message
        raise TrustError(message, hint="VERIFICATION_DIGEST demands another model")


def read_verification(environ: Mapping[str, str]) -> Verification:
    """Read the variables. Raises UsageError for values that do not fit together."""
    given = {name: environ.get(f"VERIFICATION_{name}", "") for name in _NAMES}
    mode = given["MODE"] or "enforce"
    if mode not in ("enforce", "warn"):
        raise UsageError(f"VERIFICATION_MODE is {mode!r}", hint="use enforce or warn")
    digest = ""
    if given["DIGEST"]:
        found = _DIGEST.fullmatch(given["DIGEST"])
        if found is None:
            raise UsageError(
                f"VERIFICATION_DIGEST is {given['DIGEST'][:80]!r}", hint="write sha256: and 64 hex digits"
            )
        digest = found[1]
    return Verification(digest, _rule(given, mode), _path(given["BUNDLE"]), mode == "warn")


_NAMES = ("DIGEST", "BUNDLE", "PUBLIC_KEY", "IDENTITY", "OIDC_ISSUER", "TRUST_CONFIG", "MODE")


def _rule(given: Mapping[str, str], mode: str) -> SignatureRule | None:
    from reconciler.index.signature_rules import SignatureRule, SignerSpec

    key, identity, issuer = given["PUBLIC_KEY"], given["IDENTITY"], given["OIDC_ISSUER"]
    if not key and not identity and not issuer:
        if given["BUNDLE"]:
            raise UsageError(
                "VERIFICATION_BUNDLE is set, and no signer",
                hint="set VERIFICATION_PUBLIC_KEY, or VERIFICATION_IDENTITY and VERIFICATION_OIDC_ISSUER",
            )
        return None
    if bool(key) == bool(identity) or bool(identity) != bool(issuer):
        raise UsageError(
            "the signer of the model is not clear",
            hint="set VERIFICATION_PUBLIC_KEY, or VERIFICATION_IDENTITY and VERIFICATION_OIDC_ISSUER",
        )
    signer = (
        SignerSpec(key=Path(key))
        if key
        else SignerSpec(identity=identity, issuer=issuer, trusted_root=_path(given["TRUST_CONFIG"]))
    )
    return SignatureRule((signer,), 1, _WHERE, mode=mode)


def _path(text: str) -> Path | None:
    return Path(text.removeprefix("file://")) if text else None
