"""`reconcile sign`, `verify --oms`, and what the other commands say about signatures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from reconciler.cli import storage_initializer
from reconciler.content import cid as cids
from reconciler.errors import TrustError, UsageError
from tests.support.command_line import CommandLine
from tests.support.scratch import PROJECT
from tests.support.signing import private_pem, public_key

FOLDER = f"releases/signatures/llm/1.0.0/{public_key().id[:16]}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of a model that the reference implementation of Model Signing signed."""
    return Path(shutil.copytree(PROJECT / "tests/trust/vectors/model-signing/key", tmp_path / "model"))


@pytest.fixture
def published(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Two published versions, a private key in the environment, and a consumer that accepts it."""
    assert reconcile().code == 0
    monkeypatch.setenv("RECONCILE_SIGNING_KEY", private_pem().decode())
    config = reconcile.write("config/reconcile/config.yaml", "")
    reconcile.write("config/reconcile/acme.pem", public_key().pem)
    config.write_text(json.dumps({"trust": [{"models": ["llm"], "signed_by": [{"key": "acme.pem"}]}]}))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(reconcile.root / "config"))
    return reconcile


def test_sign_writes_the_signatures_of_every_version_and_says_who_signed(published: CommandLine) -> None:
    document = published("sign", "--json").document
    assert [each["version"] for each in document["items"]] == ["1.1.0", "1.0.0"]
    assert document["items"][0]["signer"] == f"key {public_key().id[:16]}"
    assert all((published.root / "releases" / path).is_file() for path in document["items"][1]["files"])
    again = published("sign", "llm@1.0.0")
    assert again.out.startswith("unchanged: llm@1.0.0 bafybei")
    assert "signed by key" in published("status").out
    assert "signatures: key" in published("doctor").out


def test_a_release_is_refused_by_every_command_until_it_is_signed(published: CommandLine) -> None:
    cid = published("resolve", "llm@1.0.0").out.strip()
    for command in (
        ("fetch", "llm@1.0.0", "out"),
        ("get", cid, "out"),
        ("lock", "llm@1.0.0"),
        ("verify", "llm@1.0.0"),
    ):
        done = published(*command)
        assert (done.code, "is not signed, and a trust rule demands a signature" in done.err) == (4, True)
    assert not (published.root / "out").exists()
    assert published("sign").code == 0
    fetched = published("fetch", "llm@1.0.0", "out", "--json").document
    assert fetched["signed_by"] == ["acme.pem"]
    assert published("get", cid, "got").code == 0
    assert published("lock", "llm@1.0.0").code == 0
    assert published("verify", "llm@1.0.0", "--json").document["signed_by"] == ["acme.pem"]
    assert "signed by acme.pem" in published("verify", "out").err
    (published.root / FOLDER / "release.sigstore.json").unlink()
    assert published("fetch", "--locked", "llm@1.0.0", "other").code == 4
    assert published("verify", "out").code == 4


def test_sign_without_a_key_or_a_version_is_an_error(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no version has a CID yet" in reconcile("sign").err
    assert reconcile().code == 0
    assert "there is no key to sign with" in reconcile("sign").err
    monkeypatch.setenv("RECONCILE_SIGNING_KEY", private_pem().decode())
    assert "unknown model" in reconcile("sign", "other").err
    other = cids.hash_block(cids.RAW, b"other")
    assert "is not the CID of a version" in reconcile("sign", str(other)).err


def test_a_plan_blocks_what_the_index_wants_signed(published: CommandLine) -> None:
    published.write("releases/keys/acme.pem", public_key().pem)
    index = published.root / "releases/index.yaml"
    index.write_text(index.read_text() + "signatures: {signed_by: [{key: keys/acme.pem}]}\n")
    done = published("plan")
    assert done.code == 5
    assert "blocked: it is not signed as the index demands: there is no signature" in done.out
    assert published("sign").code == 0
    assert published("plan").code == 0


# -- models of others


def test_the_command_takes_a_key_or_a_trust_rule(
    empty: CommandLine, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = empty.write("key.pem", public_key(0).pem)
    done = empty("verify", "--oms", model, "--key", key)
    assert done.code == 0
    assert done.out == f"ok: {model} is what key.pem signed\n"
    config = tmp_path / "config/reconcile/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"trust": [{"models": ["acme/*"], "signed_by": [{"key": str(key)}]}]}))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert empty("verify", "--oms", model).code == 2
    (model / "empty").write_text("no longer")
    document = empty("verify", "--oms", model, "--as", "acme/llm", "--json").document
    assert (document["ok"], document["differences"][0]["path"]) == (False, "empty")
    assert empty("verify", model, "--key", key).code == 2
    assert empty("verify", "--oms", tmp_path / "none", "--key", key).code == 2
    assert empty("verify", "--oms", model, "--key", tmp_path / "none.pem").code == 2


# -- the container


DEMANDS: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, ""),
    "the key": ({"PUBLIC_KEY": "{0}"}, ""),
    "another key": ({"PUBLIC_KEY": "{1}"}, "no accepted signer"),
    "a bundle": ({"PUBLIC_KEY": "{0}", "BUNDLE": "{bundle}"}, ""),
    "a bundle by its address": ({"PUBLIC_KEY": "{0}", "BUNDLE": "file://{bundle}"}, ""),
    "a bundle of another key": ({"PUBLIC_KEY": "{1}", "BUNDLE": "{bundle}"}, "no accepted signer"),
    "a bundle of another version": ({"PUBLIC_KEY": "{0}", "BUNDLE": "{replayed}"}, "no accepted signer"),
    "a bundle that is missing": ({"PUBLIC_KEY": "{0}", "BUNDLE": "{0}.none"}, "cannot be read"),
    "the digest in the CID": ({"DIGEST": "sha256:{digest}"}, ""),
    "the digest of SHA256SUMS": ({"DIGEST": "sha256:{dirhash}"}, ""),
    "another digest": ({"DIGEST": "sha256:" + "0" * 64}, "neither the root block"),
    "only a warning": ({"DIGEST": "sha256:" + "0" * 64, "PUBLIC_KEY": "{1}", "MODE": "warn"}, ""),
}


#: cases that differ from another one in their form only
SLOW = (
    "nothing",
    "a bundle by its address",
    "a bundle of another key",
    "a bundle that is missing",
    "the digest in the CID",
)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in DEMANDS]
)
def test_the_container_verifies_what_kserve_demands(
    published: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    given, message = DEMANDS[case]
    assert published("sign").code == 0
    record = json.loads((published.root / "releases/records/llm/1.0.0.json").read_text())
    release = published.root / FOLDER / "release.sigstore.json"
    values = {
        "digest": cids.parse(record["cid"]).digest.hex(),
        "dirhash": record["dirhash"],
        "bundle": str(release),
        "replayed": str(release).replace("1.0.0", "1.1.0"),
    }
    keys = [str(published.write(f"{number}.pem", public_key(number).pem)) for number in range(2)]
    (published.root / "config/reconcile/config.yaml").write_text(
        json.dumps({"stores": [str(published.root / ".reconcile/store")]})
    )
    monkeypatch.setenv("RECONCILE_INDEX", str(published.root / "releases/index.yaml"))
    for name, value in given.items():
        monkeypatch.setenv(f"VERIFICATION_{name}", value.format(*keys, **values))
    monkeypatch.chdir(tmp_path)
    if not message:
        assert storage_initializer.run(["model://llm@1.0.0", str(tmp_path / "models")]) == 0
        return
    with pytest.raises(TrustError, match=message):
        storage_initializer.run(["model://llm@1.0.0", str(tmp_path / "models")])


@pytest.mark.parametrize(
    "given",
    [
        {"MODE": "maybe"},
        {"DIGEST": "sha256:short"},
        {"BUNDLE": "/bundle"},
        {"IDENTITY": "a"},
        {"OIDC_ISSUER": "a"},
        {"PUBLIC_KEY": "/key", "IDENTITY": "a", "OIDC_ISSUER": "b"},
    ],
)
def test_a_demand_that_does_not_fit_together_is_an_error(
    published: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    monkeypatch.setenv("RECONCILE_INDEX", str(published.root / "releases/index.yaml"))
    for name, value in given.items():
        monkeypatch.setenv(f"VERIFICATION_{name}", value)
    with pytest.raises(UsageError):
        storage_initializer.run(["model://llm@1.0.0", str(tmp_path / "models")])
