from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.age import bech32
from reconciler.content.age.errors import AgeKeyError
from reconciler.content.age.keys import AgeIdentity, parse_identities, parse_recipient, parse_recipients
from tests.support.seals import identity

SECRET = identity().text
PUBLIC = identity().recipient.text
OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEl+hb9KMeuxGSGl2ctwG8aVxoBeF4yM0gXkW0NUWqVC"


@given(st.binary(max_size=64))
def test_bech32_is_read_back(data: bytes) -> None:
    assert bech32.decode(bech32.encode("age", data)) == ("age", data)
    assert bech32.decode(bech32.encode("age", data).upper()) == ("age", data)


def test_keys_are_spelled_as_age_spells_them() -> None:
    # from the documentation of age and of BIP 173
    text = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
    (found,) = parse_identities(text)
    assert found == AgeIdentity(b"B" * 32)
    assert isinstance(found, AgeIdentity)
    assert found.text == text
    assert found.recipient.text == "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"


@pytest.mark.parametrize("text", [PUBLIC, SSH])
def test_recipient_is_read_back(text: str) -> None:
    assert parse_recipient(f"{text} somebody" if text == SSH else text).text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a recipient is empty"),
        ("bob", "is of no supported kind"),
        (PUBLIC[:-1] + "q", "has a wrong checksum"),
        (PUBLIC[:-3], "has a wrong checksum"),
        (PUBLIC.replace("age1", "age1b"), "has a character that Bech32 does not have"),
        (PUBLIC[:10] + PUBLIC[10:].upper(), "mixes upper and lower case"),
        (bech32.encode("age", b"short"), "is of no supported kind"),
        (bech32.encode("agf", bytes(32)), "is of no supported kind"),
        ("age1pq1" + "q" * 60, "has a wrong checksum"),
        ("ssh-rsa AAAAB3NzaC1yc2E=", "is of no supported kind"),
        ("ssh-ed25519", "is not an ssh-ed25519 key"),
        ("ssh-ed25519 %%%%", "is not an ssh-ed25519 key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEl+hb9K", "is not an ssh-ed25519 key"),
        (SECRET, "a recipient is a private key"),
        (SECRET.lower(), "a recipient is a private key"),
    ],
)
def test_what_is_no_recipient_is_refused(text: str, message: str) -> None:
    with pytest.raises(AgeKeyError, match=message) as caught:
        parse_recipient(text)
    assert SECRET.lower() not in str(caught.value).lower()


def test_recipients_of_a_file_are_read_with_comments_and_refused_with_their_line() -> None:
    text = f"# readers\n\n{PUBLIC}\n{SSH} alice@host\n"
    assert [each.text for each in parse_recipients(text)] == [PUBLIC, SSH]
    with pytest.raises(AgeKeyError, match=r"^line 5 is not a public key of a supported kind$"):
        list(parse_recipients(f"{text}bob\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no private key"),
        ("# only a comment\n", "there is no private key"),
        ("hunter2-is-the-password", "line 1 is not a private key"),
        (SECRET[:-1] + "Q", "line 1 has a wrong checksum"),
        (SECRET[:30] + SECRET[30:].lower(), "line 1 mixes upper and lower case"),
        ("\n" + SECRET[:-9], "line 2 has a wrong checksum"),
        (bech32.encode("age-secret-key-", b"short").upper(), "line 1 has 5 bytes, not 32"),
        ("AGE-PLUGIN-YUBIKEY-1QQQQ", "line 1 is of a kind that is not supported"),
        ("AGE-SECRET-KEY-PQ-1QQQQ", "line 1 is of a kind that is not supported"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
            "line 1 cannot be read",
        ),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", "line 1 cannot be read"),
    ],
)
def test_what_is_no_identity_is_refused_without_quoting_it(text: str, message: str) -> None:
    with pytest.raises(AgeKeyError, match=message) as caught:
        parse_identities(text)
    words = f"{caught.value} {caught.value.hint}"
    assert not any(line[17:60] in words for line in text.split("\n") if len(line) > 20)
    assert "hunter2" not in words


def test_identity_is_not_in_its_printed_form() -> None:
    found = identity()
    assert "x01" not in repr(found)
    assert found.text not in repr(found)
