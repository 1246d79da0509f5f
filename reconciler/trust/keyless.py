"""Keyless signatures: a short-lived certificate for an OIDC identity, and an entry in a transparency log.

Verification is offline: the bundle has the certificate, the proof that it was logged, and the time; the trust
root says which authorities and logs count. That of the public service comes with the package `sigstore`, one
of your own is a file of the type application/vnd.dev.sigstore.trustedroot+json. Signing contacts the service
that issues the certificate, so it needs a network and an OIDC token, such as the one of a job in GitHub
Actions. The library is imported by the functions, and knows nothing of subjects: the caller compares those.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import PeerError, ReconcilerError, UsageError
from reconciler.trust.public_keys import SignatureError

if TYPE_CHECKING:
    from sigstore.verify import Verifier

_MISSING = "pip install 'model-reconciler[keyless]'"


def verify_keyless(bundle: bytes, identity: str, issuer: str, trusted_root: Path | None) -> bytes:
    """Return the payload of `bundle` when it was signed by `identity`, as `issuer` knows it.

    Raises SignatureError; ReconcilerError when the library is not installed or the trust root is unreadable.
    """
    verifier = _verifier(trusted_root)
    from sigstore.errors import Error
    from sigstore.models import Bundle
    from sigstore.verify.policy import Identity

    try:
        parsed = Bundle.from_json(bundle.decode())
        _, payload = verifier.verify_dsse(parsed, Identity(identity=identity, issuer=issuer))
    except (Error, ValueError) as error:  # a ValidationError of the models is a ValueError
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise SignatureError(f"the signature is not one of {identity!r} by {issuer!r}: {reason}") from None
    return bytes(payload)


@lru_cache(maxsize=8)
def _verifier(trusted_root: Path | None) -> Verifier:
    """Return the verifier for a trust root; None is that of the public service, as the package has it."""
    try:
        from sigstore.errors import Error
        from sigstore.models import TrustedRoot
        from sigstore.verify import Verifier
    except ImportError:
        raise ReconcilerError(
            "keyless signatures need the package sigstore, which is not installed", hint=_MISSING
        ) from None
    logging.getLogger("sigstore").addHandler(logging.NullHandler())  # it warns that it is offline
    try:
        if trusted_root is None:
            return Verifier.production(offline=True)
        return Verifier(trusted_root=TrustedRoot.from_file(str(trusted_root)))
    except OSError as error:
        raise UsageError(f"cannot read the trust root {str(trusted_root)!r}: {error.strerror}") from None
    except (Error, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{str(trusted_root)!r} is not a trust root: {reason}",
            hint="it must be of the type application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        ) from None


class KeylessSigner:
    """A signer with the OIDC identity of this job. Raises ReconcilerError where there is none.

    `issuer` is that of its token; certificates are issued when it signs.
    """

    def __init__(self) -> None:
        try:
            from sigstore.models import ClientTrustConfig
            from sigstore.oidc import IdentityError, IdentityToken, detect_credential
            from sigstore.sign import SigningContext
        except ImportError:
            raise ReconcilerError(
                "keyless signatures need the package sigstore, which is not installed", hint=_MISSING
            ) from None
        try:
            token = detect_credential()
        except IdentityError as error:
            raise PeerError(f"the identity token of this job cannot be read: {str(error)[:200]}") from None
        if token is None:
            raise UsageError(
                "this process has no OIDC identity to sign with",
                hint="in GitHub Actions give the job `permissions: {id-token: write}`; elsewhere name a key",
            )
        self._token = IdentityToken(token)
        self.issuer: str = self._token.federated_issuer
        self._context = SigningContext.from_trust_config(ClientTrustConfig.production())

    def sign(self, statement: bytes) -> bytes:
        """Sign an in-toto statement; return the bundle as JSON. Raises PeerError when the service fails."""
        from sigstore.dsse import Statement

        try:
            with self._context.signer(self._token) as signer:
                signed: str = signer.sign_dsse(Statement(statement)).to_json()
                return signed.encode() + b"\n"
        except Exception as error:  # noqa: BLE001 - the library raises errors of several others
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise PeerError(f"the signing service failed: {reason}", hint="run again") from None
