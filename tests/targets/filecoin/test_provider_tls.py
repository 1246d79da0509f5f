"""A provider whose TLS is at fault gets nothing, and the error names the provider and the cause."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.interface import State
from tests.support.certificates import self_signed, server_context
from tests.support.http_peer import Said, http_peer
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import bundle

LABEL = Label("reconciler/acme/model@1.0.0")
DAY = dt.timedelta(days=1)


@contextmanager
def behind(file: Path) -> Iterator[str]:
    """A provider with the certificate in `file`, which fails when a request comes through."""

    def answer(_: object) -> Said:
        raise AssertionError("a request came through")

    with http_peer(answer, server_context(file)) as peer:
        yield peer.url


@contextmanager
def cut_off() -> Iterator[str]:
    """A peer that ends every connection when the handshake begins."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    with line:
                        line.recv(65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@contextmanager
def without_tls() -> Iterator[str]:
    """A peer that speaks HTTP where TLS is expected."""
    with http_peer(lambda _: Said()) as peer:
        yield peer.url.replace("http:", "https:")


def trusted(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return file


#: the peer, what the error says, and what the hint does
FAULTS: dict[str, tuple[Callable[..., object], str, str]] = {
    "self-signed": (
        lambda file, _: behind(self_signed(file)),
        "its certificate is refused: self-signed certificate",
        "SSL_CERT_FILE",
    ),
    "expired": (
        lambda file, patch: behind(trusted(self_signed(file, since=-9 * DAY, until=-DAY), patch)),
        "its certificate is refused: certificate has expired",
        "renew",
    ),
    "not valid yet": (
        lambda file, patch: behind(trusted(self_signed(file, since=DAY, until=9 * DAY), patch)),
        "its certificate is refused: certificate is not yet valid",
        "clock",
    ),
    "of another host": (
        lambda file, patch: behind(trusted(self_signed(file, host="127.0.0.9"), patch)),
        "its certificate is refused: IP address mismatch",
        "another host",
    ),
    "cut off": (lambda *_: cut_off(), "TLS: unexpected eof while reading", "speaks TLS"),
    "no TLS": (lambda *_: without_tls(), "(TLS: ", "speaks TLS"),
}


@pytest.fixture(params=FAULTS)
def fault(
    request: pytest.FixtureRequest, cloud: OnchainStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str]]:
    """Provider 1 has the fault; what the error and its hint say."""
    make, message, hint = FAULTS[request.param]
    with make(tmp_path / "provider.pem", monkeypatch) as url:  # type: ignore[attr-defined]
        assert cloud.lab.fake is not None
        cloud.lab.fake.contracts.providers[0]["url"] = url
        yield message, hint


def test_a_provider_without_sound_tls_gets_nothing_and_is_named(
    cloud: OnchainStorage, fault: tuple[str, str]
) -> None:
    message, hint = fault
    with pytest.raises(PeerError, match="no provider can take another copy") as caught:
        cloud.target(providers=[1]).publish(bundle("tls"), LABEL, QUIET)
    reason = caught.value.hint or ""
    assert "provider 1 (alpha): cannot be reached at https://127.0.0.1:" in reason
    assert message in reason
    assert "_ssl.c" not in reason
    assert cloud.payer.view().data_set_ids(cloud.payer.key.address) == ()
    (said,) = [each for each in cloud.target(providers=[1]).diagnose() if each.subject.startswith("provider")]
    assert (said.ok, message in said.text, hint in said.hint) == (False, True, True)


def test_another_provider_takes_its_place(cloud: OnchainStorage, fault: tuple[str, str]) -> None:
    assert cloud.target(providers=[1, 2]).publish(bundle("tls"), LABEL, QUIET).state is State.HELD
    assert len(cloud.providers[2].pieces) == 1
