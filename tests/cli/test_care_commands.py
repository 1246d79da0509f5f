"""`doctor` and `adopt`: their output, and that neither changes anything without --take."""

from __future__ import annotations

from tests.support.command_line import CommandLine


def test_doctor_is_content_with_a_store_and_not_with_something_in_its_way(reconcile: CommandLine) -> None:
    before = reconcile.files()
    assert reconcile("doctor").code == 0
    assert reconcile("doctor", "--json").document["ok"] is True
    assert reconcile.files() == before
    reconcile.write(".reconcile/store", "in the way")
    done = reconcile("doctor")
    assert done.code == 1
    assert done.out.startswith("!! store: ")
    assert reconcile("doctor", "--json").document["ok"] is False


def test_adopt_lists_pins_and_relabels_only_with_take(reconcile: CommandLine) -> None:
    reconcile()
    labels = reconcile.root / ".reconcile/store/labels"
    for file in labels.iterdir():
        file.write_text(file.read_text().replace("reconciler/acme/", "reconciler/others/"))
    before = reconcile.files()
    done = reconcile("adopt")
    assert done.code == 0
    assert "named 'reconciler/others/llm@1.0.0': llm@1.0.0\n" in done.out
    assert done.err.endswith("hint: `reconcile adopt --take` adopts them\n")
    assert reconcile.files() == before
    taken = reconcile("adopt", "--take", "--json")
    assert [item["state"] for item in taken.document["items"]] == ["adopted", "adopted"]
    for file in labels.iterdir():
        assert "reconciler/acme/" in file.read_text()
        assert "reconciler/others/" in file.read_text()
    assert reconcile("plan", "--prune", "--exit-code").code == 0
