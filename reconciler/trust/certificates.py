"""Certificates of one's own authority: the chain from the leaf of a bundle to a root in the policy.

The rules are those of Model Signing 1.0 for its certificate method: every link is signed by the next, every
issuer is an authority, every certificate is valid now (a bundle has no proof of an earlier time), and the
leaf may sign code. The identity of a leaf is an e-mail address, a URI or a DNS name in its subjectAltName;
without one, its common name.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from reconciler.errors import DataError
from reconciler.trust.public_keys import PublicKey, SignatureError, describe_key, require_cryptography

if TYPE_CHECKING:
    from cryptography import x509

_MAX_DEPTH = 10
_ISSUER_V1 = "1.3.6.1.4.1.57264.1.1"  # the bytes of the text
_ISSUER_V2 = "1.3.6.1.4.1.57264.1.8"  # a UTF8String in DER


def parse_authorities(data: bytes, name: str) -> tuple[bytes, ...]:
    """Parse the certificates in a PEM file, in DER; errors call the file `name`. Raises DataError."""
    require_cryptography()
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise DataError(
            f"{name} has no certificates in PEM", hint="name a file with the root of the authority"
        ) from None
    return tuple(each.public_bytes(Encoding.DER) for each in found)


def verify_chain(chain: tuple[bytes, ...], authorities: tuple[bytes, ...], now: datetime) -> PublicKey:
    """Return the key of the leaf, the first certificate of `chain`, which must lead to one of `authorities`.

    Raises SignatureError, also for a certificate that is expired or not yet valid at `now`, and for one that
    demands something that is not checked here.
    """
    require_cryptography()
    from cryptography import x509

    try:
        leaf, *others = (x509.load_der_x509_certificate(each) for each in chain)
        roots = [x509.load_der_x509_certificate(each) for each in authorities]
        _check_leaf(leaf)
        current = leaf
        for depth in range(_MAX_DEPTH):
            _check_certificate(current, now)
            root = next((each for each in roots if _is_issued_by(current, each, depth)), None)
            if root is not None:
                _check_certificate(root, now)
                return describe_key(leaf.public_key(), "the certificate")
            issuer = next((each for each in others if _is_issued_by(current, each, depth)), None)
            if issuer is None:
                break
            others.remove(issuer)
            current = issuer
        raise SignatureError(
            f"no accepted authority issued the certificate {_subject(current)!r}",
            hint="`authority` in the trust rule names the root certificate",
        )
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise SignatureError(f"a certificate of the signature is malformed: {str(error)[:200]}") from None
    except SignatureError:
        raise
    except DataError as error:
        raise SignatureError(error.message, hint=error.hint) from None


def identities(certificate: bytes) -> tuple[str, ...]:
    """Return the names that a certificate in DER is for. Raises SignatureError."""
    from cryptography import x509

    try:
        loaded = x509.load_der_x509_certificate(certificate)
        try:
            names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            attributes = loaded.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            return tuple(str(each.value) for each in attributes)
        kinds = (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName)
        return tuple(name.value for name in names if isinstance(name, kinds))
    except ValueError as error:
        raise SignatureError(f"a certificate of the signature is malformed: {str(error)[:200]}") from None


def certified_identity(certificate: bytes) -> tuple[str, str]:
    """Return identity and OIDC issuer in a certificate in DER; the issuer is "" without one.

    Nothing is verified. Raises SignatureError. Source: the OIDs of Fulcio, 1.3.6.1.4.1.57264.1.
    """
    from cryptography import x509

    names = identities(certificate)
    found = {
        extension.oid.dotted_string: extension.value.value
        for extension in x509.load_der_x509_certificate(certificate).extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    }
    issuer = found.get(_ISSUER_V1, b"")
    if (coded := found.get(_ISSUER_V2)) is not None and len(coded) > 1:
        issuer = coded[2 + max(0, coded[1] - 0x80) :]  # the tag and one or more bytes of length
    return names[0] if names else "", issuer.decode("utf-8", "replace")


def _check_leaf(leaf: x509.Certificate) -> None:
    from cryptography import x509
    from cryptography.x509 import oid

    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        raise SignatureError("the certificate does not say that it may sign code") from None
    if not usage.digital_signature or oid.ExtendedKeyUsageOID.CODE_SIGNING not in extended:
        raise SignatureError("the certificate may not sign code")


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate, depth: int) -> bool:
    """Return whether `issuer` may sign and signed `certificate`, with `depth` authorities below it."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca or (constraints.path_length is not None and depth > constraints.path_length):
            return False
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _check_certificate(certificate: x509.Certificate, now: datetime) -> None:
    """Check validity, and that every critical extension is one that is looked at. Raises SignatureError."""
    from cryptography import x509

    name = _subject(certificate)
    if now > certificate.not_valid_after_utc:
        raise SignatureError(
            f"the certificate {name!r} expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        )
    if now < certificate.not_valid_before_utc:
        raise SignatureError(
            f"the certificate {name!r} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
        )
    known = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
    for extension in certificate.extensions:
        if extension.critical and not isinstance(extension.value, known):
            oid = extension.oid.dotted_string
            raise SignatureError(
                f"the certificate {name!r} has the critical extension {oid}, which is unknown here"
            )


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:200]
