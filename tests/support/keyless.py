"""A signing service of one's own: authority, certificate log, signature log, and the trust root for them.

It makes what the public service makes for a keyless signature, from fresh keys and without a network: a
certificate for an identity with its entry in the log of certificates (SCT), an entry of the type dsse 0.0.1
with inclusion promise, inclusion proof and checkpoint, and a trust root of the type that verifiers read.
Sources: RFC 6962 section 3.2 for the SCT; sigstore protobuf-specs and the client specification for the rest.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from reconciler.trust import dsse
from tests.support.signing import Authority, describe, new_authority

IDENTITY = "https://github.com/acme/models/.github/workflows/release.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUER_V1 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")


class SigningService:
    """The keys of one service; `sign` acts as its client does for `identity`."""

    def __init__(self) -> None:
        self.authority = new_authority("signing authority")
        self.certificate_log = ec.generate_private_key(ec.SECP256R1())
        self.signature_log = ec.generate_private_key(ec.SECP256R1())

    def trusted_root(self) -> str:
        """Return the trust root as JSON."""
        since = {"start": "2020-01-01T00:00:00Z"}

        def log(key: ec.EllipticCurvePrivateKey, url: str) -> dict[str, object]:
            return {
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": _text(describe(key).der),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": since,
                },
                "logId": {"keyId": _text(_log_id(key))},
            }

        authority = {
            "subject": {"organization": "acme", "commonName": "signing authority"},
            "uri": "https://authority.example",
            "certChain": {"certificates": [{"rawBytes": _text(self.authority.der)}]},
            "validFor": since,
        }
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.signature_log, "https://log.example")],
            "certificateAuthorities": [authority],
            "ctlogs": [log(self.certificate_log, "https://certificates.example")],
            "timestampAuthorities": [],
        }
        return json.dumps(document)

    def write_trusted_root(self, directory: Path) -> Path:
        """Write the trust root to a file in `directory`."""
        path = directory / "trusted_root.json"
        path.write_text(self.trusted_root(), encoding="utf-8")
        return path

    def sign(
        self,
        statement: bytes,
        *,
        identity: str = IDENTITY,
        issuer: str = ISSUER,
        logged_after: timedelta = timedelta(minutes=1),
        logged_by: ec.EllipticCurvePrivateKey | None = None,
    ) -> bytes:
        """Return a keyless bundle of `statement`; `logged_after` is the time since the certificate began."""
        began = datetime.now(UTC).replace(microsecond=0) - timedelta(days=30)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key, identity, issuer, began)
        signature = key.sign(dsse.pre_authentication_encoding(statement), ec.ECDSA(hashes.SHA256()))
        document = json.loads(dsse.render_bundle(statement, signature, ""))
        document["verificationMaterial"] = {
            "certificate": {"rawBytes": _text(certificate.public_bytes(serialization.Encoding.DER))},
            "tlogEntries": [self._entry(certificate, statement, signature, began + logged_after, logged_by)],
            "timestampVerificationData": {"rfc3161Timestamps": []},
        }
        del document["verificationMaterial"]["timestampVerificationData"]
        return json.dumps(document).encode()

    def _certificate(
        self, key: ec.EllipticCurvePrivateKey, identity: str, issuer: str, began: datetime
    ) -> x509.Certificate:
        name: x509.GeneralName = (
            x509.UniformResourceIdentifier(identity) if "://" in identity else x509.RFC822Name(identity)
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.authority.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(began)
            .not_valid_after(began + timedelta(minutes=10))
            .add_extension(_signs_only(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.key.public_key()),
                critical=False,
            )
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V1, issuer.encode()), critical=False)
            .add_extension(
                x509.UnrecognizedExtension(_ISSUER_V2, b"\x0c" + _der_length(issuer.encode())), critical=False
            )
        )
        before = builder.sign(self.authority.key, hashes.SHA256())
        return builder.add_extension(
            x509.UnrecognizedExtension(_SCT_LIST, self._sct_list(before, began)), critical=False
        ).sign(self.authority.key, hashes.SHA256())

    def _sct_list(self, before: x509.Certificate, began: datetime) -> bytes:
        """Return the value of the extension: a DER octet string of a TLS list with one SCT."""
        time = int(began.timestamp() * 1000)
        issuer_key = hashlib.sha256(describe(self.authority.key).der).digest()
        body = before.tbs_certificate_bytes
        entry = issuer_key + len(body).to_bytes(3, "big") + body
        signed = struct.pack("!BBQH", 0, 0, time, 1) + entry + struct.pack("!H", 0)
        signature = self.certificate_log.sign(signed, ec.ECDSA(hashes.SHA256()))
        sct = b"\0" + _log_id(self.certificate_log) + struct.pack("!QH", time, 0)
        sct += b"\x04\x03" + struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!H", len(sct)) + sct
        return b"\x04" + _der_length(struct.pack("!H", len(listed)) + listed)

    def _entry(
        self,
        certificate: x509.Certificate,
        statement: bytes,
        signature: bytes,
        logged: datetime,
        logged_by: ec.EllipticCurvePrivateKey | None,
    ) -> dict[str, object]:
        log = logged_by or self.signature_log
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        body = _canonical(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                    "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(statement).hexdigest()},
                    "signatures": [{"signature": _text(signature), "verifier": _text(pem)}],
                },
            }
        )
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"log.example - 1\n1\n{_text(root)}\n"
        note_signature = log.sign(note.encode(), ec.ECDSA(hashes.SHA256()))
        line = _text(_log_id(self.signature_log)[:4] + note_signature)
        time = int(logged.timestamp())
        promise = log.sign(
            _canonical(
                {
                    "body": _text(body),
                    "integratedTime": time,
                    "logID": _log_id(self.signature_log).hex(),
                    "logIndex": 0,
                }
            ),
            ec.ECDSA(hashes.SHA256()),
        )
        return {
            "logIndex": "0",
            "logId": {"keyId": _text(_log_id(self.signature_log))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(time),
            "inclusionPromise": {"signedEntryTimestamp": _text(promise)},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _text(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n— log.example {line}\n"},
            },
            "canonicalizedBody": _text(body),
        }


def _signs_only() -> x509.KeyUsage:
    fields = (
        "content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(digital_signature=True, **dict.fromkeys(fields.split(), False))


def _log_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(describe(key).der).digest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _der_length(data: bytes) -> bytes:
    """Return `data` with its DER length in front."""
    size = len(data)
    if size < 128:
        return bytes([size]) + data
    return (b"\x81" + bytes([size]) if size < 256 else b"\x82" + struct.pack("!H", size)) + data


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


__all__ = ["IDENTITY", "ISSUER", "Authority", "SigningService"]
