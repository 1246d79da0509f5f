"""Signatures between this project and other programs: cosign, model_signing, and a PKCS#11 token."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.consume.foreign_model import check_model
from reconciler.progress import QUIET
from reconciler.trust.oms import render_model
from reconciler.trust.policy import KeyHolder, TrustPolicy, judge
from reconciler.trust.provenance import ReleaseOrigin, render_provenance_statement
from reconciler.trust.signing import KeySigner, open_signer
from reconciler.trust.statement import render_release
from tests.support.keyless import IDENTITY, ISSUER, SigningService
from tests.support.signing import RELEASE, bundle, found, holder, policy, private_pem, public_key, signer

STATEMENT = render_release(RELEASE)


@dataclass(frozen=True)
class Folder:
    """A directory with a key pair and the bundles to verify."""

    path: Path

    def write(self, name: str, data: bytes) -> str:
        """Write a file; return its path."""
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return str(place)

    def run(self, *command: str) -> tuple[int, str]:
        """Run a program; return its exit code and output."""
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.path, timeout=120
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# -- cosign


def cosign(
    folder: Folder, data: bytes, kind: str, *more: str, digest: str = RELEASE.cid.digest.hex()
) -> bool:
    """Return whether cosign accepts a bundle about the root block with this SHA-256."""
    base = [
        "cosign",
        "verify-blob-attestation",
        "--bundle",
        folder.write("bundle.json", data),
        "--type",
        kind,
    ]
    code, said = folder.run(*base, *more, "--digest", digest, "--digestAlg", "sha256")
    assert code == 0 or "panic" not in said
    return code == 0 and "Verified OK" in said


RELEASE_TYPE = "urn:model-reconciler:release:v1"


@pytest.mark.cosign
def test_cosign_verifies_a_release_by_its_key_and_refuses_every_other(folder: Folder) -> None:
    """The digest in the CID is enough: neither weights nor the root block are needed."""
    ours, theirs = (folder.write(f"{n}.pem", public_key(n).pem) for n in range(2))
    by_key = ("--key", ours, "--insecure-ignore-tlog")
    assert cosign(folder, bundle(), RELEASE_TYPE, *by_key)
    assert not cosign(folder, bundle(), RELEASE_TYPE, *by_key, digest="00" * 32)
    assert not cosign(folder, bundle(), RELEASE_TYPE, "--key", theirs, "--insecure-ignore-tlog")
    assert not cosign(folder, bundle(), "slsaprovenance1", *by_key)


@pytest.mark.cosign
def test_cosign_verifies_a_provenance(folder: Folder) -> None:
    statement = render_provenance_statement(RELEASE, ReleaseOrigin(commit="12" * 20), {})
    by_key = ("--key", folder.write("key.pem", public_key().pem), "--insecure-ignore-tlog")
    assert cosign(folder, signer().sign(statement).bundle, "slsaprovenance1", *by_key)


@pytest.mark.cosign
def test_cosign_verifies_a_keyless_release_by_a_trust_root_of_our_own(folder: Folder) -> None:
    """So what the keyless tests verify is what another program takes for a keyless signature."""
    service = SigningService()
    root = str(service.write_trusted_root(folder.path))
    by_identity = ("--trusted-root", root, "--certificate-oidc-issuer", ISSUER, "--certificate-identity")
    assert cosign(folder, service.sign(STATEMENT), RELEASE_TYPE, *by_identity, IDENTITY)
    assert not cosign(folder, service.sign(STATEMENT), RELEASE_TYPE, *by_identity, IDENTITY + "x")


# -- model_signing


MODEL = {"config.json": b"{}", "sub/model.bin": b"weights", "empty": b"", ".gitattributes": b"* -text"}


def write_model(folder: Folder) -> tuple[Path, dict[str, str]]:
    for name, data in MODEL.items():
        folder.write(f"model/{name}", data)
    return folder.path / "model", {name: hashlib.sha256(data).hexdigest() for name, data in MODEL.items()}


@pytest.mark.model_signing
@pytest.mark.slow
def test_model_signing_verifies_our_bundle_and_sees_a_change(folder: Folder) -> None:
    model, digests = write_model(folder)
    ours = folder.write("oms.json", signer().sign(render_model("acme/model", digests)).bundle)
    key = folder.write("key.pem", public_key().pem)
    command = ("model_signing", "verify", "key", "--signature", ours, "--public_key", key, str(model))
    assert folder.run(*command)[0] == 0
    (model / "sub/model.bin").write_bytes(b"weightS")
    assert folder.run(*command)[0] != 0


@pytest.mark.model_signing
@pytest.mark.slow
def test_we_verify_what_model_signing_signs(folder: Folder) -> None:
    model, _ = write_model(folder)
    key, place = folder.write("key.pem", private_pem()), str(model / "model.sig")
    command = ("model_signing", "sign", "key", "--private_key", key, "--signature", place, str(model))
    code, said = folder.run(*command)
    assert code == 0, said
    result = check_model(model, (holder(),), QUIET)
    assert (result.differences, result.uncovered) == ((), (".gitattributes",))
    (model / "sub/model.bin").write_bytes(b"weightS")
    assert [each.path for each in check_model(model, (holder(),), QUIET).differences] == ["sub/model.bin"]


# -- a token


@pytest.mark.softhsm
def test_a_key_in_a_token_signs(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pkcs11")
    module = next((place for place in MODULES if place.exists()), None)
    if module is None:
        pytest.skip("the module of SoftHSM is not where it is looked for")
    (folder.path / "tokens").mkdir()
    config = folder.write("softhsm2.conf", f"directories.tokendir = {folder.path}/tokens\n".encode())
    monkeypatch.setenv("SOFTHSM2_CONF", config)
    monkeypatch.setenv("PYKCS11LIB", str(module))
    key = folder.write("key.pem", private_pem())
    create = (
        "softhsm2-util",
        "--init-token",
        "--free",
        "--label",
        "acme",
        "--so-pin",
        "1234",
        "--pin",
        "4321",
    )
    assert folder.run(*create)[0] == 0
    add = (
        "softhsm2-util",
        "--import",
        key,
        "--token",
        "acme",
        "--label",
        "release",
        "--id",
        "02",
        "--pin",
        "4321",
    )
    assert folder.run(*add)[0] == 0
    opened = open_signer("hsm:2?label=acme", {"RECONCILE_SIGNING_PASSWORD": "4321"})
    assert isinstance(opened, KeySigner)
    assert opened.key == public_key()
    assert judge(RELEASE, [found(opened.sign(STATEMENT).bundle)], [], policy()).accepted
    assert TrustPolicy((KeyHolder(opened.key, "acme"),)).signers[0].folder == public_key().id[:16]


MODULES = [
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
]
