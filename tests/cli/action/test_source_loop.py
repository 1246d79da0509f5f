"""A version with a source instead of a checkout, through the whole loop, as `act` runs the examples."""

from __future__ import annotations

import json

import pytest

from tests.cli.action.test_examples import EXAMPLES, run
from tests.support.hub_server import Hub, HubRepository, hub_server
from tests.support.kubo_node import kubo_node
from tests.support.project_on_github import TOKEN, Project
from tests.support.safetensors import safetensors

NAME = "acme/My-LLM-7B"
FILES = {
    "model.safetensors": safetensors(b"w" * (5 << 20)),
    "config.json": b'{"model_type": "llama"}',
    "README.md": b"# My LLM",
}
SIZE = sum(map(len, FILES.values()))


def released(project: Project, hub: Hub) -> HubRepository:
    """Replace the weights in the repository by a version with a source."""
    repository = hub.add(HubRepository.make(NAME, FILES))
    version = {"source": f"hub:{NAME}@{repository.commit}", "created_at": "2026-05-07T00:00:00Z"}
    sources = {"sources": {"hub": {"kind": "huggingface", "endpoint": hub.url}}}
    index = {"schema": 1, "id": "acme", "models": {"llm": {"versions": {"1.0.0": version}}}}
    project.git("rm", "-r", "--quiet", "weights")
    project.write("releases/sources.yaml", json.dumps(sources))
    project.write("releases/index.yaml", json.dumps(index, indent=2))
    project.push()
    return repository


@pytest.mark.slow
def test_from_a_pull_request_with_a_source_to_an_empty_plan(project: Project) -> None:
    """The plan reads no weights, the merge streams them once, the proposal has CID and provenance."""
    with hub_server() as hub:
        repository = released(project, hub)
        plan = run(project, "plan.yml", "pull_request", project.pull_request())
        assert plan.code == 0, plan.text
        (comment,) = project.github.comments
        assert "1 version to stream" in comment["body"]
        shown = comment["body"].replace("\\", "").replace("&#8203;", "")
        assert f"hub:{NAME}@{repository.commit}" in shown
        assert "CID after reading" in comment["body"]
        assert hub.storage.asked == [], "a plan downloads nothing"
        assert project.cars() == []

        applied = run(project, "apply.yml", "push")
        assert applied.code == 0, applied.text
        reads = len(hub.storage.asked)
        assert reads > 0
        (car,) = project.cars()
        (pull,) = project.proposals()
        files = project.github.files(pull["head"])
        record = json.loads(files["releases/records/llm/1.0.0.json"])
        assert record["cid"] == car.stem
        assert record["cid"].encode() in files["releases/index.yaml"]
        assert record["provenance"]["revision"] == repository.commit
        assert {each["path"] for each in record["provenance"]["files"]} == set(FILES)

        project.github.merge(pull["number"])
        project.pull()
        again = run(project, "apply.yml", "push")
        assert again.code == 0, again.text
        assert "nothing to do; 1 in sync" in again.summary
        assert len(hub.storage.asked) == reads, "nothing is read again"

        newer = hub.add(HubRepository.make(NAME, FILES | {"README.md": b"# My LLM, again"}))
        drift = run(project, "drift.yml", "schedule")
        assert drift.code == 0, drift.text
        assert "**Upstream:**" in drift.summary
        assert newer.commit[:12] in drift.summary
        assert [one for one in drift.annotations if one.startswith("::notice") and "newer commit" in one]
        assert len(hub.storage.asked) == reads


@pytest.mark.slow
@pytest.mark.ipfs
def test_a_large_version_is_published_in_parts_by_hosted_runners(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two jobs read a part each, and the one for the whole version reads no weights from the hub."""
    text = (EXAMPLES / "large.yml").read_text()
    assert "part-size: 100 GB" in text
    text = text.replace("part-size: 100 GB", "part-size: 3 MiB")
    with hub_server() as hub, kubo_node(tmp_path_factory.mktemp("kubo")) as node:
        targets = {"targets": {"store": {"kind": "kubo", "api": node.url}}}
        project.write("releases/targets.yaml", json.dumps(targets))
        released(project, hub)
        ran = project.run(text, "push", token=TOKEN)
        assert ran.code == 0, ran.text
        assert sum("stream part" in page for page in ran.summaries) == 2
        asked = [asked.headers.get("range", "") for asked in hub.storage.asked]
        spans = [tuple(map(int, text.removeprefix("bytes=").split("-"))) for text in asked]
        read = sum(end - start + 1 for start, end in spans)
        assert len(FILES["model.safetensors"]) <= read <= 1.02 * SIZE
        (pull,) = project.proposals()
        record = json.loads(project.github.files(pull["head"])["releases/records/llm/1.0.0.json"])
        ours = {cid: name for cid, name in node.pins().items() if name}
        assert ours == {record["cid"]: "reconciler/acme/llm@1.0.0"}

        project.github.merge(pull["number"])
        project.pull()
        again = project.run(text, "push", token=TOKEN)
        assert again.code == 0, again.text
        assert len(hub.storage.asked) == len(spans)
