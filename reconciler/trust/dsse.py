"""A signed statement in a file: a DSSE envelope in a sigstore bundle, version 0.3, as JSON.

    {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
     "verificationMaterial": {"publicKey": {"hint": "<hex>"}, "tlogEntries": []},
     "dsseEnvelope": {"payload": "<base64>", "payloadType": "application/vnd.in-toto+json",
                      "signatures": [{"sig": "<base64>", "keyid": ""}]}}

What is signed is the pre-authentication encoding of type and payload, so `payload` is verified before it is
parsed, and exactly those bytes are parsed. Sources: DSSE 1.0 (`protocol.md`), sigstore protobuf-specs 0.3,
OpenSSF Model Signing 1.0, sections 4 and 11 (what a verifier accepts from older programs).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from reconciler.errors import DataError
from reconciler.json_fields import JsonFields, load_json

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_BUNDLE = 1 << 20  #: bytes of a bundle over one subject; that over all files has a limit of its own
_MAX_CERTIFICATES = 10
_MAX_SIGNATURE = 2048  # bytes; an ECDSA signature of the largest curve has 139
_MATERIALS = ("publicKey", "certificate", "x509CertificateChain")


class BundleFormatError(DataError):
    """A file is not a signature bundle that is accepted here."""


@dataclass(frozen=True, slots=True)
class SignatureBundle:
    """A parsed bundle, of which nothing is verified yet.

    `payload` is the statement, `signature` its DER or raw signature, `text` the whole file. `certificates`
    are DER, the leaf first; empty for a plain key. `logged`: it has entries of a transparency log.
    """

    payload: bytes
    signature: bytes
    text: bytes
    certificates: tuple[bytes, ...] = ()
    logged: bool = False

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is over."""
        return pre_authentication_encoding(self.payload)


def pre_authentication_encoding(payload: bytes) -> bytes:
    """Return the bytes that a DSSE signature of an in-toto statement is over."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def render_bundle(payload: bytes, signature: bytes, hint: str) -> bytes:
    """Return the bundle of a statement that was signed with a plain key, which `hint` identifies."""
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def parse_bundle(data: bytes, *, limit: int = MAX_BUNDLE) -> SignatureBundle:
    """Parse a bundle of at most `limit` bytes with one signature of one statement.

    Raises BundleFormatError for everything else: another media type or payload type, no or several
    signatures, no or several kinds of verification material, or a certificate of the public service without
    an entry of its log.
    """
    if len(data) > limit:
        raise BundleFormatError(f"the signature bundle is larger than {limit} bytes")
    try:
        value = load_json(data.decode("utf-8"))
    except ValueError as error:
        raise BundleFormatError(f"the signature bundle is not JSON: {str(error)[:200]}") from None
    fields = JsonFields(value, lambda message: BundleFormatError(f"the signature bundle: {message}"))
    found = fields.text("mediaType")
    if found != MEDIA_TYPE:
        raise BundleFormatError(
            f"the signature bundle has the media type {found[:120]!r}", hint=f"only {MEDIA_TYPE} is accepted"
        )
    if fields.has("messageSignature"):
        raise BundleFormatError("the signature bundle signs a file and not a statement")
    envelope = fields.at("dsseEnvelope")
    kind = envelope.text("payloadType")
    if kind != PAYLOAD_TYPE:
        raise BundleFormatError(f"the signature bundle has the payload type {kind[:120]!r}")
    signatures = list(envelope.items("signatures"))
    if len(signatures) != 1:
        raise BundleFormatError(f"the signature bundle has {len(signatures)} signatures instead of one")
    signature = _base64(signatures[0], "sig")
    if not 0 < len(signature) <= _MAX_SIGNATURE:
        raise BundleFormatError(f"the signature bundle has a signature of {len(signature)} bytes")
    material = fields.at("verificationMaterial")
    entries = len(list(material.items_or_none("tlogEntries")))
    return SignatureBundle(
        payload=_base64(envelope, "payload"),
        signature=signature,
        text=data,
        certificates=_certificates(material, entries),
        logged=entries > 0,
    )


def _certificates(material: JsonFields, entries: int) -> tuple[bytes, ...]:
    kinds = [kind for kind in _MATERIALS if kind in material.mapping()]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "nothing"
        raise BundleFormatError(f"the signature bundle has {found} to verify it with, instead of one of "
                                f"{', '.join(_MATERIALS)}")  # fmt: skip
    if kinds[0] == "publicKey":
        key = material.at("publicKey")
        if not isinstance(key.mapping().get("hint", key.mapping().get("rawBytes")), str):
            raise BundleFormatError("the signature bundle has a public key without a hint")
        return ()
    if kinds[0] == "certificate":
        if not entries:
            raise BundleFormatError("the signature bundle has a certificate, and no entry of a log for it")
        return (_base64(material.at("certificate"), "rawBytes"),)
    listed = list(material.items("x509CertificateChain", "certificates"))
    if not 0 < len(listed) <= _MAX_CERTIFICATES:
        raise BundleFormatError(f"the signature bundle has a chain of {len(listed)} certificates")
    return tuple(_base64(each, "rawBytes") for each in listed)


def _base64(fields: JsonFields, name: str) -> bytes:
    """Decode standard base64 with padding, and nothing else."""
    try:
        return base64.b64decode(fields.text(name), validate=True)
    except (binascii.Error, ValueError):
        raise fields.error("base64", name) from None
