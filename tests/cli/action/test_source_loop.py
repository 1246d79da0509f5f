"""A version with a source instead of a checkout, through the whole loop, as `act` runs the examples."""

from __future__ import annotations

import json

import pytest

from tests.cli.action.test_examples import run
from tests.support.hub_server import HubRepository, hub_server
from tests.support.project_on_github import Project
from tests.support.safetensors import safetensors

NAME = "acme/My-LLM-7B"
FILES = {
    "model.safetensors": safetensors(b"w" * (5 << 20)),
    "config.json": b'{"model_type": "llama"}',
    "README.md": b"# My LLM",
}
SIZE = sum(map(len, FILES.values()))


@pytest.mark.slow
def test_from_a_pull_request_with_a_source_to_an_empty_plan(project: Project) -> None:
    """The plan reads no weights, the merge streams them once, the proposal has CID and provenance."""
    with hub_server() as hub:
        repository = hub.add(HubRepository.make(NAME, FILES))
        source = f"hub:{NAME}@{repository.commit}"
        sources = {"sources": {"hub": {"kind": "huggingface", "endpoint": hub.url}}}
        index = {
            "schema": 1,
            "id": "acme",
            "models": {
                "llm": {"versions": {"1.0.0": {"source": source, "created_at": "2026-05-07T00:00:00Z"}}}
            },
        }
        project.git("rm", "-r", "--quiet", "weights")
        project.write("releases/sources.yaml", json.dumps(sources))
        project.write("releases/index.yaml", json.dumps(index, indent=2))
        project.push()

        plan = run(project, "plan.yml", "pull_request", project.pull_request())
        assert plan.code == 0, plan.text
        (comment,) = project.github.comments
        assert "1 version to stream" in comment["body"]
        assert source in comment["body"].replace("\\", "").replace("&#8203;", "")
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
