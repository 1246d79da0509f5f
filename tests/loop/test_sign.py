"""Signing of released versions, in a command of its own and in the run that resolves them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.errors import TrustError, UsageError
from reconciler.forges.interface import PROPOSAL_BRANCH
from reconciler.index.records import load_record, records_directory
from reconciler.loop.changes import Blocked
from reconciler.loop.inspection import diagnose_targets
from reconciler.loop.propose import RunSigning
from reconciler.loop.run import apply
from reconciler.loop.settings import ProposeMode
from reconciler.loop.sign import SignedRelease, sign_versions
from reconciler.targets.interface import Diagnosis
from reconciler.trust.dsse import parse_bundle
from reconciler.trust.files import OMS_FILE, PROVENANCE_FILE, RELEASE_FILE
from reconciler.trust.oms import parse_model
from reconciler.trust.signing import IdentitySigner, StatementSigner
from reconciler.trust.statement import Release, parse_statement, render_release
from tests.loop.test_propose import commit, git, in_repository
from tests.support.keyless import ISSUER, SigningService
from tests.support.memory_target import Served
from tests.support.releases import Releases, kinds, with_memory
from tests.support.signing import public_key, signer

FILES = {"model.safetensors": b"w" * (3 << 20), "config.json": b"{}"}
FOLDER = f"releases/signatures/m/1.0.0/{public_key().id[:16]}"


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """One version on one memory target, with its CID."""
    made = with_memory(tmp_path, "a")
    made.add("m@1.0.0", FILES)
    made.apply()
    return made


def sign(
    releases: Releases, by: StatementSigner, environ: Mapping[str, str] | None = None
) -> list[SignedRelease]:
    releases.write()
    with releases.running() as run:
        return list(sign_versions(run.workspace, run.workspace.index.versions(), by, environ or {}))


def statement(data: bytes) -> dict[str, object]:
    document = json.loads(base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"]))
    assert isinstance(document, dict)
    return document


def test_a_released_version_is_signed_without_reading_its_weights(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the inner nodes and SHA256SUMS are read, from a target, when the directory is gone."""
    read: list[int] = []
    whole = Served.read

    def counted(self: Served, position: int) -> bytes:
        data = whole(self, position)
        read.append(len(data))
        return data

    monkeypatch.setattr(Served, "read", counted)
    for path in (releases.source("m@1.0.0")).rglob("*"):
        path.unlink()
    (signed,) = sign(releases, signer())
    assert sorted(path.name for path in signed.files) == sorted([RELEASE_FILE, OMS_FILE, PROVENANCE_FILE])
    assert 0 < sum(read) < 2000


def test_what_is_signed_is_the_record(releases: Releases) -> None:
    (signed,) = sign(releases, signer())
    record = load_record(records_directory(releases.index_file), "m", "1.0.0")
    assert record is not None
    assert signed.release == Release("acme", "m", "1.0.0", record.cid, record.dirhash, record.size)
    written = (releases.root / FOLDER / RELEASE_FILE).read_bytes()
    assert parse_bundle(written).payload == render_release(signed.release)
    model = parse_model(
        parse_statement(parse_bundle((releases.root / FOLDER / OMS_FILE).read_bytes()).payload)
    )
    assert {span.path for span in model.spans} == {*FILES, "SHA256SUMS", "manifest.json"}


def test_signing_again_changes_nothing_and_another_key_adds_its_own(releases: Releases) -> None:
    sign(releases, signer())
    before = {path: path.read_bytes() for path in (releases.root / "releases").rglob("*.json")}
    (again,) = sign(releases, signer())
    assert not again.files
    (other,) = sign(releases, signer(1))
    assert len(other.files) == 3
    assert all(path.read_bytes() == data for path, data in before.items())


def test_the_provenance_has_the_workflow_of_the_job(releases: Releases) -> None:
    job = {"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "acme/models", "GITHUB_SHA": "12" * 20}
    sign(releases, signer(), job)
    found = statement((releases.root / FOLDER / PROVENANCE_FILE).read_bytes())
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert "12" * 20 in json.dumps(found["predicate"])


def test_a_version_without_a_cid_and_one_that_no_target_has_cannot_be_signed(tmp_path: Path) -> None:
    made = with_memory(tmp_path, "a")
    made.add("m@1.0.0")
    with pytest.raises(UsageError, match="has no CID yet"):
        sign(made, signer())
    made.apply()
    made.memory["a"].held.clear()
    for path in made.source("m@1.0.0").rglob("*"):
        path.unlink()
    with pytest.raises(UsageError, match=r"no target has SHA256SUMS of m@1\.0\.0"):
        sign(made, signer())


def test_a_link_leads_no_signature_out_of_the_repository(releases: Releases, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (releases.root / "releases/signatures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrustError, match="is a symbolic link"):
        sign(releases, signer())
    assert not any((tmp_path / "elsewhere").iterdir())


# -- what an index demands of its own releases


def demand(releases: Releases, *numbers: int) -> None:
    for number in numbers or (0,):
        place = releases.root / f"releases/keys/{number}.pem"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(public_key(number).pem)
    signed_by = [{"key": f"keys/{number}.pem"} for number in numbers or (0,)]
    releases.signatures = {"signed_by": signed_by, "threshold": 1}


def test_a_plan_blocks_what_is_not_signed_as_the_index_demands(releases: Releases) -> None:
    demand(releases)
    held = dict(releases.memory["a"].held)
    releases.memory["a"].held.clear()
    assert kinds(releases.plan()) == [("blocked", "m@1.0.0", None)], "and nothing is published again"
    (blocked,) = releases.plan().changes
    assert isinstance(blocked, Blocked)
    assert blocked.reason == "it is not signed as the index demands: there is no signature"
    assert blocked.hint == "sign it: reconcile sign m@1.0.0"
    releases.memory["a"].held.update(held)
    sign(releases, signer(1))
    assert "is not one of key" in releases.plan().changes[0].reason
    sign(releases, signer(0))
    assert not releases.plan().changes


def test_a_version_without_a_cid_is_published_before_it_can_be_signed(tmp_path: Path) -> None:
    made = with_memory(tmp_path, "a")
    made.add("m@1.0.0")
    demand(made)
    assert "publish" in [change.kind for change in made.plan().changes]


def test_status_and_doctor_show_who_signed_what(releases: Releases) -> None:
    assert not releases.status().signatures
    sign(releases, signer())
    (claimed,) = releases.status().signatures
    assert (claimed.signers, claimed.checked) == ((f"key {public_key().id[:16]}",), False)
    demand(releases)
    (checked,) = releases.status().signatures
    assert (checked.signers, checked.checked, checked.problem) == (("0.pem",), True, "")
    assert ("0.pem", True) in [(each.subject, each.ok) for each in findings(releases)]
    demand(releases, 1)
    assert not releases.status().in_sync
    assert ("m@1.0.0", False) in [(each.subject, each.ok) for each in findings(releases)]


def findings(releases: Releases) -> list[Diagnosis]:
    with releases.running() as run:
        return [found.diagnosis for found in diagnose_targets(run.workspace) if found.target == "signatures"]


# -- signing in the run that resolves the CID


def run_signed(releases: Releases, by: StatementSigner, **settings: object) -> None:
    releases.write()
    with releases.running(**settings) as run:
        report = apply(run.plan(), run.workspace, signing=RunSigning(by, {}))
    assert not report.failed


def test_a_run_signs_what_it_resolves_into_the_working_tree(tmp_path: Path) -> None:
    made = with_memory(tmp_path, "a")
    made.add("m@1.0.0", FILES)
    demand(made)
    run_signed(made, signer())
    made.take_over()
    assert (made.root / FOLDER / OMS_FILE).exists()
    assert not made.plan().changes, "what the run published is signed as the index demands"


def test_a_proposal_has_the_signatures_and_another_run_keeps_them(tmp_path: Path) -> None:
    """A keyless signature is new each time, so one that the open proposal has is taken over."""
    made = in_repository(tmp_path, tmp_path)
    service = SigningService()
    signed: list[bytes] = []

    def sign_once(data: bytes) -> bytes:
        signed.append(data)
        return service.sign(data)

    by = IdentitySigner(sign_once, ISSUER)
    run_signed(made, by, propose=ProposeMode.BRANCH)
    names = git(made.root, "ls-tree", "-r", "--name-only", PROPOSAL_BRANCH).splitlines()
    ours = [name for name in names if name.startswith("releases/signatures/m/1.0.0/")]
    assert sorted(name.rpartition("/")[2] for name in ours) == sorted(
        [RELEASE_FILE, OMS_FILE, PROVENANCE_FILE]
    )
    tip = git(made.root, "rev-parse", PROPOSAL_BRANCH)
    made.add("m@2.0.0")
    made.write()
    commit(made.root)
    run_signed(made, by, propose=ProposeMode.BRANCH)
    assert git(made.root, "rev-parse", PROPOSAL_BRANCH) != tip
    before, after = (git(made.root, "show", f"{commit_}:{ours[0]}") for commit_ in (tip, PROPOSAL_BRANCH))
    assert before == after
    assert len(signed) == 6, "three statements of each version, each signed once"
