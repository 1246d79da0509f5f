"""A model named as on a hub, from `add` to `fetch`: every command takes `Acme/LLM-7B`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine

NAME = "Acme/LLM-7B"
RECORD = f"releases/records/{NAME}/1.2.0.json"


@pytest.fixture
def released(empty: CommandLine) -> CommandLine:
    empty("init", "--id", "acme")
    for version in ("1.1.0", "1.2.0"):
        empty.write(f"w/{version}/model.bin", version)
        done = empty("add", NAME, f"v{version}", f"w/{version}", "--created-at", "2026-05-07T00:00:00Z")
        assert (done.code, done.out) == (0, f"added {NAME}@{version} to releases/index.yaml\n")
    assert empty().code == 0
    return empty


def test_the_record_is_below_the_organisation_and_the_next_run_is_empty(released: CommandLine) -> None:
    record = json.loads((released.root / RECORD).read_text())
    assert (record["model"], record["version"]) == (NAME, "1.2.0")
    assert released("--dry-run", "--exit-code").code == 0
    assert json.loads(released("check", "--json").out)["recorded"] == 2


def test_a_record_that_contradicts_the_index_is_found_below_the_organisation(released: CommandLine) -> None:
    other = (released.root / RECORD.replace("1.2.0", "1.1.0")).read_text().replace('"1.1.0"', '"1.2.0"')
    released.write(RECORD, other)
    done = released("check")
    assert done.code == 2
    assert "in the index and" in done.err


@pytest.mark.parametrize("ref", [NAME, f"{NAME}@^1", f"{NAME}@v1.2.0", f"{NAME}@=1.2.0", f"{NAME}@1.2.0"])
def test_every_reference_to_it_resolves(released: CommandLine, ref: str) -> None:
    answer = released("resolve", ref, "--json").document
    assert (answer["model"], answer["version"]) == (NAME, "1.2.0")
    assert released("-C", ".", "resolve", ref).out.strip() == answer["cid"]


def test_globs_select_by_organisation(released: CommandLine) -> None:
    released.write("w/other/x", "1")
    released("add", "other", "1.0.0", "w/other")
    shown = {
        glob: {item["model"] for item in released("--dry-run", "--json", "--only", glob).document["items"]}
        for glob in ("other", "Acme/*", "*@1.2.0")
    }
    assert shown == {"other": {"other"}, "Acme/*": set(), "*@1.2.0": set()}
    done = released("--dry-run", "--only", "llm-7b")
    assert (done.code, "did you mean 'Acme/LLM-7B'?" in done.err) == (2, True)


def test_it_is_locked_fetched_exported_and_verified(released: CommandLine) -> None:
    assert released("lock", f"{NAME}@^1").code == 0
    assert released("fetch", f"{NAME}@^1", "out", "--locked", "--store", ".reconcile/store").code == 0
    assert (released.root / "out/model.bin").read_text() == "1.2.0"
    manifest = json.loads((released.root / "out/manifest.json").read_text())
    assert (manifest["model"], manifest["version"]) == (NAME, "1.2.0")
    assert released("verify", "out").out.startswith(f"ok: {NAME}@1.2.0 ")
    assert released("fetch", NAME, "hub", "--hf-name", NAME, "--store", ".reconcile/store").code == 0
    assert (released.root / "hub/models--Acme--LLM-7B/refs/1.2.0").is_file()
    assert released("export", f"{NAME}@1.1.0", "old.car").code == 0


def test_it_is_pruned_by_its_mark_only(released: CommandLine) -> None:
    index = released.root / "releases/index.yaml"
    text = index.read_text()
    start = text.index('      "1.1.0"')
    index.write_text(text[:start])
    assert released("--prune", "--allow-removals", "1").code == 0
    assert len(released.cars()) == 1


def test_a_proposal_on_a_branch_contains_its_record(empty: CommandLine) -> None:
    subprocess.run(["git", "init", "-q", empty.root], check=True)
    empty("init", "--id", "acme")
    empty.write("w/1/model.bin", "1")
    empty("add", NAME, "1.2.0", "w/1")
    for command in (["add", "releases"], ["commit", "-qm", "Start"]):
        subprocess.run(["git", "-C", empty.root, *command], check=True)
    assert empty("--propose", "branch").code == 0
    shown = subprocess.run(
        ["git", "-C", empty.root, "show", f"reconciler/resolve-cids:{RECORD}"],
        check=True,
        capture_output=True,
    )
    assert json.loads(shown.stdout)["model"] == NAME


def test_a_lock_of_another_build_is_refused_until_it_is_locked_again(released: CommandLine) -> None:
    """Earlier releases took `v1.0.0+cu118` for a range and locked any build."""
    index = released.root / "releases/index.yaml"
    index.write_text(index.read_text().replace('"1.2.0"', '"1.1.0+cu118"'))
    ref = f"{NAME}@v1.1.0+cu118"
    released("lock", f"{NAME}@1.1.0")
    lock = released.root / "models.lock"
    lock.write_text(lock.read_text().replace(f'"requested": "{NAME}@1.1.0"', f'"requested": "{ref}"'))
    done = released("fetch", ref, "out", "--locked", "--store", ".reconcile/store")
    assert done.code == 2
    assert f"locks '{ref}' to {NAME}@1.1.0, which is another version" in done.err
    assert released("lock").code == 0
    assert released("fetch", ref, "out", "--locked", "--store", ".reconcile/store").code == 0
    assert released("fetch", ref.replace("v", ""), "two", "--locked", "--store", ".reconcile/store").code == 0
    assert Path(released.root, "two/model.bin").read_text() == "1.2.0"


def test_the_plan_notes_what_may_surprise_in_a_new_version(empty: CommandLine) -> None:
    empty("init", "--id", "acme")
    for name, data in (("Model", "1"), ("model", "2"), ("manifest.json", '{"name": "app"}')):
        empty.write(f"w/{name}", data)
    empty("add", "llm", "1.0.0", "w")
    notes = empty("--dry-run", "--json").document["notes"]
    assert any(note.startswith("llm@1.0.0: 'manifest.json' is content") for note in notes)
    assert any(note.startswith("llm@1.0.0: 'Model' and 'model' are one name") for note in notes)
    assert empty().code == 0
    assert not [note for note in empty("--dry-run", "--json").document["notes"] if "llm@1.0.0" in note]


def test_an_artifact_may_have_a_file_named_as_a_list_of_sums(empty: CommandLine) -> None:
    empty("init", "--id", "acme")
    empty.write("art/SHA256SUMS", "no sums")
    cid = empty("put", "art").out.strip()
    assert empty("get", cid, "copy").code == 0
    assert (empty.root / "copy/SHA256SUMS").read_text() == "no sums"


def test_identify_takes_a_version_with_a_v_and_a_directory_by_its_own_name(empty: CommandLine) -> None:
    empty.write("llm/v1.2.0/m", "1")
    given = [empty("identify", "llm/v1.2.0", "--version", text).out for text in ("1.2.0", "v1.2.0", "=1.2.0")]
    assert len(set(given)) == 1
    assert empty("identify", "llm/v1.2.0").out not in given, "as earlier releases: the name, unchanged"


@pytest.mark.parametrize("moved", [False, True], ids=["case counts", "case is ignored"])
def test_a_model_can_be_renamed_by_case_only(reconcile: CommandLine, moved: bool) -> None:
    """On a file system that ignores case, the records of the former name are found under the new one."""
    reconcile()
    root = reconcile("resolve", "llm@1.0.0").out
    index = reconcile.root / "releases/index.yaml"
    index.write_text(index.read_text().replace("  llm:", "  LLM:"))
    if moved:
        shutil.move(reconcile.root / "releases/records/llm", reconcile.root / "releases/records/LLM")
    assert reconcile("resolve", "LLM@1.0.0").out == root
    assert reconcile("check").code == 0
    done = reconcile("--prune", "--json")
    assert (done.code, {each["state"] for each in done.document["items"]}) == (0, {"applied"})
    assert reconcile("plan", "--prune", "--exit-code").code == 0
    shutil.rmtree(reconcile.root / ".reconcile")
    done = reconcile()  # from the files, with the manifest as it was
    assert done.code == 0, done.err
    assert reconcile("resolve", "LLM@1.0.0").out == root
    record = json.loads((reconcile.root / "releases/records/LLM/1.0.0.json").read_text())
    assert record["bundle"]["model"] == "llm"
