"""Secrets never print, and a secret that a peer echoes does not reach a message."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from urllib.parse import quote

import pytest

from reconciler.errors import UsageError
from reconciler.net.auth import Auth, Scheme, Secret, from_env
from reconciler.net.errors import sanitize

CANARY = 'canary+/7"x y=\\z'


def test_printing_a_secret_does_not_show_it() -> None:
    secret = Secret(CANARY)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>30}",
        " ".join(map(str, [secret])),
        repr([secret]),
    ]
    shown.append(repr(Auth(Scheme.BEARER, secret)))
    assert all(CANARY not in text and "canary" not in text for text in shown)
    assert secret.reveal() == CANARY


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_cannot_be_pickled_or_copied(leak: object) -> None:
    with pytest.raises(TypeError, match="pickled"):
        leak(Secret(CANARY))  # type: ignore[operator]


@pytest.mark.parametrize(
    "echo",
    [
        CANARY,
        quote(CANARY),
        quote(CANARY, safe=""),
        json.dumps(CANARY),
        base64.b64encode(CANARY.encode()).decode(),
        quote(base64.b64encode(CANARY.encode()).decode(), safe=""),
    ],
)
def test_an_echoed_secret_is_hidden_however_it_is_encoded(echo: str) -> None:
    said = sanitize(f"bad token <{echo}> given", [Secret(CANARY)])
    assert "canary" not in said
    assert "Y2FuYXJ5" not in said  # its beginning in base64


def test_both_halves_of_a_basic_secret_are_hidden() -> None:
    secret = Secret("operator:hunter22")
    header = Auth(Scheme.BASIC, secret).header()
    said = sanitize(f"no entry for operator with hunter22 ({header})", [secret])
    assert "operator" not in said
    assert "hunter22" not in said
    assert header.split()[1] not in said


def test_from_env_strips_a_line_end() -> None:
    assert from_env("TOKEN", {"TOKEN": " abc\n"}).reveal() == "abc"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "is not set"),
        ({"TOKEN": " \n"}, "is empty"),
        ({"TOKEN": "hush\nhush"}, "characters"),
        ({"TOKEN": "hüsh"}, "characters"),
    ],
)
def test_from_env_names_the_variable_and_never_its_value(environ: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        from_env("TOKEN", environ)
    assert "'TOKEN'" in caught.value.message
    assert "sh" not in caught.value.message.replace("TOKEN", "")


def test_a_basic_secret_needs_a_colon() -> None:
    with pytest.raises(UsageError, match="no colon") as caught:
        Auth(Scheme.BASIC, Secret("hunter22"))
    assert "hunter22" not in str(caught.value)


def test_sanitized_text_is_one_short_printable_line() -> None:
    said = sanitize("a\x1b[31mred\r\n\x00b\u202e" + "x" * 1000 + "the cause", limit=40)
    assert said.endswith("xthe cause")
    assert said.startswith("a [31mred b x")
    assert len(said) <= 40
    assert said.isprintable()
