"""Keys, certificates and signed releases for tests, made when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from reconciler.content.cid import DAG_PB, Cid
from reconciler.trust import dsse
from reconciler.trust.policy import BundleFile, KeyHolder, TrustPolicy
from reconciler.trust.public_keys import PublicKey, describe_key
from reconciler.trust.signing import KeySigner, parse_private_key
from reconciler.trust.statement import Release, render_release

RELEASE = Release("acme-models", "acme/llm", "1.2.0", Cid(DAG_PB, bytes(range(32))), "ab" * 32, 12345)


def private_pem(number: int = 0, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> bytes:
    """Return the PEM of the private key `number`, which is always the same."""
    key = ec.derive_private_key(1000 + number, curve())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signer(number: int = 0, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> KeySigner:
    """Return the signer with the key `number`."""
    return parse_private_key(private_pem(number, curve), f"key {number}", None)


def public_key(number: int = 0) -> PublicKey:
    """Return the public half of the key `number`."""
    return signer(number).key


def holder(number: int = 0) -> KeyHolder:
    """Return the accepted signer with the key `number`."""
    return KeyHolder(public_key(number), f"holder {number}")


def policy(*numbers: int, threshold: int = 1) -> TrustPolicy:
    """Return a policy that accepts the keys `numbers`."""
    return TrustPolicy(tuple(holder(number) for number in numbers or (0,)), threshold)


def bundle(number: int = 0, release: Release = RELEASE) -> bytes:
    """Return the release bundle of `release`, signed with the key `number`."""
    return signer(number).sign(render_release(release)).bundle


def found(data: bytes, place: str = "release.sigstore.json") -> BundleFile:
    """Return a bundle as the caller of `judge` found it."""
    return BundleFile(place, data)


# -- certificates


@dataclass(frozen=True)
class Authority:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str,
        *,
        authority: bool = False,
        identity: str | None = None,
        until: datetime | None = None,
        since: datetime | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
        path_length: int | None = None,
        demands: x509.ExtensionType | None = None,
    ) -> Authority:
        """Issue a certificate for `identity`, an e-mail address; `demands` is one more critical extension."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(name, key, self, authority, identity, since, until, usage, path_length, demands)
        return Authority(made, key)

    def bundle(self, statement: bytes, *chain: Authority) -> bytes:
        """Return the bundle of a statement that this certificate signed, with it and `chain`."""
        import base64
        import json

        signature = self.key.sign(dsse.pre_authentication_encoding(statement), ec.ECDSA(hashes.SHA256()))
        document = json.loads(dsse.render_bundle(statement, signature, ""))
        listed = [{"rawBytes": base64.b64encode(each.der).decode()} for each in (self, *chain)]
        document["verificationMaterial"] = {"x509CertificateChain": {"certificates": listed}}
        return json.dumps(document).encode()


def new_authority(name: str = "root") -> Authority:
    """Return an authority that issued its own certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(_certificate(name, key, None, True, None, None, None, None), key)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Authority | None,
    authority: bool,
    identity: str | None,
    since: datetime | None,
    until: datetime | None,
    usage: x509.ObjectIdentifier | None,
    path_length: int | None = None,
    demands: x509.ExtensionType | None = None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since or now - timedelta(days=400))
        .not_valid_after(until or now + timedelta(days=400))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=path_length), critical=True)
        .add_extension(_key_usage(authority), critical=True)
    )
    if usage is not None and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if identity is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.RFC822Name(identity)]), critical=False
        )
    if demands is not None:
        builder = builder.add_extension(demands, critical=True)
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def describe(key: ec.EllipticCurvePrivateKey) -> PublicKey:
    """Return the public half of a key of the library."""
    return describe_key(key.public_key(), "the key")
