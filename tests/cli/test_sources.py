"""Versions from a Hugging Face hub: `add` writes the commit of a branch, and `--upstream` reports, only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.index.load import load_index
from tests.support.command_line import CommandLine
from tests.support.http_peer import Asked, Said, http_peer
from tests.support.hub_server import Hub, HubRepository, hub_server
from tests.support.s3_server import BUCKET, KEY_ID, SECRET, s3_server
from tests.support.safetensors import safetensors

NAME = "acme/My-LLM-7B"
FILES: Mapping[str, bytes] = {
    "model.safetensors": safetensors(b"w" * 4000),
    "config.json": b'{"model_type": "llama"}',
    "README.md": b"# My LLM",
    "onnx/model.onnx": b"o" * 2000,
    ".gitattributes": b"*.safetensors filter=lfs\n",
}
CARD = {"cardData": {"license": "apache-2.0"}, "tags": ["license:apache-2.0"], "library_name": "transformers"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield found


def release(hub: Hub, files: Mapping[str, bytes] = FILES, **info: object) -> HubRepository:
    """Make a new commit on the main branch."""
    return hub.add(HubRepository.make(NAME, files, **{**CARD, **info}))


@pytest.fixture
def cli(empty: CommandLine) -> CommandLine:
    empty.write("releases/index.yaml", "schema: 1\nid: acme\nmodels: {}\n")
    return empty


def added(cli: CommandLine, *arguments: str) -> CommandLine:
    done = cli("add", *arguments)
    assert done.code == 0, done
    return cli


def the_index(cli: CommandLine) -> str:
    return (cli.root / "releases/index.yaml").read_text()


# -- add -----------------------------------------------------------------------------------------------------


def test_a_branch_becomes_its_commit_and_the_choice_is_shown(cli: CommandLine, hub: Hub) -> None:
    commit = release(hub).commit
    done = cli("add", NAME, "v1.0.0", f"hf:{NAME}@main", "--created-at", "2026-05-01T00:00:00Z")
    assert done.code == 0, done
    assert done.out == f"added {NAME}@1.0.0 to releases/index.yaml\n"
    assert f"main is the commit {commit}" in done.err
    assert "license: Apache-2.0; format: safetensors" in done.err
    assert "1 hidden entry skipped" in done.err
    (version,) = load_index(cli.root / "releases/index.yaml").versions()
    assert str(version.source) == f"hf:{NAME}@{commit}"
    assert (version.license, version.format, version.kind) == ("Apache-2.0", "safetensors", "model")
    assert hub.requests("resolve") <= 2 * len(FILES), "only headers are read"
    assert sum(len(asked.body) for asked in hub.storage.asked) == 0


def test_without_a_revision_the_main_branch_is_meant(cli: CommandLine, hub: Hub) -> None:
    commit = release(hub).commit
    done = added(cli, "llm", "1.0.0", f"hf:{NAME}", "--json")
    assert f"@{commit}" in the_index(done)


def test_the_document_has_everything_that_was_chosen(cli: CommandLine, hub: Hub) -> None:
    commit = release(hub, license="mit").commit
    document = cli("add", "llm", "1.0.0", f"hf:{NAME}@main", "--json").document
    assert document["source"] == f"hf:{NAME}@{commit}"
    assert (document["resolved"], document["path"]) == ("main", None)
    assert (document["license"], document["format"]) == ("Apache-2.0", "safetensors")


def test_names_that_some_file_systems_take_for_one_are_noted(cli: CommandLine, hub: Hub) -> None:
    release(hub, {**FILES, "readme.md": b"another"})
    done = cli("add", "llm", "1.0.0", f"hf:{NAME}@main")
    assert done.code == 0, done
    assert "note: 'README.md' and 'readme.md' are one name on file systems that ignore case" in done.err


def test_a_commit_is_kept_and_a_missing_one_is_an_error(cli: CommandLine, hub: Hub) -> None:
    commit = release(hub).commit
    added(cli, "llm", "1.0.0", f"hf:{NAME}@{commit}")
    before = the_index(cli)
    for given, text in (
        (f"hf:{NAME}@{'0' * 40}", "no such revision"),
        (f"hf:{NAME}@nope", "no such revision"),
        (f"hf:{NAME}@nope", "check the name of the branch or tag"),
        ("hf:acme/absent@main", "no such repository"),
        ("hf:a/b/c@main", "is not a repository"),
        ("hub:acme/x@main", "unknown source 'hub'"),
        ("hf://acme/x@main", "is an address"),
        ("hf://acme/x@v1", "write hf:acme/x@v1"),
        ("https://huggingface.co/acme/x", "write hf:acme/x@main"),
        ("https://huggingface.co/datasets/acme/x/tree/v1", "write hf:datasets/acme/x@v1"),
        ("https://hf.co/acme/-", "write NAME:LOCATION"),
        ("https://huggingface.co.evil.example/acme/x", "write NAME:LOCATION"),
        ("acme/x", "for the repository on the Hugging Face Hub, write hf:acme/x"),
        ("https://u:hunter2secret@h.example/x", "is an address"),
    ):
        done = cli("add", "llm", "1.1.0", given)
        assert done.code != 0, given
        assert text in done.err, done.err
        assert "hunter2secret" not in done.err
    again = cli("add", "llm", "1.1.0", f"hf:{NAME}@main")
    assert "already has the source" in again.err
    assert the_index(cli) == before


def test_a_renamed_repository_is_written_under_its_new_name(cli: CommandLine, hub: Hub) -> None:
    release(hub, id="acme/New-Name")
    hub.add(replace(hub.repositories[f"{NAME}@{hub.branches[NAME, 'main']}"], name="acme/New-Name"))
    added(cli, "llm", "1.0.0", f"hf:{NAME}@main")
    assert "hf:acme/New-Name@" in the_index(cli)


def test_a_gated_repository_without_a_license_is_noted(cli: CommandLine, hub: Hub) -> None:
    release(hub, gated="manual", cardData={"license": "other"}, tags=[])
    done = cli("add", "llm", "1.0.0", f"hf:{NAME}@main")
    assert "note: it is gated" in done.err
    assert "note: it names no licence that SPDX has" in done.err
    assert "license:" not in the_index(cli)


def test_findings_about_the_files_are_shown(cli: CommandLine, hub: Hub) -> None:
    files = dict(FILES) | {
        "model-00001-of-00002.safetensors": safetensors(b"x" * 2000),
        "x.ckpt": b"\x80\x04.",
    }
    release(hub, files)
    document = cli("add", "llm", "1.0.0", f"hf:{NAME}@main", "--json").document
    assert "missing-file" in {each["code"] for each in document["findings"]}


def test_lint_examines_the_source_of_a_version_that_is_not_published(cli: CommandLine, hub: Hub) -> None:
    release(hub, {**FILES, "model-00001-of-00002.safetensors": safetensors(b"x" * 2000)})
    added(cli, "llm", "1.0.0", f"hf:{NAME}@main")
    done = cli("lint", "llm@1.0.0", "--json")
    assert done.document["source"].startswith(f"hf:{NAME}@")
    assert "missing-file" in {each["code"] for each in done.document["findings"]}
    assert not (cli.root / ".reconcile/store").exists()


def test_patterns_of_the_model_apply(cli: CommandLine, hub: Hub) -> None:
    cli.write(
        "releases/index.yaml",
        'schema: 1\nid: acme\nmodels:\n  llm:\n    exclude: ["onnx/"]\n    versions: {}\n',
    )
    release(hub)
    done = cli("add", "llm", "1.0.0", f"hf:{NAME}@main")
    assert "3 files" in done.err
    assert "1 entry left out by patterns" in done.err


def test_another_license_than_that_of_the_model_is_a_warning(cli: CommandLine, hub: Hub) -> None:
    cli.write(
        "releases/index.yaml",
        'schema: 1\nid: acme\nmodels:\n  llm:\n    license: MIT\n    versions: {"0.1.0": {path: w}}\n',
    )
    release(hub)
    done = cli("add", "llm", "1.0.0", f"hf:{NAME}@main")
    assert done.code == 0, done
    assert "the source states the license Apache-2.0, the index MIT" in done.err


def test_a_directory_with_a_colon_in_its_name_is_a_path(cli: CommandLine) -> None:
    cli.write("hf:weights/config.json", "{}")
    done = cli("add", "llm", "1.0.0", "hf:weights")
    assert "is not a repository" not in done.err
    assert done.code == 0
    assert "path:" in the_index(cli)


def test_arguments_that_are_missing_are_named(cli: CommandLine) -> None:
    assert "missing argument VERSION" in cli("add", "llm").err
    assert "missing argument PATH|SOURCE" in cli("add", "llm", "1.0.0").err
    assert "leave PATH|SOURCE out" in cli("add", "llm", "1.0.0", "w", "--from-upstream").err


def test_from_upstream_adds_the_next_version_with_the_patterns_of_the_last(
    cli: CommandLine, hub: Hub
) -> None:
    commit = release(hub).commit
    cli.write(
        "releases/index.yaml",
        "schema: 1\nid: acme\nmodels:\n  llm:\n    license: Apache-2.0\n    versions:\n"
        f'      "1.2.3": {{source: "hf:{NAME}@{commit}", exclude: ["onnx/"], hidden: include}}\n',
    )
    nothing = cli("add", "--from-upstream", "llm")
    assert "already has the source" in nothing.err
    assert "upstream has no newer commit" in nothing.err
    newer = release(hub, {**FILES, "config.json": b'{"model_type": "other"}'}).commit
    document = cli("add", "--from-upstream", "llm", "--json").document
    assert (document["version"], document["source"]) == ("1.3.0", f"hf:{NAME}@{newer}")
    version = load_index(cli.root / "releases/index.yaml").models["llm"].versions["1.3.0"]
    assert version.patterns.exclude == ("onnx/",)
    assert version.include_hidden
    last = release(hub, {**FILES, "config.json": b"{}"}).commit
    assert cli("add", "--from-upstream", "llm", "2.0.0", "--json").document["source"].endswith(last)


def test_from_upstream_needs_a_version_with_a_repository(cli: CommandLine) -> None:
    cli.write("releases/index.yaml", 'schema: 1\nid: acme\nmodels: {llm: {versions: {"1.0.0": {path: w}}}}\n')
    assert "no version of 'llm' has a repository" in cli("add", "--from-upstream", "llm").err
    assert "did you mean 'llm'" in cli("add", "--from-upstream", "lm").err


# -- upstream ------------------------------------------------------------------------------------------------


@pytest.fixture
def published(cli: CommandLine, hub: Hub) -> CommandLine:
    release(hub)
    added(cli, "llm", "1.0.0", f"hf:{NAME}@main", "--created-at", "2026-05-01T00:00:00Z")
    done = cli("--json")
    assert done.code == 0, done
    return cli


def codes(cli: CommandLine) -> list[str]:
    done = cli("status", "--upstream", "--json")
    before = the_index(cli)
    assert the_index(cli) == before
    return [each["code"] for each in done.document["upstream"]]


def test_nothing_is_reported_while_nothing_changes(published: CommandLine) -> None:
    assert codes(published) == []
    assert "nothing changed in the sources" in published("status", "--upstream").out
    assert "upstream" not in published("status", "--json").document


def test_a_newer_commit_is_reported_once_and_for_the_newest_version(published: CommandLine, hub: Hub) -> None:
    newer = release(hub, {**FILES, "more.json": b"{}"}).commit
    done = published("status", "--upstream")
    assert f"llm@1.0.0: hf:{NAME}@" in done.out
    assert f"has the newer commit {newer[:12]} on main" in done.out
    assert "hint: `reconcile add --from-upstream llm` adds it" in done.out
    assert done.code == 0
    added(published, "--from-upstream", "llm")
    assert codes(published) == []


def test_every_kind_of_change_upstream_has_its_code(published: CommandLine, hub: Hub) -> None:
    first = hub.repositories[f"{NAME}@{hub.branches[NAME, 'main']}"]
    release(hub, {path: data for path, data in FILES.items() if path != "config.json"})
    assert codes(published) == ["newer-commit", "file-withdrawn"]
    assert "'config.json'" in published("status", "--upstream").out
    release(hub, cardData={"license": "llama3.1"})
    assert codes(published) == ["license-changed"], "the commit is the first again"
    release(hub, gated="auto", disabled=True, id="other/Name")
    assert codes(published) == ["renamed", "disabled", "gated"]
    del hub.repositories[f"{NAME}@{first.commit}"]
    release(hub, {**FILES, "more.json": b"{}"})
    assert codes(published) == ["commit-gone", "newer-commit"]
    hub.repositories.clear()
    assert codes(published) == ["gone"]
    hub.token = "hf_of_the_owner"
    assert codes(published) == ["refused"]


def test_a_hub_that_cannot_be_asked_is_unknown_and_no_success(
    published: CommandLine, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.lie = lambda kind, asked, sent: sent.but(status=503)
    done = published("status", "--upstream", "--json")
    assert [each["code"] for each in done.document["upstream"]] == ["unknown"]
    assert done.code == 5


def test_a_plan_does_not_ask_and_findings_change_no_plan(published: CommandLine, hub: Hub) -> None:
    release(hub, {**FILES, "more.json": b"{}"})
    asked = len(hub.server.asked)
    document = published("--dry-run", "--json").document
    assert document["items"] == []
    assert document["upstream"] == []
    assert len(hub.server.asked) == asked


def test_a_changed_directory_of_a_share_is_reported(cli: CommandLine, tmp_path: Path) -> None:
    share = tmp_path / "share" / "llm"
    share.mkdir(parents=True)
    for name in ("a.json", "b.json", "c.json"):
        (share / name).write_text("{}")
    cli.write(
        "releases/sources.yaml",
        json.dumps({"sources": {"s": {"kind": "directory", "path": str(share.parent)}}}),
    )
    added(cli, "llm", "1.0.0", "s:llm")
    assert cli("--json").code == 0
    assert codes(cli) == []
    (share / "a.json").unlink()
    (share / "b.json").write_text("{} ")
    assert codes(cli) == ["file-withdrawn", "content-changed"]


def test_another_file_of_the_same_size_is_found_by_its_digest(cli: CommandLine) -> None:
    files = {"a.json": b"{}", "b.json": b"{ }"}

    def answer(asked: Asked) -> Said:
        name = asked.target.rpartition("/")[2]
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in files.items())
        return Said(200, sums.encode() if name == "SHA256SUMS" else files[name])

    with http_peer(answer) as peer:
        cli.write("releases/sources.yaml", json.dumps({"sources": {"s": {"kind": "http", "url": peer.url}}}))
        added(cli, "llm", "1.0.0", "s:llm")
        assert cli("--json").code == 0
        assert codes(cli) == []
        files["a.json"] = b"[]"
        assert codes(cli) == ["content-changed"]


# -- hostile hubs, and secrets -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "acme/x@main",
        "acme/x\nversions: {}",
        "a/b/c",
        "",
        "hf://h.example/x",
        "acme/${HOME}",
    ],
)
def test_a_hub_cannot_write_anything_but_a_repository_into_the_index(
    cli: CommandLine, hub: Hub, name: str
) -> None:
    release(hub, id=name)
    before = the_index(cli)
    done = cli("add", "llm", "1.0.0", f"hf:{NAME}@main")
    assert done.code in (1, 2), done
    assert "Traceback" not in done.err
    assert the_index(cli) == before


@pytest.mark.parametrize("text", ["\x1b[2Jmit", 'x"\n  evil: true', "a" * 5000, "MIT OR ${{ secrets.X }}"])
def test_a_license_of_a_hub_is_one_harmless_word(cli: CommandLine, hub: Hub, text: str) -> None:
    release(hub, cardData={"license": text}, tags=[])
    done = cli("add", "llm", "1.0.0", f"hf:{NAME}@main")
    assert done.code == 0, done
    assert "\x1b" not in done.err
    (version,) = load_index(cli.root / "releases/index.yaml").versions()
    assert (version.license or "").startswith("LicenseRef-")
    assert "evil:" not in the_index(cli)


def test_the_token_reaches_the_hub_and_no_output(
    cli: CommandLine, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(hub)
    hub.token = "hf_hunter2secret"
    refused = cli("add", "llm", "1.0.0", f"hf:{NAME}@main")
    assert refused.code == 1
    assert "it is private" in refused.err
    monkeypatch.setenv("HF_TOKEN", hub.token)
    done = cli("add", "llm", "1.0.0", f"hf:{NAME}@main")
    assert done.code == 0, done
    assert "note: it is private" in done.err
    published = cli("--json")
    hub.lie = lambda kind, asked, sent: sent.but(status=403, headers={"X-Error-Message": hub.token})
    asked = cli("status", "--upstream")
    for each in (refused, done, published, asked):
        assert "hunter2secret" not in each.out + each.err
    assert not hub.storage.sent_headers("authorization")


def test_check_names_the_line_of_a_source_that_is_not_defined(cli: CommandLine) -> None:
    cli.write(
        "releases/index.yaml",
        'schema: 1\nid: acme\nmodels:\n  llm:\n    versions:\n      "1.0.0":\n        source: "bucket:llm"\n',
    )
    for command in (["check"], ["--dry-run"], ["status"]):
        done = cli(*command)
        assert done.code == 2
        assert "releases/index.yaml:7: llm@1.0.0 names the source 'bucket'" in done.err


def test_a_bucket_and_the_same_files_in_a_directory_give_the_same_cid(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setenv("KEY_ID", KEY_ID)
    monkeypatch.setenv("SECRET", SECRET)
    entry = {
        "kind": "object-store",
        "url": f"s3://{BUCKET}/released",
        "key_id_env": "KEY_ID",
        "secret_env": "SECRET",
    }
    when = ["--created-at", "2026-05-01T00:00:00Z"]
    found = []
    with s3_server() as server:
        for path, data in FILES.items():
            server.put(f"released/llm/{path}", data)
            cli.write(f"weights/llm/{path}", data)
        cli.write("releases/sources.yaml", json.dumps({"sources": {"b": entry | {"endpoint": server.url}}}))
        for place in ("b:llm/", "weights/llm"):
            cli.write("releases/index.yaml", "schema: 1\nid: acme\nmodels: {}\n")
            added(cli, "llm", "1.0.0", place, "--format", "safetensors", "--license", "MIT", *when)
            planned = cli("--dry-run", "--json")
            assert planned.code == 0, planned
            done = cli("--json")
            assert done.code == 0, done
            assert SECRET not in done.out + done.err + planned.out
            found.append(cli("resolve", "llm@1.0.0").out)
    assert found[0] == found[1]
