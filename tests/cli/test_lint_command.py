"""`lint`, and what `add` and `put` say about files that should not be published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.safetensors import safetensors

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"00" * 32 + b"\nsize 12345678\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n"


def test_a_directory_without_findings_is_fine(reconcile: CommandLine) -> None:
    reconcile.write("weights/llm/1.0.0/LICENSE", "MIT")
    done = reconcile("lint", "weights/llm/1.0.0")
    assert (done.code, done.out, done.err) == (0, "weights/llm/1.0.0: no findings\n", "")


def test_findings_are_printed_with_their_way_out(reconcile: CommandLine) -> None:
    reconcile.write("new/model.bin", POINTER)
    reconcile.write("new/key.pem", KEY)
    reconcile.write("new/a.pkl", b"x")
    done = reconcile("lint", "new")
    assert done.code == 4
    assert done.out.splitlines() == [
        "refused: 'model.bin' is a Git LFS pointer, not the file itself [pointer-file]",
        "  hint: get the files with `git lfs pull`, or name them with `source: lfs:PATH`",
        "refused: 'key.pem' contains a private key [private-key]",
        "  hint: leave it out with `exclude` in the index; if it is public already, replace it; "
        "to publish it all the same: `accept: [private-key]`",
        "warning: nothing names the license of the files [no-license]",
        "  hint: add `license` to the model in the index, or a LICENSE file",
        "warning: 'a.pkl' is a pickle: loading it can run code [pickle]",
        "  hint: convert it to safetensors",
        "new: 2 refused, 2 warnings",
    ]
    document = reconcile("lint", "new", "--json").document
    assert document["summary"] == {"refused": 2, "accepted": 0, "warning": 2}
    assert [each["code"] for each in document["findings"]] == [
        "pointer-file",
        "private-key",
        "no-license",
        "pickle",
    ]
    assert (document["name"], document["model"], document["source"]) == ("new", None, "new")


def test_a_version_is_judged_by_its_entry_in_the_index(reconcile: CommandLine) -> None:
    index = (reconcile.root / "releases/index.yaml").read_text()
    reconcile.write(
        "releases/index.yaml",
        index.replace("path: weights/llm/1.0.0", "path: weights/llm/1.0.0\n        accept: [private-key]"),
    )
    reconcile.write("weights/llm/1.0.0/key.pem", KEY)
    done = reconcile("lint", "llm@1.0.0", "--json")
    assert done.code == 0
    assert done.document["summary"] == {"refused": 0, "accepted": 1, "warning": 0}
    assert (done.document["model"], done.document["source"]) == ("llm", "weights/llm/1.0.0")
    assert reconcile("lint", "weights/llm/1.0.0").code == 4
    assert reconcile("lint", "llm@1.0.0").out.endswith("llm@1.0.0: 1 accepted\n")


def test_a_published_version_can_be_linted_by_any_reference(reconcile: CommandLine) -> None:
    assert reconcile().code == 0
    cid = reconcile("resolve", "llm@1.1.0").out.strip()
    for ref in ("llm", "llm@^1", "llm@stable", "llm@1.1.0", cid):
        done = reconcile("lint", ref)
        assert (done.code, done.out.rpartition(": ")[2]) == (0, "no findings\n"), ref


@pytest.mark.parametrize(
    ("ref", "code", "text"),
    [
        ("llm@9.9.9", 2, "has no version"),
        ("nothing", 2, "unknown model"),
        ("llm", 2, "has no CID yet"),
        ("bafybeie7egduoa3ccp7w4id2usaobz6x6icpblykbti5dj2wenmqwe27pe", 1, ""),
    ],
)
def test_a_reference_without_files_is_an_error(
    reconcile: CommandLine, ref: str, code: int, text: str
) -> None:
    done = reconcile("lint", ref, "--json")
    assert done.code == code
    assert text in done.document["error"]["message"]


def test_a_version_that_is_not_on_this_machine_is_an_error(reconcile: CommandLine) -> None:
    index = (reconcile.root / "releases/index.yaml").read_text()
    reconcile.write("releases/index.yaml", index.replace("weights/llm/1.0.0", "weights/elsewhere"))
    done = reconcile("lint", "llm@1.0.0")
    assert done.code == 1
    assert "weights/elsewhere is not on this machine" in done.err


def test_hidden_files_are_examined_only_where_they_would_be_published(reconcile: CommandLine) -> None:
    reconcile.write("new/.env", "HF_TOKEN=hf_abcdefgh\n")
    reconcile.write("new/LICENSE", "MIT")
    assert reconcile("lint", "new").code == 0
    assert reconcile("lint", "new", "--hidden").code == 4


def test_a_single_file_can_be_linted(reconcile: CommandLine) -> None:
    reconcile.write("model.safetensors", safetensors(b"x" * 9)[:-1])
    assert "is truncated" in reconcile("lint", "model.safetensors").out


# --- add


def test_add_reports_what_a_run_will_refuse_and_adds_the_version(reconcile: CommandLine) -> None:
    reconcile.write("weights/new/model.safetensors", POINTER)
    reconcile.write("weights/new/a.pkl", b"x")
    reconcile.write("weights/new/b.pkl", b"x")
    done = reconcile("add", "llm", "2.0.0", "weights/new")
    assert done.code == 0
    assert done.err.splitlines()[1:4] == [
        "warning: llm@2.0.0: 'model.safetensors' is a Git LFS pointer, not the file itself; "
        "get the files with `git lfs pull`, or name them with `source: lfs:PATH` [pointer-file]",
        "warning: llm@2.0.0: 'a.pkl' is a pickle: loading it can run code (and 1 more); "
        "convert it to safetensors [pickle]",
        "note: a run does not publish llm@2.0.0 from these files; `reconcile lint llm@2.0.0` lists all",
    ]
    run = reconcile()
    assert run.code == 5
    assert "is a Git LFS pointer" in run.out
    assert "warning: llm@2.0.0: 'a.pkl'" in run.err


def test_add_has_its_findings_as_json(reconcile: CommandLine) -> None:
    reconcile.write("weights/new/model-00001-of-00002.safetensors", safetensors(b"x"))
    document = reconcile("add", "other", "1.0.0", "weights/new", "--json").document
    assert [each["code"] for each in document["findings"]] == ["missing-file", "no-license"]


def test_a_license_that_add_writes_needs_no_file(reconcile: CommandLine) -> None:
    reconcile.write("weights/new/model.safetensors", safetensors(b"x"))
    assert (
        reconcile("add", "other", "1.0.0", "weights/new", "--license", "MIT", "--json").document["findings"]
        == []
    )


# --- put


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.bin", POINTER),
        ("key.pem", KEY),
        (".git/config", b"[core]\n"),
        (".netrc", b"machine x login y password z\n"),
    ],
)
def test_put_refuses_secrets_repositories_and_pointers(
    reconcile: CommandLine, name: str, data: bytes
) -> None:
    reconcile.write(f"data/{name}", data)
    reconcile.write("data/other", b"x")
    done = reconcile("put", "data", "--hidden")
    assert done.code == 4
    assert done.err.startswith("error: refused: ")
    assert "hint: " in done.err
    assert not (reconcile.root / ".reconcile/store/cars").exists()


def test_put_publishes_everything_else_with_a_warning(reconcile: CommandLine) -> None:
    reconcile.write("data/train-00000-of-00003.parquet", b"x")
    reconcile.write("data/a.part", b"x")
    done = reconcile("put", "data")
    assert done.code == 0
    assert [line.rpartition("[")[2] for line in done.err.splitlines()[:2]] == [
        "missing-file]",
        "partial-download]",
    ]
    codes = [each["code"] for each in reconcile("put", "data", "--json").document["findings"]]
    assert codes == ["missing-file", "partial-download"]


def test_a_single_shard_may_be_put(reconcile: CommandLine) -> None:
    reconcile.write("train-00000-of-00003.parquet", b"x")
    assert reconcile("put", "train-00000-of-00003.parquet", "--json").document["findings"] == []


# --- the index


@pytest.mark.parametrize(
    "accept",
    [
        "pointer-file",
        "[pointer-file]",
        "[credentials]",
        "[no-license]",
        "[missing-shard]",
        "[[missing-file]]",
        "{}",
    ],
)
def test_only_what_may_be_overridden_can_be_accepted(reconcile: CommandLine, accept: str) -> None:
    index = (reconcile.root / "releases/index.yaml").read_text()
    reconcile.write(
        "releases/index.yaml",
        index.replace("path: weights/llm/1.0.0", f"accept: {accept}\n        path: weights/llm/1.0.0"),
    )
    done = reconcile("plan")
    assert done.code == 2
    assert "releases/index.yaml:15: 'accept'" in done.err


def test_the_codes_in_the_schemas_are_those_of_the_program() -> None:
    from reconciler.content.lint.finding import ACCEPTABLE, FindingCode, Severity

    schemas = Path(__file__).parents[2] / "schemas"
    index = json.loads((schemas / "index.schema.json").read_text())
    assert index["$defs"]["version"]["properties"]["accept"]["items"]["enum"] == [
        str(code) for code in ACCEPTABLE
    ]
    for name in ("lint", "plan", "report", "added", "put"):
        fields = json.loads((schemas / f"{name}.schema.json").read_text())["$defs"]["finding"]["properties"]
        assert fields["code"]["enum"] == [str(code) for code in FindingCode]
        assert fields["severity"]["enum"] == [str(severity) for severity in Severity]


# -- notes ---------------------------------------------------------------------------------------------------


def test_lint_has_the_notes_of_a_plan(reconcile: CommandLine) -> None:
    reconcile.write("weights/llm/1.1.0/README", "a")
    reconcile.write("weights/llm/1.1.0/readme", "b")
    reconcile.write("weights/llm/1.1.0/manifest.json", '{"name": "an app"}')
    planned = reconcile("plan", "--json").document["notes"]
    notes = reconcile("lint", "llm@1.1.0", "--json").document["notes"]
    assert [f"llm@1.1.0: {note}" for note in notes] == [note for note in planned if "llm@1.1.0" in note]
    assert len(notes) == 2
    done = reconcile("lint", "llm@1.1.0")
    assert done.err.splitlines() == [f"note: {note}" for note in notes]
    assert len(reconcile("lint", "weights/llm/1.1.0", "--json").document["notes"]) == 1


def test_lint_notes_what_keeps_files_from_being_a_bundle(reconcile: CommandLine) -> None:
    reconcile.write("weights/llm/1.1.0/SHA256SUMS", "nonsense")
    (note,) = reconcile("lint", "llm@1.1.0", "--json").document["notes"]
    assert note.startswith("the files are not a bundle: ")
    assert note.removeprefix("the files are not a bundle: ")[:40] in reconcile("plan").out


@pytest.mark.parametrize("published", [False, True])
def test_a_car_is_linted_by_its_content(reconcile: CommandLine, published: bool) -> None:
    reconcile.write("weights/llm/1.0.0/README", "a")
    reconcile.write("weights/llm/1.0.0/readme", "b")
    reconcile()
    reconcile("export", "llm@1.0.0", "llm.car")
    assert reconcile("add", "other", "2.0.0", "llm.car").code == 0
    if published:
        assert reconcile().code == 0
        (reconcile.root / "llm.car").unlink()
    document = reconcile("lint", "other@2.0.0", "--json").document
    assert [each["code"] for each in document["findings"]] == ["no-license"]
    assert any("'README' and 'readme' are one name" in note for note in document["notes"])
