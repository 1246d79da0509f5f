"""The keys `seal` and `public` of an index, the wrapped keys beside it, and the private keys at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.content.age import message
from reconciler.content.sealing.seal_key import SealKey
from reconciler.errors import InvalidIndexError, UserError
from reconciler.index.identities import identities_from
from reconciler.index.load import parse_index
from reconciler.index.model import Model
from reconciler.index.seal_keys import (
    load_wrapped_keys,
    new_key,
    open_any,
    recipients_of,
    unlock,
    write_wrapped_key,
)
from reconciler.index.seal_policy import SealPolicy
from tests.support.seals import identity

SECRET, PUBLIC = identity().text, identity().recipient.text
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEl+hb9KMeuxGSGl2ctwG8aVxoBeF4yM0gXkW0NUWqVC"


def model(seal: object, **fields: object) -> Model:
    """Return the model of an index in which it has these fields."""
    body = {"versions": {"1.0.0": {"path": "w"}}, **fields} | ({} if seal is None else {"seal": seal})
    text = json.dumps({"schema": 1, "id": "acme", "models": {"m": body}}, indent=1)
    return parse_index(text, Path("index.yaml")).models["m"]


def test_policy_is_that_of_all_versions() -> None:
    found = model(
        {"recipients": [PUBLIC, f"{SSH} me@home", "readers.txt"], "key_env": "K", "names": "sealed"}
    )
    assert found.seal == SealPolicy((PUBLIC, f"{SSH} me@home", "readers.txt"), "K", hides_names=True)
    assert found.versions["1.0.0"].seal == found.seal
    assert model({"recipients": [PUBLIC]}).seal == SealPolicy((PUBLIC,), "RECONCILE_IDENTITY")


def test_model_may_say_that_it_is_not_sealed_any_more() -> None:
    assert (model("none").seal, model("none").seal_off) == (None, True)
    assert (model(None).seal, model(None).seal_off) == (None, False)


def test_model_is_public_unless_it_says_otherwise() -> None:
    assert model(None).versions["1.0.0"].public
    assert (
        not parse_index(
            'schema: 1\nid: a\nmodels: {m: {public: false, versions: {"1.0.0": {path: w}}}}', Path("i")
        )
        .models["m"]
        .versions["1.0.0"]
        .public
    )


@pytest.mark.parametrize(
    ("seal", "message"),
    [
        ({}, "missing key 'recipients'"),
        ({"recipients": []}, "recipients.* is empty"),
        ({"recipients": PUBLIC}, "must be a list"),
        ({"recipients": [PUBLIC, PUBLIC]}, "has a repeated item"),
        ({"recipients": [PUBLIC[:-1] + "q"]}, "has a wrong checksum"),
        ({"recipients": ["ssh-rsa AAAA"]}, "of no supported kind"),
        ({"recipients": ["../readers.txt"]}, "the file of recipients '../readers.txt'"),
        ({"recipients": ["/etc/readers"]}, "the file of recipients '/etc/readers'"),
        ({"recipients": [SECRET]}, "a recipient is a private key"),
        ({"recipients": [PUBLIC], "key_env": SECRET}, "is not the name of an environment variable"),
        ({"recipients": [PUBLIC], "names": "hidden"}, "must be one of plain, sealed"),
        ({"recipients": [PUBLIC], "key": SECRET}, "unknown key 'key'"),
        ("off", "must be 'none'"),
        (["none"], "must be 'none'"),
    ],
)
def test_malformed_policy_is_refused_without_quoting_a_private_key(seal: object, message: str) -> None:
    with pytest.raises(InvalidIndexError, match=message) as caught:
        model(seal)
    assert SECRET[16:] not in f"{caught.value} {caught.value.hint}"


# -- wrapped keys --------------------------------------------------------------------------------------------


@pytest.fixture
def index_file(tmp_path: Path) -> Path:
    return tmp_path / "releases" / "index.yaml"


def test_wrapped_key_is_opened_by_each_recipient_and_no_other_identity(index_file: Path) -> None:
    key = new_key()
    recipients = [identity(number).recipient for number in (1, 2)]
    write_wrapped_key(index_file, "acme/m", 1, key, recipients)
    (found,) = load_wrapped_keys(index_file, "acme/m")
    assert (found.generation, found.key) == (1, key.id)
    assert found.recipients == tuple(each.text for each in recipients)
    for number in (1, 2):
        assert unlock(found, [identity(number)]) == key
    assert unlock(found, [identity(3), key.identity]) == key
    with pytest.raises(UserError, match="key 1 of acme/m cannot be opened: it is sealed for other keys"):
        unlock(found, [identity(3)])
    directory = index_file.with_name("sealed")
    assert open_any(directory, [identity(2)]) == [key]
    assert open_any(directory, [identity(3)]) == []
    text = b"".join(file.read_bytes() for file in directory.rglob("*") if file.is_file())
    assert key.identity.scalar not in text
    assert key.identity.text.encode() not in text


def test_generations_are_in_order_of_their_numbers(index_file: Path) -> None:
    for number in (10, 2, 1):
        write_wrapped_key(index_file, "m", number, new_key(), [identity().recipient])
    assert [each.generation for each in load_wrapped_keys(index_file, "m")] == [1, 2, 10]
    assert load_wrapped_keys(index_file, "other") == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema": 1}',
        '{"schema": 2, "key": "0123456789abcdef", "recipients": []}',
        '{"schema": 1, "key": "xyz", "recipients": []}',
        '{"schema": 1, "key": "0123456789abcdef", "recipients": "a"}',
        '{"schema": 1, "key": "0123456789abcdef", "recipients": [], "secret": "x"}',
        '{"schema": 1, "key": "0123456789abcdef", "key": "0123456789abcdef", "recipients": []}',
    ],
)
def test_malformed_description_of_a_key_is_refused(index_file: Path, text: str) -> None:
    write_wrapped_key(index_file, "m", 1, new_key(), [identity().recipient])
    (index_file.parent / "sealed/m/1.json").write_text(text)
    with pytest.raises(InvalidIndexError, match=r"sealed/m/1\.json"):
        load_wrapped_keys(index_file, "m")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no age file",
        message.encrypt(b"", [identity().recipient]),
        message.encrypt(b"no key", [identity().recipient]),
        message.encrypt(identity(5).text.encode(), [identity().recipient]),
        message.encrypt(f"{identity(5).text}\n{identity(6).text}".encode(), [identity().recipient]),
        message.encrypt(b"\xff", [identity().recipient]),
    ],
)
def test_file_that_has_another_key_than_its_description_is_refused(index_file: Path, data: bytes) -> None:
    write_wrapped_key(index_file, "m", 1, new_key(), [identity().recipient])
    (index_file.parent / "sealed/m/1.age").write_bytes(data)
    with pytest.raises(UserError, match="key 1 of m"):
        unlock(load_wrapped_keys(index_file, "m")[0], [identity()])


def test_keys_are_not_written_through_a_link(index_file: Path, tmp_path: Path) -> None:
    index_file.parent.mkdir()
    (index_file.parent / "sealed").symlink_to(tmp_path)
    with pytest.raises(InvalidIndexError, match="is a symbolic link"):
        write_wrapped_key(index_file, "m", 1, new_key(), [identity().recipient])


def test_recipients_are_read_from_keys_and_files_each_once(tmp_path: Path) -> None:
    (tmp_path / "readers.txt").write_text(f"# team\n{PUBLIC}\n\n{SSH} bob\n")
    found = recipients_of(SealPolicy((PUBLIC, "readers.txt")), tmp_path)
    assert [each.text for each in found] == sorted([PUBLIC, SSH])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "readers: cannot be read: no such file or directory"),
        (b"\xff\xfe", "readers: is not a text file with recipients"),
        (b"bob\n", "readers: line 1 is not a public key of a supported kind"),
        (b"# a comment\n", "no recipient is left"),
        (SECRET.encode(), "readers: line 1 is not a public key of a supported kind"),
    ],
)
def test_file_of_recipients_that_cannot_be_used_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "readers").write_bytes(content)
    with pytest.raises(UserError, match=message):
        recipients_of(SealPolicy(("readers",)), tmp_path)


def test_file_of_recipients_is_not_read_through_a_link_out_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "outside").write_text(PUBLIC)
    (tmp_path / "repository/readers").symlink_to("../outside")
    with pytest.raises(InvalidIndexError, match="leads out of the repository"):
        recipients_of(SealPolicy(("readers",)), tmp_path / "repository")


def test_id_of_a_key_says_nothing_about_it() -> None:
    ids = [SealKey(identity(number)).id for number in range(1, 9)]
    assert len(set(ids)) == len(ids)
    assert identity(1).scalar.hex()[:16] not in ids


# -- private keys at hand ------------------------------------------------------------------------------------


def test_identity_comes_from_the_file_the_variable_or_the_command(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET)
    assert identities_from({}, file=file) == [identity()]
    other = {"RECONCILE_IDENTITY": identity(2).text, "RECONCILE_IDENTITY_COMMAND": f"cat {file}"}
    assert identities_from(other, file=file) == [identity()]
    assert identities_from(other) == [identity(2)]
    assert identities_from({"RECONCILE_IDENTITY_COMMAND": f"cat {file}"}) == [identity()]
    assert identities_from({}) == []


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"RECONCILE_IDENTITY": "hunter2"}, "has neither private keys nor the path"),
        ({"RECONCILE_IDENTITY": "hunter2\nhunter2"}, "has neither private keys nor the path"),
        ({"RECONCILE_IDENTITY": "hunter2" * 1000}, "has neither private keys nor the path"),
        ({"RECONCILE_IDENTITY": "/".join(["hunter2"] * 1000)}, "has neither private keys nor the path"),
        ({"RECONCILE_IDENTITY": SECRET[:-1]}, "line 1 has a wrong checksum"),
        ({"RECONCILE_IDENTITY_COMMAND": "/nowhere/hunter2"}, "cannot be run: no such file"),
        ({"RECONCILE_IDENTITY_COMMAND": "echo 'hunter2"}, "cannot be run: it is malformed"),
        ({"RECONCILE_IDENTITY_COMMAND": "echo hunter2"}, "line 1 is not a private key"),
        ({"RECONCILE_IDENTITY_COMMAND": "sh -c 'echo hunter2; exit 3'"}, "failed with exit status 3"),
    ],
)
def test_identity_that_cannot_be_used_is_refused_without_quoting_it(
    environ: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        identities_from(environ)
    words = f"{caught.value} {caught.value.hint}"
    assert "hunter2" not in words
    assert SECRET[20:40] not in words
