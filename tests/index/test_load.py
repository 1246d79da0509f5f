"""An index that loads is valid and has every field of its file; stamps only skip work."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError, Where
from reconciler.index import schemas
from reconciler.index.load import load_index
from tests.index.samples import SAMPLE, index_of, some_cid


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "index.yaml"
    path.write_text(SAMPLE)
    return path


def test_every_field_of_the_file_is_in_the_model(file: Path) -> None:
    index = load_index(file)
    assert (index.id, index.mark, index.file) == ("acme-models", "reconciler/acme-models/", file)
    assert index.digest == hashlib.sha256(SAMPLE.encode()).hexdigest()
    model = index.models["my-llm-7b"]
    assert list(model.versions) == ["2.0.0-rc.1", "1.3.0", "1.2.0", "1.1.0", "1.0.0"]
    assert dict(model.channels) == {"stable": "1.2.0", "next": "2.0.0-rc.1"}
    version = model.versions["1.2.0"]
    assert (version.kind, version.format, version.license) == ("model", "safetensors", "Apache-2.0")
    assert (version.path, version.created_at) == ("weights/my-llm-7b/1.2.0", "2026-05-07T00:00:00Z")
    assert (version.cid, version.protect, version.retired, version.yanked) == (
        some_cid("1.2.0"),
        True,
        False,
        None,
    )
    assert version.targets == ("node",)
    assert SAMPLE.splitlines()[(version.where.line or 0) - 1].strip() == '"1.2.0":'
    assert index.label(version) == "reconciler/acme-models/my-llm-7b@1.2.0"
    assert model.versions["1.1.0"].yanked == "wrong tokenizer"
    assert model.versions["1.0.0"].retired
    assert model.versions["1.0.0"].targets == ("node", "filecoin")
    words = index.models["words"].versions["0.1.0"]
    assert (words.kind, words.targets, words.include_hidden, words.cid) == ("dataset", ("node",), True, None)


def test_windows_line_ends_give_the_same_model(file: Path) -> None:
    index = load_index(file)
    file.write_bytes(SAMPLE.replace("\n", "\r\n").encode())
    assert load_index(file).models == index.models


def test_the_default_target_is_the_store(tmp_path: Path) -> None:
    path = tmp_path / "index.yaml"
    path.write_text('schema: 1\nid: a\nmodels: {m: {versions: {"1.0.0": {path: w}}}}\n')
    assert next(load_index(path).versions()).targets == ("store",)


def test_several_mistakes_are_reported_together_each_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "index.yaml"
    entries = "".join(f'      "1.{n}.0": {{path: ../{n}}}\n' for n in range(15))
    path.write_text("schema: 1\nid: a\nmodels:\n  m:\n    versions:\n" + entries)
    with pytest.raises(InvalidIndexError) as caught:
        load_index(path, name="i.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("i.yaml:6: path '../0' leaves the repository")
    assert lines[1].startswith("i.yaml:7: path '../1' leaves the repository")
    assert len(lines) == 11
    assert lines[-1] == "and 5 more"


@pytest.mark.parametrize("kind", ["missing", "directory", "null"])
def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path, kind: str) -> None:
    path = {"missing": tmp_path / "none.yaml", "directory": tmp_path, "null": Path("/dev/null")}[kind]
    with pytest.raises(InvalidIndexError) as caught:
        load_index(path)
    assert caught.value.where == Where(str(path))


def test_an_index_larger_than_the_limit_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "index.yaml"
    with path.open("wb") as out:
        out.truncate(33 << 20)
    with pytest.raises(InvalidIndexError, match="larger than 32 MiB"):
        load_index(path)


def test_a_stamp_skips_the_schema_check(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    index = load_index(file, stamps=cache)

    def never(*_: object) -> list[object]:
        raise AssertionError("the schema was checked again")

    monkeypatch.setattr(schemas, "problems", never)
    assert load_index(file, stamps=cache) == index
    file.write_text(SAMPLE + "# changed\n")
    with pytest.raises(AssertionError):
        load_index(file, stamps=cache)


def test_missing_and_unwritable_stamps_change_nothing(file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    index = load_index(file, stamps=cache)
    (cache / "index.valid").unlink()
    assert load_index(file, stamps=cache) == index
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory should be")
    assert load_index(file, stamps=blocked) == index


@pytest.mark.parametrize(
    "text",
    [
        "[]\n",
        "hello\n",
        "schema: 1\nid: a\nmodels: []\n",
        "schema: 1\nid: [a]\nmodels: {}\n",
        "schema: 1\nid: a\nmodels: {m: x}\n",
        "schema: 1\nid: a\nmodels: {m: {versions: x}}\n",
        'schema: 1\nid: a\nmodels: {m: {versions: {"1.0.0": x}}}\n',
        'schema: 1\nid: a\nmodels: {m: {versions: {"1.0.0": {path: [w]}}}}\n',
        'schema: 1\nid: a\nmodels: {m: {versions: {"1.0.0": {path: ../w}}}}\n',
        'schema: 1\nid: a\nmodels: {m: {versions: {"1.0": {path: w}}}}\n',
        'schema: 1\nid: a\nmodels: {m: {versions: {"1.0.0": {path: w, retired: maybe}}}}\n',
        'schema: 1\nid: a\nmodels: {m: {versions: {"1.0.0": {path: w, targets: [[a]]}}}}\n',
        'schema: 1\nid: a\nmodels: {m: {channels: {s: [x]}, versions: {"1.0.0": {path: w}}}}\n',
        "schema: 9\nid: a\nmodels: {}\n",
        "schema: 1\nmodels: {}\n",
        "schema: 1\nid: ../a\nmodels: {}\n",
    ],
)
def test_a_forged_stamp_lets_nothing_through(tmp_path: Path, text: str) -> None:
    path = tmp_path / "index.yaml"
    path.write_text(text)
    key = schemas.stamp_key("index", hashlib.sha256(text.encode()).hexdigest())
    schemas.write_stamp(tmp_path / "cache", "index", key)
    with pytest.raises(InvalidIndexError):
        load_index(path, stamps=tmp_path / "cache")


def test_an_unknown_target_gets_a_suggestion() -> None:
    assert schemas.suggestion("nod", ["node", "store"]) == "did you mean 'node'?"


def test_loading_does_not_recurse() -> None:
    """The depth is counted: a file far deeper than Python's stack is refused the same way."""
    from reconciler.index.guarded_yaml import parse

    with pytest.raises(InvalidIndexError, match="nested deeper"):
        parse("[" * (sys.getrecursionlimit() * 20), "x")


def test_two_models_may_publish_one_directory_under_two_names() -> None:
    text = "schema: 1\nid: acme\nmodels:\n" + "".join(
        f"  {model}: {{versions: {{'1.0.0': {{path: w}}}}}}\n" for model in ("llm", "acme/LLM")
    )
    assert {version.path for version in index_of(text).versions()} == {"w"}
