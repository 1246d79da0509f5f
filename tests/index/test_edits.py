"""An edit changes the intended fields and nothing else: every other byte stays."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import FileChangedError, InvalidIndexError
from reconciler.index.edits import add_version, set_cids, write_edit
from reconciler.index.versions import newest_first
from tests.index.samples import SAMPLE, index_of, index_texts, some_cid, version_texts


def facts(text: str) -> dict[str, tuple[object, ...]]:
    index = index_of(text)
    return {
        version.ref: (version.path, version.created_at, version.cid, version.targets, version.include_hidden)
        for version in index.versions()
    }


def inserted(old: str, new: str) -> bool:
    """Return whether `new` is `old` with insertions only."""
    rest = iter(new)
    return all(character in rest for character in old)


@settings(max_examples=50)
@given(index_texts(), st.data())
def test_set_cids_changes_only_the_cids(text: str, data: st.DataObject) -> None:
    before = facts(text)
    chosen = data.draw(st.lists(st.sampled_from(sorted(before)), unique=True))
    wanted = {tuple(ref.split("@")): some_cid(ref) for ref in chosen}
    new = set_cids(text, wanted)  # type: ignore[arg-type]
    after = facts(new)
    for ref, (path, created_at, cid, *rest) in before.items():
        assert after[ref] == (path, created_at, some_cid(ref) if ref in chosen else cid, *rest)
    assert after.keys() == before.keys()
    assert inserted(text, new)
    assert len(new) - len(text) < 110 * len(chosen) + 1
    assert text.endswith("\n") == new.endswith("\n")
    assert ("\r\n" in text) == ("\r\n" in new)
    assert new.count("\n") - new.count("\r\n") == (0 if "\r\n" in text else new.count("\n"))
    assert set_cids(new, wanted) == new, "the same edit again changes nothing"  # type: ignore[arg-type]


@settings(max_examples=50)
@given(index_texts(), st.sampled_from(["alpha", "beta", "new"]), version_texts)
def test_add_version_adds_only_that_version(text: str, model: str, version: str) -> None:
    before = facts(text)
    ref = f"{model}@{version}"
    if ref in before:
        with pytest.raises(InvalidIndexError, match="already"):
            add_version(text, model, version, path="w/other")
        return
    new = add_version(
        text, model, version, path="w/other dir", created_at="2026-05-07T00:00:00Z", hidden=True
    )
    after = facts(new)
    assert after.pop(ref) == ("w/other dir", "2026-05-07T00:00:00Z", None, ("store",), True)
    assert after == before
    assert inserted(text, new)
    if model in index_of(text).models:
        old_order = list(index_of(text).models[model].versions)
        order = list(index_of(new).models[model].versions)
        if len(old_order) > 1 and old_order == newest_first(old_order)[::-1]:
            assert order == newest_first(order)[::-1], "oldest first stays oldest first"
        elif old_order == newest_first(old_order):
            assert order == newest_first(order), "newest first stays newest first"


def test_an_edit_keeps_comments_and_quotes_and_indents_as_its_neighbours() -> None:
    new = set_cids(SAMPLE, {("my-llm-7b", "1.3.0"): some_cid("a"), ("words", "0.1.0"): some_cid("b")})
    changed = [line for line in new.splitlines() if line not in SAMPLE.splitlines()]
    assert changed == [
        f"        cid: {some_cid('a')}",
        f'      "0.1.0": {{path: data/words, hidden: include, cid: {some_cid("b")}}}',
    ]
    old = iter(SAMPLE.splitlines())
    kept = [line for line in new.splitlines() if line not in changed]
    assert kept == [line for line in old if not line.startswith('      "0.1.0"')]


def test_a_new_version_is_inserted_in_the_order_of_the_others() -> None:
    new = add_version(SAMPLE, "my-llm-7b", "1.2.5", path="weights/x")
    assert list(index_of(new).models["my-llm-7b"].versions) == [
        "2.0.0-rc.1",
        "1.3.0",
        "1.2.5",
        "1.2.0",
        "1.1.0",
        "1.0.0",
    ]
    assert '      "1.2.5":\n        path: weights/x\n      "1.2.0":' in new
    top = add_version(SAMPLE, "my-llm-7b", "3.0.0", path="weights/x")
    assert '    versions:\n      "3.0.0":\n        path: weights/x\n      # the next one\n' in top


def test_a_new_model_is_added_at_the_end_and_into_an_empty_mapping() -> None:
    new = add_version(
        SAMPLE, "other", "1.0.0", path="w/o", kind="artifact", format="gguf", license="MIT OR Apache-2.0"
    )
    assert new == SAMPLE + (
        '  other:\n    kind: artifact\n    format: gguf\n    license: "MIT OR Apache-2.0"\n    versions:\n'
        '      "1.0.0":\n        path: w/o\n'
    )
    empty = add_version("schema: 1\nid: a\nmodels: {}  # none yet", "m", "1.0.0", path="w")
    assert (
        empty == 'schema: 1\nid: a\nmodels:  # none yet\n  m:\n    versions:\n      "1.0.0":\n        path: w'
    )
    flow = add_version('{"schema": 1, "id": "a", "models": {}}', "m", "1.0.0", path="w")
    assert list(index_of(flow).models) == ["m"]


def test_an_edited_json_index_stays_json() -> None:
    import json

    text = '{"schema": 1, "id": "a", "models": {"m": {"versions": {"1.0.0": {"path": "w"}}}}}'
    new = set_cids(text, {("m", "1.0.0"): some_cid("a")})
    assert json.loads(new)["models"]["m"]["versions"]["1.0.0"] == {"path": "w", "cid": str(some_cid("a"))}


def test_a_published_cid_is_never_replaced() -> None:
    with pytest.raises(InvalidIndexError, match="has the CID") as caught:
        set_cids(SAMPLE, {("my-llm-7b", "1.2.0"): some_cid("other")})
    assert caught.value.where is not None
    line = SAMPLE.splitlines()[(caught.value.where.line or 0) - 1]
    assert line.strip() == f"cid: {some_cid('1.2.0')}"


def test_edits_with_an_invalid_result_are_refused() -> None:
    with pytest.raises(InvalidIndexError, match="is not in the index"):
        set_cids(SAMPLE, {("my-llm-7b", "9.9.9"): some_cid("a")})
    with pytest.raises(InvalidIndexError, match="have the same path"):
        add_version(SAMPLE, "my-llm-7b", "9.0.0", path="weights/my-llm-7b/1.2.0")
    with pytest.raises(InvalidIndexError, match="leaves the repository"):
        add_version(SAMPLE, "my-llm-7b", "9.0.0", path="../x")
    with pytest.raises(InvalidIndexError, match="is not a SemVer"):
        add_version(SAMPLE, "my-llm-7b", "9.0", path="weights/x")
    with pytest.raises(InvalidIndexError, match="is not a model name"):
        add_version(SAMPLE, "My LLM", "9.0.0", path="weights/x")
    with pytest.raises(InvalidIndexError, match="has format 'safetensors', not 'gguf'"):
        add_version(SAMPLE, "my-llm-7b", "9.0.0", path="weights/x", format="gguf")


@pytest.mark.parametrize(
    "model", ["m: {versions: {}}\n  evil", "a\nb", "x: y", "# x", "*a", "&a b", "{}", '"']
)
def test_a_hostile_name_cannot_inject_yaml(model: str) -> None:
    with pytest.raises(InvalidIndexError):
        add_version(SAMPLE, model, "9.0.0", path="weights/x")


@pytest.mark.parametrize("key", ["model", "path", "created_at", "format", "license", "kind"])
@pytest.mark.parametrize("character", ["\x1b", "\n", "\0", "\u2028", "\u202e"])
def test_the_error_for_a_control_character_names_its_value(key: str, character: str) -> None:
    given = {"model": "new", "path": "weights/x", key: f"a{character}b"}
    with pytest.raises(InvalidIndexError) as caught:
        add_version(SAMPLE, given.pop("model"), "9.0.0", **given)
    assert caught.value.message == f"{key} {f'a{character}b'!r} has the control character {character!r}"


def test_an_unusual_notation_is_an_error_and_not_a_guess() -> None:
    text = 'schema: 1\nid: a\nmodels:\n  m:\n    versions:\n      "1.0.0":\n        ? path\n        : w\n'
    with pytest.raises(InvalidIndexError, match="cannot be edited safely"):
        set_cids(text, {("m", "1.0.0"): some_cid("a")})


@settings(max_examples=30)
@given(st.integers(1, 40))
def test_many_cids_are_set_in_one_edit(count: int) -> None:
    entries = "".join(f'      "1.{n}.0":\n        path: w/{n}\n' for n in range(count))
    text = "schema: 1\nid: a\nmodels:\n  m:\n    versions:\n" + entries
    new = set_cids(text, {("m", f"1.{n}.0"): some_cid(str(n)) for n in range(count)})
    assert [version.cid for version in index_of(new).versions()] == [some_cid(str(n)) for n in range(count)]


def test_write_edit_keeps_the_mode_and_leaves_no_other_file(tmp_path: Path) -> None:
    file = tmp_path / "index.yaml"
    file.write_bytes(b"old\r\n")
    file.chmod(0o640)
    write_edit(file, "old\r\n", "new\r\n")
    assert file.read_bytes() == b"new\r\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["index.yaml"]


def test_write_edit_refuses_a_file_that_changed_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "index.yaml"
    file.write_text("theirs\n")
    with pytest.raises(FileChangedError, match="changed meanwhile"):
        write_edit(file, "old\n", "new\n")
    assert file.read_text() == "theirs\n"
    assert os.listdir(tmp_path) == ["index.yaml"]
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    with pytest.raises(InvalidIndexError, match="symbolic link"):
        write_edit(link, "theirs\n", "new\n")
    assert (file.read_text(), link.is_symlink()) == ("theirs\n", True)
