"""Names of models and versions as people have them, and the suggestion where one is refused."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import InvalidIndexError
from reconciler.index import names
from reconciler.index.edits import add_version
from reconciler.index.records import record_path
from reconciler.index.schemas import schema_text
from tests.index.samples import SAMPLE, index_of

EMPTY = "schema: 1\nid: acme\nmodels: {}\n"


@pytest.mark.parametrize(
    "name",
    ["m", "7B", "Acme/LLM-7B", "acme/My-LLM.v2_final", "a" * 96, "a" * 47 + "/" + "b" * 48, "null", "1e5"],
)
def test_a_name_as_people_have_it_is_accepted_everywhere(name: str) -> None:
    text = add_version(EMPTY, name, "1.0.0", path="w")
    assert list(index_of(text).models) == [name]
    more = add_version(text, name, "1.1.0", path="w2")
    assert list(index_of(more).models[name].versions) == ["1.1.0", "1.0.0"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("My LLM", "for example 'My-LLM'"),
        ("acme/llm/7b", "for example 'acme/llm-7b'"),
        ("/llm/", "for example 'llm'"),
        ("Größe", "for example 'Groe'"),
        ("-llm", "for example 'llm'"),
        ("acme\\llm", "for example 'acme/llm'"),
        ("a" * 97, f"for example '{'a' * 96}'"),
        ("模型", "a name has letters, digits"),
        ("acme/.git", "for example 'acme/git'"),
        ("acme/1.0.0.json", "for example 'acme/1.0.0'"),
        ("con", "for example 'model-con'"),
        ("acme/NUL.bin", "for example 'acme/model-NUL.bin'"),
        ("llm.", "for example 'llm'"),
        ("My-LLM-7b", "use 'my-llm-7b'"),
    ],
)
def test_a_name_that_is_refused_gets_a_suggestion_that_is_accepted(name: str, hint: str) -> None:
    with pytest.raises(InvalidIndexError) as caught:
        add_version(SAMPLE, name, "1.0.0", path="w")
    assert (caught.value.hint or "").startswith(hint)
    if found := re.fullmatch(r"for example '(.*)'", hint):
        add_version(SAMPLE, found[1], "1.0.0", path="w")


def test_an_index_keeps_names_that_a_new_model_must_not_have() -> None:
    """Earlier releases accepted them, and a published version keeps its name."""
    text = EMPTY.replace("{}", "\n  aux: {versions: {'1.0.0': {path: w}}}")
    assert list(index_of(text).models) == ["aux"]
    assert "1.1.0" in add_version(text, "aux", "1.1.0", path="w2")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v1.2.0", "1.2.0"),
        ("V1.2", "1.2.0"),
        ("1", "1.0.0"),
        ("=1.0.0", "1.0.0"),
        ("01.2.0", "1.2.0"),
        ("1.2.0.4", "1.2.0-4"),
        ("v1.0.0+cu118", "1.0.0+cu118"),
        ("latest", None),
        ("1.0.0_final", None),
        ("1.2.0", None),
    ],
)
def test_a_version_is_suggested_for_what_is_nearly_one(text: str, version: str | None) -> None:
    assert names.suggested_version(text) == version


@given(st.text(max_size=120))
def test_a_suggestion_is_always_a_valid_name_and_never_the_same(text: str) -> None:
    near = names.suggested_name(text)
    assert near is None or (names.is_model_name(near) and near != text)


@given(st.text(st.sampled_from("aZ0.-_/"), max_size=100))
def test_the_schema_and_the_program_accept_the_same_names(text: str) -> None:
    form = json.loads(schema_text("index"))["$defs"]["model_name"]
    by_schema = len(text) <= form["maxLength"] and re.search(form["pattern"], text) is not None
    assert by_schema == names.is_model_name(text)


@given(st.text(st.sampled_from("aZ0.-_/j"), min_size=1, max_size=12), st.text(max_size=12))
def test_two_models_never_share_a_record(one: str, other: str) -> None:
    """A record of one model is never the directory of another."""
    if not (names.is_model_name(one) and names.is_model_name(other)) or one == other:
        return
    from pathlib import Path

    first, second = (record_path(Path("r"), name, "1.0.0") for name in (one, other))
    assert first != second
    assert first not in second.parents


def test_one_organisation_is_spelled_in_one_way() -> None:
    """On a file system that ignores case, the records of both are in one directory."""
    for first, second in (("acme/a", "Acme/b"), ("acme", "Acme/b"), ("ACME/a", "acme")):
        text = f"schema: 1\nid: x\nmodels:\n  {first}: {{versions: {{'1.0.0': {{path: a}}}}}}\n"
        with pytest.raises(InvalidIndexError, match="differ in the case of"):
            index_of(text + f"  {second}: {{versions: {{'1.0.0': {{path: b}}}}}}\n")
