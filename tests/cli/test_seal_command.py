from __future__ import annotations

import pytest

from tests.support.command_line import CommandLine
from tests.support.seals import identity

INDEX = """\
schema: 1
id: acme
models:
  m:
    seal: {{recipients: [{recipients}]}}
    versions: {{"1.0.0": {{path: w}}}}
  plain: {{versions: {{"1.0.0": {{path: p}}}}}}
"""


def write(empty: CommandLine, *numbers: int) -> None:
    recipients = ", ".join(identity(number).recipient.text for number in numbers)
    empty.write("releases/index.yaml", INDEX.format(recipients=recipients))


def test_key_is_made_and_wrapped_again_only_when_needed(
    empty: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(empty, 1)
    assert empty("seal", "m").out == "key 1 of m made for 1 recipient: releases/sealed/m/1.age\n"
    before = empty.files()
    assert empty("seal", "m").out == "key 1 of m is wrapped for 1 recipient: releases/sealed/m/1.age\n"
    assert empty.files() == before
    write(empty, 1, 2)
    refused = empty("seal", "m")
    assert refused.code == 2
    assert "was wrapped for other recipients, and RECONCILE_IDENTITY has no private key" in refused.err
    monkeypatch.setenv("RECONCILE_IDENTITY", identity(1).text)
    assert empty("seal", "m").out == "key 1 of m wrapped again for 2 recipients: releases/sealed/m/1.age\n"
    key = before["releases/sealed/m/1.json"]
    assert empty.files()["releases/sealed/m/1.json"].splitlines()[1] == key.splitlines()[1]


def test_new_key_is_another_generation_and_the_document_names_it(empty: CommandLine) -> None:
    write(empty, 1)
    first = empty("seal", "m", "--json").document
    assert (first["generation"], first["made"]) == (1, ["releases/sealed/m/1.age"])
    second = empty("seal", "m", "--new-key", "--json").document
    assert (second["generation"], second["rewrapped"]) == (2, [])
    assert second["key"] != first["key"]
    assert second["recipients"] == [identity(1).recipient.text]


@pytest.mark.parametrize(
    ("model", "message"), [("nothing", "'nothing' is not in the index"), ("plain", "'plain' has no `seal`")]
)
def test_model_that_is_not_sealed_is_refused(empty: CommandLine, model: str, message: str) -> None:
    write(empty, 1)
    done = empty("seal", model)
    assert (done.code, message in done.err) == (2, True)
