"""No user name, password or query value of a URL survives, and everything else of a text does."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import ReconcilerError, UsageError, Where
from reconciler.net.errors import RequestError, sanitize
from reconciler.redaction import HIDDEN, hide_secrets, shown_address

# characters of a password that people write into URLs although they should be encoded
PASSWORDS = st.text(
    st.sampled_from("abcXYZ019!\"#$%&'()*+,-./:;<=>?[\\]^_`{|}~"), min_size=1, max_size=20
).map(lambda text: f"k4tze{text}hund9")
SCHEMES = st.sampled_from(
    ["http", "https", "HTTPS", "socks5", "socks5h", "git+https", "git+ssh", "ssh", "s3", "wss", "file"]
)


@given(SCHEMES, PASSWORDS, st.sampled_from(["", "/a/b", "/repo@main", ":8080/x?y=z#w"]))
def test_a_password_is_hidden_whatever_it_consists_of(scheme: str, password: str, rest: str) -> None:
    for text in (
        f"{scheme}://user:{password}@host{rest}",
        f"error: '{scheme}://user:{password}@host{rest}' is wrong",
        f'{{"url":"{scheme}://user:{password}@host{rest}"}}',
    ):
        shown = hide_secrets(text)
        assert "k4tze" not in shown
        assert "hund9" not in shown
        assert hide_secrets(shown) == shown


@given(SCHEMES, st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=8, max_size=20))
def test_the_value_of_a_query_is_hidden_and_its_name_is_kept(scheme: str, token: str) -> None:
    shown = hide_secrets(f"get {scheme}://host/index.yaml?access_token={token}&x={token}, then stop")
    assert shown == f"get {scheme}://host/index.yaml?access_token={HIDDEN}&x={HIDDEN}, then stop"
    assert token not in hide_secrets(f"'{scheme}://host/?{token}'").replace(HIDDEN, "")


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5001",
        "https://host/ipfs/bafy (HTTP 404): not there",
        "git+https://host/repo.git@main#path=releases/index.yaml",
        "git+ssh://git@host/repo.git@v1",
        "http://[::1]:5001/a@b",
        "cannot be reached at http://127.0.0.1:5001: m@1.0.0",
        "m@1.0.0 on node",
        "hf:acme/My-LLM@2c1f",
        "is it https://host/x?",
        "/dns4/host/tcp/1/p2p/12D3",
        "https://host/page#L12",
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert hide_secrets(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("user:k4tze@host:5001", "[secret]@host:5001"),
        ("//user:k4tze@host", "//[secret]@host"),
        ("http:/user:k4tze@host", "http:/[secret]@host"),
        ("http:user:k4tze@host", "http:[secret]@host"),
        ("http:\\\\user:k4tze@host", "http:\\\\[secret]@host"),
        ("k4tze@host", "[secret]@host"),
        ("http://user:k4t/ze@host", "http://[secret]@host"),
        ("127.0.0.1:5001", "127.0.0.1:5001"),
    ],
)
def test_a_value_that_should_be_an_address_is_hidden_where_it_is_malformed_too(text: str, shown: str) -> None:
    assert shown_address(text) == shown


URL = "https://someone:k4tze@host/x?token=hund9"


@pytest.mark.parametrize("error", [UsageError, ReconcilerError])
def test_no_form_of_an_error_has_a_secret(error: type[ReconcilerError]) -> None:
    raised = error(f"cannot read {URL!r}", hint=f"try {URL}", where=Where(URL, 3))
    raised.__cause__ = RequestError("peer", f"redirects to {URL}")
    for text in (str(raised), repr(raised), str(raised.args), raised.message, raised.hint, str(raised.where)):
        assert "k4tze" not in str(text)
        assert "hund9" not in str(text)
        assert "host/x" in str(text)
    assert "hund9" not in repr(raised.__cause__)


def test_text_of_peers_and_the_log_of_the_http_library_have_none(caplog: pytest.LogCaptureFixture) -> None:
    assert "hund9" not in sanitize(f"see {URL}")
    with caplog.at_level(logging.INFO, "httpx"):
        import reconciler.net.transport  # noqa: F401  it installs the filter

        logging.getLogger("httpx").info('HTTP Request: %s %s "%s"', "GET", URL, 200)
    assert caplog.messages == [f'HTTP Request: GET https://{HIDDEN}@host/x?token={HIDDEN} "200"']


SECRET_KEY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
PEM_KEY = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nQUJD\n-----END OPENSSH PRIVATE KEY-----"
)


@pytest.mark.parametrize("key", [SECRET_KEY, SECRET_KEY.lower(), SECRET_KEY[:30], PEM_KEY, PEM_KEY[:60]])
def test_a_private_key_is_hidden_and_the_text_around_it_is_kept(key: str) -> None:
    assert hide_secrets(f"before '{key}' after") == f"before '{HIDDEN}' after"
