"""Keyless signatures, verified offline against a trust root of one's own.

The public service is not part of any test: what it issues and logs has the same form.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from reconciler.errors import UsageError
from reconciler.trust.certificates import certified_identity
from reconciler.trust.dsse import parse_bundle
from reconciler.trust.policy import IdentityHolder, TrustPolicy, Verdict, judge
from reconciler.trust.signing import IdentitySigner, identity_folder
from reconciler.trust.statement import render_release
from tests.support.keyless import IDENTITY, ISSUER, SigningService
from tests.support.signing import RELEASE, bundle, found

pytest.importorskip("sigstore")

SERVICE = SigningService()
STATEMENT = render_release(RELEASE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SERVICE.write_trusted_root(tmp_path_factory.mktemp("root"))


def judged(data: bytes, root: Path | None, identity: str = IDENTITY, issuer: str = ISSUER) -> Verdict:
    return judge(RELEASE, [found(data)], [], TrustPolicy((IdentityHolder(identity, issuer, root),)))


def test_a_signature_of_the_identity_is_accepted(root: Path) -> None:
    verdict = judged(SERVICE.sign(STATEMENT), root)
    assert verdict.accepted
    assert verdict.signers == (IDENTITY,)


@pytest.mark.parametrize("email", ["release@acme.example", "x" * 140 + "@acme.example"])
def test_an_identity_may_be_an_address(root: Path, email: str) -> None:
    issuer = "https://accounts.example/" + "i" * 200
    made = SERVICE.sign(STATEMENT, identity=email, issuer=issuer)
    assert judged(made, root, email, issuer).accepted
    assert certified_identity(parse_bundle(made).certificates[0]) == (email, issuer)


@pytest.mark.parametrize(
    ("identity", "issuer"),
    [
        (IDENTITY.replace("main", "evil"), ISSUER),
        (IDENTITY + "x", ISSUER),
        (IDENTITY[:-1], ISSUER),
        (IDENTITY, "https://token.evil.example"),
    ],
)
def test_another_identity_or_issuer_is_refused(root: Path, identity: str, issuer: str) -> None:
    verdict = judged(SERVICE.sign(STATEMENT, identity=identity, issuer=issuer), root)
    assert not verdict.accepted
    assert "the certificate is for" in verdict.problems[0]


def test_a_signature_after_the_certificate_expired_is_refused(root: Path) -> None:
    late = SERVICE.sign(STATEMENT, logged_after=timedelta(hours=1))
    assert not judged(late, root).accepted


def test_a_signature_before_the_certificate_began_is_refused(root: Path) -> None:
    early = SERVICE.sign(STATEMENT, logged_after=-timedelta(hours=1))
    assert not judged(early, root).accepted


def test_an_entry_of_another_log_is_refused(root: Path) -> None:
    foreign = SERVICE.sign(STATEMENT, logged_by=ec.generate_private_key(ec.SECP256R1()))
    assert not judged(foreign, root).accepted


def test_a_certificate_of_another_service_is_refused(root: Path) -> None:
    assert not judged(SigningService().sign(STATEMENT), root).accepted


def test_the_trust_root_of_the_public_service_accepts_no_other(root: Path) -> None:
    assert not judged(SERVICE.sign(STATEMENT), None).accepted


def replaced(data: bytes, other: bytes, *path: str) -> bytes:
    """Return the bundle `data` with one part of `other`."""
    document, donor = json.loads(data), json.loads(other)
    place = document
    for name in path[:-1]:
        place, donor = place[name], donor[name]
    place[path[-1]] = donor[path[-1]]
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "path",
    [
        ("verificationMaterial", "certificate"),
        ("verificationMaterial", "tlogEntries"),
        ("dsseEnvelope", "payload"),
        ("dsseEnvelope", "signatures"),
    ],
    ids="/".join,
)
def test_a_part_of_another_bundle_is_refused(root: Path, path: tuple[str, ...]) -> None:
    """Certificate, log entry, payload and signature prove each other."""
    ours = SERVICE.sign(STATEMENT)
    theirs = SERVICE.sign(STATEMENT.replace(b"1.2.0", b"1.1.0"))
    assert judged(ours, root).accepted
    assert not judged(replaced(ours, theirs, *path), root).accepted


def test_a_plain_key_is_no_identity(root: Path) -> None:
    assert "has no certificate for an identity" in judged(bundle(), root).problems[0]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"mediaType": "x"}', '{"tlogs": [{}]}'])
def test_a_file_that_is_no_trust_root_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "root.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="is not a trust root"):
        judged(SERVICE.sign(STATEMENT), path)


def test_a_missing_trust_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the trust root"):
        judged(SERVICE.sign(STATEMENT), tmp_path / "none.json")


def test_signing_names_the_identity_in_the_certificate() -> None:
    signer = IdentitySigner(SERVICE.sign, ISSUER)
    made = signer.sign(STATEMENT)
    assert (made.signer, made.folder) == (IDENTITY, identity_folder(IDENTITY, ISSUER))
    assert signer.made(parse_bundle(made.bundle)) == IDENTITY
    assert not IdentitySigner(SERVICE.sign, "https://other.example").made(parse_bundle(made.bundle))
    assert not signer.made(parse_bundle(bundle()))


def test_nothing_of_the_libraries_is_loaded_without_signatures() -> None:
    """Neither the package nor the room with signatures loads a library for them."""
    script = (
        "import sys, reconciler, reconciler.cli.app, reconciler.trust.policy, reconciler.trust.signing, "
        "reconciler.trust.oms\n"
        "print([n for n in ('cryptography', 'sigstore', 'securesystemslib', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
