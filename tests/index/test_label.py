"""A label consists of an owner and a name; its mark and version derive from them."""

from __future__ import annotations

import json

import pytest

from reconciler.index.label import IMPORT_MARK, PUT_MARK, RESERVED_IDS, Label, mark_of


def test_a_label_of_a_version_names_its_parts() -> None:
    label = Label.of("acme", "org/Name@1.2.0-rc.1")
    assert label == "reconciler/acme/org/Name@1.2.0-rc.1"
    assert (label.owner, label.mark, label.name) == ("acme", "reconciler/acme/", "org/Name@1.2.0-rc.1")
    assert label.version == ("org/Name", "1.2.0-rc.1")
    assert json.dumps(label) == '"reconciler/acme/org/Name@1.2.0-rc.1"'


def test_a_label_without_an_index_entry_has_free_text() -> None:
    label = Label(f"{PUT_MARK}weights/a file")
    assert (label.mark, label.version) == (PUT_MARK, ("weights/a file", ""))


def test_the_marks_of_put_and_import_belong_to_reserved_ids() -> None:
    assert {PUT_MARK, IMPORT_MARK} == {mark_of(owner) for owner in RESERVED_IDS}


@pytest.mark.parametrize("text", ["", "reconciler", "reconciler/", "reconciler/a", "reconciler/a/", "x/a/b",
                                  "reconciler//b", "Reconciler/a/b"])  # fmt: skip
def test_text_in_another_form_is_not_a_label(text: str) -> None:
    with pytest.raises(ValueError, match="not a label"):
        Label(text)
