"""From an index without CIDs to merged records and active deals, with proposals and a real service."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.content import piece_cid
from reconciler.deals.chain import MAINNET
from tests.forges.fake_github import FakeGitHub
from tests.support.command_line import RUN, CommandLine
from tests.support.fake_lotus import FakeLotus, fake_lotus
from tests.support.github_server import serving
from tests.support.killed import kill_when
from tests.support.storacha_service import READS, StorachaService

pytestmark = pytest.mark.storacha

BRANCH = "reconciler/resolve-cids"
INDEX, RECORD = "releases/index.yaml", "releases/records/lm/1.0.0.json"


class Project:
    """A repository with one unpublished version, a space as its target, and a chain."""

    def __init__(self, reconcile: CommandLine, service: StorachaService, lotus: FakeLotus, seed: str) -> None:
        self.reconcile, self.service, self.lotus = reconcile, service, lotus
        reconcile.write("weights/lm/model.safetensors", seed.encode() * 5000)
        reconcile.write(
            INDEX,
            "schema: 1\nid: acme\ndefaults: {targets: [space]}\npolicy: {deals: {min: 1}}\nmodels:\n"
            '  lm:\n    versions:\n      "1.0.0":\n        path: weights/lm\n'
            '        created_at: "2026-05-07T00:00:00Z"\n',
        )
        reconcile.write(
            "releases/targets.yaml",
            f"targets:\n  space:\n    kind: storacha\n    space: '{service.space}'\n"
            f"    endpoint: '{service.url}'\n    service: '{service.did}'\n    cli: '{service.cli}'\n"
            "    principal_env: T_KEY\n    proof_env: T_PROOF\n"
            f"    bridge_secret_env: T_SECRET\n    bridge_auth_env: T_AUTH\n    rpc: '{lotus.url}'\n",
        )
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Test")
        self.git("config", "user.email", "test@example.com")
        self.git("add", "releases")
        self.git("commit", "-q", "-m", "Ask for lm 1.0.0")

    def git(self, *arguments: str) -> bytes:
        ran = subprocess.run(["git", *arguments], cwd=self.reconcile.root, check=True, capture_output=True)
        return ran.stdout

    def run(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        time.sleep(1.1)  # a service repeats its answer to the same question within one second
        done = self.reconcile(*arguments, "--json")
        assert done.code == code, done.err + done.out
        return dict(done.document)

    def make_deals(self, number: int) -> None:
        """Let the service aggregate all its pieces, and add the deal to the chain."""
        self.service.ask("_filecoin/aggregate")
        for deal in self.service.ask("_filecoin/deal", {"provider": "f03144037", "dealId": number})["deals"]:
            self.lotus.add_deal(deal["dealId"], piece_cid.parse(deal["aggregate"]), deal["provider"])


@pytest.fixture
def project(
    service: StorachaService,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Project]:
    keys = service.delegate(READS, secret="read the space")
    for name, value in {
        "T_KEY": service.principal,
        "T_PROOF": service.proof,
        "T_SECRET": keys.secret,
        "T_AUTH": keys.authorization,
    }.items():
        monkeypatch.setenv(name, value)
    with fake_lotus(head=MAINNET.epoch(datetime.now(UTC))) as lotus:
        yield Project(CommandLine(tmp_path, monkeypatch, capsys), service, lotus, request.node.name)


def changes(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["change"], item["state"]) for item in document["items"]]


@pytest.mark.slow
def test_from_an_index_through_a_branch_to_an_active_deal(project: Project) -> None:
    before = project.reconcile.files()
    report = project.run("--propose", "branch")
    assert ("publish", "applied") in changes(report)
    assert {state for _, state in changes(report)} <= {"applied", "waiting"}
    assert project.reconcile.files() == before, "a branch leaves the working tree alone"
    record = json.loads(project.git("show", f"{BRANCH}:{RECORD}"))
    assert record["cid"] in project.git("show", f"{BRANCH}:{INDEX}").decode()
    ((shard,),) = [each["shards"] for each in record["pieces"]]
    tip = project.git("rev-parse", BRANCH)

    again = project.run("--propose", "branch")
    assert again["summary"]["bytes_sent"] == 0, "it is not merged yet, and nothing is sent again"
    assert project.git("rev-parse", BRANCH) == tip

    project.git("merge", "-q", "--ff-only", BRANCH)
    waiting = project.run("plan")
    assert changes(waiting) == [("wait", "waiting")]
    assert "aggregating" in waiting["items"][0]["reason"]
    project.make_deals(7_720_001)
    done = project.run("plan", "--exit-code")
    assert (done["items"], done["summary"]["in_sync"], done["notes"]) == ([], 1, [])
    for arguments, remembered in (((), True), (("--no-cache",), False), (("--check", "sample"), False)):
        (holding,) = project.run("status", *arguments)["items"]
        (piece,) = holding["pieces"]
        (deal,) = piece["deals"]
        assert (piece["piece"], deal["state"], deal["checked_by"]) == (shard["piece"], "active", "chain")
        assert ("named by the service on" in deal["detail"]) is remembered


@pytest.mark.slow
def test_from_an_index_through_a_pull_request_to_an_empty_plan(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeGitHub()
    fake.push("main", {INDEX: (project.reconcile.root / INDEX).read_bytes()}, "Ask for lm 1.0.0")
    with serving(fake) as url:
        for name, value in {
            "RECONCILE_FORGE": "github",
            "RECONCILE_FORGE_REPOSITORY": "o/r",
            "RECONCILE_FORGE_BASE": "main",
            "RECONCILE_FORGE_API": url,
            "RECONCILE_FORGE_TOKEN": fake.token,
        }.items():
            monkeypatch.setenv(name, value)
        report = project.run("--propose", "pull-request")
        assert ("publish", "applied") in changes(report)
        (pull,) = fake.open_pulls()
        assert pull["title"] == "Resolve lm@1.0.0"
        again = project.run("--propose", "pull-request")
        assert (again["summary"]["bytes_sent"], len(fake.pulls)) == (0, 1)
        fake.merge(pull["number"])
        for path, data in fake.files("main").items():
            project.reconcile.write(path, data)
        project.git("commit", "-q", "-a", "-m", "Merge")
        project.make_deals(7_730_001)
        done = project.run("--propose", "pull-request")
        assert (done["items"], fake.open_pulls()) == ([], [])


@pytest.mark.slow
def test_a_record_edited_by_hand_is_an_error_that_names_both(project: Project) -> None:
    project.run()
    project.make_deals(7_740_001)
    path = project.reconcile.root / RECORD
    record = json.loads(path.read_bytes())
    true = record["pieces"][0]["shards"][0]["piece"]
    size = piece_cid.parse(true)
    false = str(piece_cid.PieceCid(bytes(31) + b"\1", size.height, size.padding))
    path.write_text(path.read_text().replace(true, false))
    assert changes(project.run("plan")) == [("wait", "waiting")], "the service knows no deal of that piece"
    done = project.reconcile("pieces", "lm@1.0.0", "--no-cache")
    assert done.code != 0
    assert true in done.err
    assert false in done.err


@pytest.mark.parametrize(
    "later", [0.5, pytest.param(0.0, marks=pytest.mark.slow), pytest.param(1.5, marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_killed_while_it_uploads_the_next_run_finishes_and_cleans_up(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, later: float
) -> None:
    private = tmp_path_factory.mktemp("private")
    monkeypatch.setenv("TMPDIR", str(private))
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    kill_when(lambda: any(private.glob("*/proof.car")), RUN, later=later, cwd=project.reconcile.root)
    deadline = time.monotonic() + 60
    left = list(private.glob("*/proof.car"))
    report = project.run()
    assert {state for _, state in changes(report)} <= {"applied", "waiting"}
    record = json.loads((project.reconcile.root / RECORD).read_bytes())
    assert [shard["size"] for shard in record["pieces"][0]["shards"]] == [record["car_size"]]
    assert changes(project.run("plan")) == [("wait", "waiting")]
    while any(path.exists() for path in left):  # until the client that was left alone has noticed
        assert time.monotonic() < deadline
        project.reconcile("doctor")
    assert not list(private.glob("reconcile-storacha-*"))
