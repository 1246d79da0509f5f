from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.content.age import message
from reconciler.content.age.errors import AgeError, NotForIdentityError
from reconciler.content.age.keys import Identity, Recipient, parse_identities, parse_recipient
from tests.support.seals import WITH_PASSPHRASE, identity

SIZES = [0, 1, 65_536, 65_537, 200_001]


def test_message_opens_for_each_of_its_recipients_and_no_other_identity() -> None:
    sealed = message.encrypt(b"secret", [identity(1).recipient, identity(2).recipient])
    assert message.decrypt(sealed, [identity(1)]) == b"secret"
    assert message.decrypt(sealed, [identity(3), identity(2)]) == b"secret"
    with pytest.raises(NotForIdentityError, match="sealed for other keys"):
        message.decrypt(sealed, [identity(3)])
    with pytest.raises(NotForIdentityError):
        message.decrypt(sealed, [])


def test_every_altered_character_of_a_message_is_refused() -> None:
    sealed = message.encrypt(b"secret", [identity().recipient])
    for at in range(len(sealed.rstrip())):
        altered = bytearray(sealed)
        altered[at] ^= 1
        with pytest.raises(AgeError):
            message.decrypt(bytes(altered), [identity()])


def test_every_cut_message_is_refused() -> None:
    sealed = message.encrypt(b"secret", [identity().recipient])
    for end in range(len(sealed.rstrip())):
        with pytest.raises(AgeError):
            message.decrypt(sealed[:end], [identity()])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Identity], list[Recipient]]:
    """Return files with private keys of age and of OpenSSH, and what we read in them."""
    home = tmp_path_factory.mktemp("keys")
    files = [home / "age", home / "ssh"]
    subprocess.run(["age-keygen", "-o", files[0]], check=True, capture_output=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", files[1]]
    subprocess.run(command, check=True)
    identities = [each for file in files for each in parse_identities(file.read_text())]
    public = subprocess.run(["age-keygen", "-y", files[0]], check=True, capture_output=True, text=True).stdout
    texts = [public, (home / "ssh.pub").read_text()]
    assert [each.recipient.text for each in identities] == [" ".join(text.split()[:2]) for text in texts]
    return files, identities, [parse_recipient(text) for text in texts]


@pytest.mark.age_cli
@pytest.mark.parametrize("size", SIZES)
def test_age_opens_our_messages_and_we_open_its(
    keys: tuple[list[Path], list[Identity], list[Recipient]], size: int
) -> None:
    files, identities, recipients = keys
    data = bytes(number % 251 for number in range(size))
    ours = message.encrypt(data, recipients)
    for file in files:
        opened = subprocess.run(["age", "-d", "-i", file], input=ours, check=True, capture_output=True)
        assert opened.stdout == data
    wanted = [flag for each in recipients for flag in ("-r", each.text)]
    for armor in ([], ["-a"]):
        theirs = subprocess.run(["age", *armor, *wanted], input=data, check=True, capture_output=True).stdout
        for each in identities:
            assert message.decrypt(theirs, [each]) == data


def test_rage_opens_our_messages_and_we_open_its() -> None:
    pyrage = pytest.importorskip("pyrage")
    theirs = pyrage.x25519.Identity.from_str(identity().text)
    for size in SIZES:
        data = bytes(size)
        assert pyrage.decrypt(message.encrypt(data, [identity().recipient]), [theirs]) == data
        assert message.decrypt(pyrage.encrypt(data, [theirs.to_public()]), [identity()]) == data


def test_message_with_a_passphrase_is_refused_in_words() -> None:
    with pytest.raises(AgeError, match="is encrypted with a passphrase"):
        message.decrypt(WITH_PASSPHRASE, [identity()])
