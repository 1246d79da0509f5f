"""Tokens by host, gateways that redirect localhost, and refusals by policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from reconciler.consume.gateway_source import GatewaySource
from reconciler.consume.host_tokens import auth_for
from reconciler.consume.open import Sources, open_sources
from reconciler.consume.remote_index import open_remote
from reconciler.consume.sources import SourcePool, TrackedSource
from reconciler.content.cid import RAW, hash_block
from reconciler.errors import BlockUnavailableError, InvalidIndexError, UsageError
from reconciler.index.user_config import load_config
from reconciler.net.errors import AccessDeniedError, RequestError, UnexpectedResponseError
from reconciler.net.retry import NO_RETRY
from reconciler.progress import QUIET
from tests.support.http_peer import Asked, HttpPeer, Said, http_peer

DATA = b"hello\n"
CID = hash_block(RAW, DATA)
Configure = Callable[[str], None]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TOKEN", "s3cret")
    file = tmp_path / "reconcile/config.yaml"
    file.parent.mkdir()
    return lambda text: file.write_text(text) and None


@pytest.fixture
def private() -> Iterator[HttpPeer]:
    def answer(asked: Asked) -> Said:
        good = asked.headers.get("authorization") == "Bearer s3cret"
        return Said(200, DATA) if good else Said(401, b"token needed")

    with http_peer(answer) as peer:
        yield peer


def token_for(url: str) -> str | None:
    found = auth_for(url)
    return None if found is None else found.header()


@pytest.mark.parametrize(
    ("config", "url", "sent"),
    [
        ("hosts: {models.example: {token_env: TOKEN}}", "https://models.example", True),
        ("hosts: {Models.Example: {token_env: TOKEN}}", "https://models.example/releases", True),
        ("hosts: {models.example: {token_env: TOKEN}}", "https://models.example:8443", False),
        ('hosts: {"models.example:8443": {token_env: TOKEN}}', "https://models.example:8443", True),
        ("hosts: {models.example: {token_env: TOKEN}}", "http://models.example", False),
        ("hosts: {models.example: {token_env: TOKEN}}", "https://evil.models.example", False),
        ("hosts: {models.example: {token_env: TOKEN}}", "https://models.example.evil", False),
        ('hosts: {"127.0.0.1:8080": {token_env: TOKEN}}', "http://127.0.0.1:8080", True),
        ('hosts: {"127.0.0.1:8080": {token_env: TOKEN}}', "http://127.0.0.1:8081", False),
        ("gateways: [{url: 'https://g.example/', token_env: TOKEN}]", "https://g.example", True),
        ("gateways: [{url: 'http://g.example', token_env: TOKEN}]", "http://g.example", True),
        ("gateways: [{url: 'https://g.example', token_env: TOKEN}]", "http://g.example", False),
        ("gateways: [{url: 'https://g.example', token_env: TOKEN}]", "https://h.example", False),
        ("kubo: [{url: 'https://n.example:5001', token_env: TOKEN}]", "https://n.example:5001", True),
        ("gateways: ['https://g.example']", "https://g.example", False),
        ("{}", "https://g.example", False),
        ("hosts: {models.example: {token_env: TOKEN}}", "not an address", False),
    ],
)
def test_a_token_goes_to_its_own_host_only(configure: Configure, config: str, url: str, sent: bool) -> None:
    configure(config + "\n")
    assert token_for(url) == ("Bearer s3cret" if sent else None)


@pytest.mark.parametrize(
    "config",
    [
        "hosts: {a.example: {}}",
        "hosts: {a.example: {token: s3cret}}",
        "gateways: [{token_env: TOKEN}]",
        "gateways: [{url: 'https://g.example', token_env: 'not a name'}]",
    ],
)
def test_an_invalid_configuration_is_an_error_with_its_line(
    configure: Configure, tmp_path: Path, config: str
) -> None:
    configure(config + "\n")
    with pytest.raises(InvalidIndexError, match=r"config\.yaml:1"):
        load_config(tmp_path / "reconcile/config.yaml")


def test_a_private_gateway_and_a_private_index_get_their_token(
    configure: Configure, private: HttpPeer, tmp_path: Path
) -> None:
    configure(f"gateways: [{{url: '{private.url}', token_env: TOKEN}}]\n")
    (source,) = open_sources(Sources(gateways=(private.url,)), CID, QUIET)
    with closing(source):
        assert source.read_block(CID, None) == DATA
    configure(f"hosts: {{'{private.url.removeprefix('http://')}': {{token_env: TOKEN}}}}\n")
    with pytest.raises(InvalidIndexError):  # it was read, and is not an index
        open_remote(f"{private.url}/index.yaml", tmp_path)


def test_a_missing_token_stops_only_the_source_that_needs_it(
    configure: Configure, private: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(f"gateways: [{{url: '{private.url}', token_env: GONE}}]\n")
    with pytest.raises(UsageError, match="'GONE' is not set"):
        open_sources(Sources(gateways=(private.url,)), CID, QUIET)
    opened = open_sources(Sources(gateways=(private.url, "http://127.0.0.1:1")), CID, QUIET)
    assert [source.name for source in opened] == ["http://127.0.0.1:1"]
    opened[0].close()


def test_a_token_does_not_follow_a_redirect(configure: Configure, private: HttpPeer) -> None:
    def answer(asked: Asked) -> Said:
        return Said(302, b"", {"Location": f"{private.url}{asked.target}"})

    with http_peer(answer) as moved:
        configure(f"gateways: [{{url: '{moved.url}', token_env: TOKEN}}]\n")
        (source,) = open_sources(Sources(gateways=(moved.url,)), CID, QUIET)
        with closing(source), pytest.raises(UnexpectedResponseError, match="redirects"):
            source.read_block(CID, None)
    assert private.asked == []


# --- localhost


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_gateway_that_redirects_localhost_is_asked_by_its_ip_address(status: int) -> None:
    def answer(asked: Asked) -> Said:
        host = asked.headers["host"]
        if host.startswith("localhost"):
            return Said(status, b"", {"Location": f"http://{CID}.ipfs.{host}/?format=raw"})
        return Said(200, DATA)

    with http_peer(answer) as peer:
        with closing(GatewaySource(peer.url.replace("127.0.0.1", "localhost"), retry=NO_RETRY)) as source:
            assert [source.read_block(CID, None) for _ in range(2)] == [DATA, DATA]
        hosts = [asked.headers["host"].partition(":")[0] for asked in peer.asked]
        assert hosts == ["localhost", "127.0.0.1", "127.0.0.1"]
        with closing(GatewaySource(peer.url, retry=NO_RETRY)) as source:
            assert source.read_block(CID, None) == DATA


def test_a_redirect_that_goes_on_is_an_error() -> None:
    with http_peer(lambda asked: Said(301, b"", {"Location": "http://elsewhere.example"})) as peer:
        for url in (peer.url, peer.url.replace("127.0.0.1", "localhost")):
            with (
                closing(GatewaySource(url, retry=NO_RETRY)) as source,
                pytest.raises(UnexpectedResponseError, match="not followed"),
            ):
                source.read_block(CID, None)
        assert len(peer.asked) == 3


# --- refusals


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, BlockUnavailableError, "does not have block"),
        (410, BlockUnavailableError, r"refuses block .* by its policy \(HTTP 410\)"),
        (451, BlockUnavailableError, r"refuses block .* by its policy \(HTTP 451\)"),
        (401, AccessDeniedError, r"denies access \(HTTP 401\)"),
        (403, AccessDeniedError, r"denies access \(HTTP 403\)"),
        (400, RequestError, r"HTTP 400"),
    ],
)
def test_a_refusal_is_told_apart_from_a_missing_block(
    status: int, error: type[Exception], message: str
) -> None:
    with (
        http_peer(lambda asked: Said(status, b"why")) as peer,
        closing(GatewaySource(peer.url, retry=NO_RETRY)) as source,
        pytest.raises(error, match=message) as caught,
    ):
        source.read_block(CID, None)
    if status in (401, 403):
        assert "hosts" in (getattr(caught.value, "hint", None) or "")


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ((404,), "the source does not have block"),
        ((410,), "the source refuses block"),
        ((451,), "the source refuses block"),
        ((401,), "the source refuses block"),
        ((403,), "the source refuses block"),
        ((500,), "the source did not deliver block"),
        ((404, 404), "none of 2 sources has block"),
        ((404, 500), "none of 2 sources delivered block"),
        ((404, 451), "none of 2 sources has or serves block"),
        ((403, 410), "all 2 sources refuse block"),
    ],
)
def test_the_summary_says_whether_sources_lack_or_refuse_a_block(
    statuses: tuple[int, ...], message: str
) -> None:
    with ExitStack() as stack:
        peers = [
            stack.enter_context(http_peer(lambda asked, status=status: Said(status, b"why")))
            for status in statuses
        ]
        pool = SourcePool([TrackedSource(GatewaySource(peer.url, retry=NO_RETRY)) for peer in peers])
        stack.callback(pool.close)
        with pytest.raises(BlockUnavailableError, match=message) as caught:
            pool.read_block(CID)
    assert all(peer.url in (caught.value.hint or "") for peer in peers)


def test_a_block_that_is_refused_after_another_was_missing_is_reported_as_refused() -> None:
    answers = iter((404, 451))
    with http_peer(lambda asked: Said(next(answers), b"")) as peer:
        pool = SourcePool([TrackedSource(GatewaySource(peer.url, retry=NO_RETRY))])
        with closing(pool):
            for message in ("does not have", "refuses"):
                with pytest.raises(BlockUnavailableError, match=message) as caught:
                    pool.read_block(CID)
    assert "by its policy (HTTP 451)" in (caught.value.hint or "")
