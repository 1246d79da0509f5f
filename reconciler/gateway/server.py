"""The server process: uvicorn on a socket of ours, stopped by SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import ReconcilerError, UsageError
from reconciler.gateway.admission import ServeLimits
from reconciler.gateway.doors.interface import Door
from reconciler.gateway.doors.open import DoorSettings
from reconciler.gateway.stores import Stores
from reconciler.net.multiaddr import multiaddr_of_url

_GRACE_SECONDS = 10  # for responses in progress when the process is stopped
_BACKLOG = 1024
_FILES = 65_536
_BODIES = ServeLimits().bodies
_UPSTREAM_BODIES = 32  # sent at once where many may wait for another machine


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The certificate chain and the private key of a server, in PEM; the key may be in the same file."""

    certificate: Path
    private_key: Path | None = None

    def check(self) -> None:
        """Raise UsageError when a server cannot use the files."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.private_key)
        except (OSError, ssl.SSLError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise UsageError(
                f"the certificate {str(self.certificate)!r} cannot be used: {reason}",
                hint="`serve` in the user's configuration names a certificate chain and its key, in PEM",
            ) from None


def parse_listen(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, with an IPv6 host in brackets; port 0 selects a free port. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{text!r} is not HOST:PORT", hint="write it like 127.0.0.1:8080 or [::1]:8080")
    return host, int(port)


def serve(
    directories: Sequence[Path],
    listen: tuple[str, int],
    announce: Sequence[str],
    *,
    ready: Callable[[str], None],
    log: Callable[[str], None],
    limits: ServeLimits | None = None,
    doors: DoorSettings | None = None,
    tls: TlsFiles | None = None,
) -> None:
    """Serve the stores at `directories` until a signal stops the process.

    At start, `ready` gets a line with the URL, and one for each door. `announce` are the URLs in provider
    records, by default the own URL. Raises ReconcilerError when starlette or uvicorn is missing or the
    address cannot be bound, UsageError, PeerError, and what reading an index raises.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError:
        raise ReconcilerError(
            "serving needs starlette and uvicorn", hint="pip install 'model-reconciler[serve]'"
        ) from None
    from reconciler.gateway.app import GatewayApp, application
    from reconciler.gateway.door_app import DoorApp
    from reconciler.gateway.protocol import DirectProtocol

    bounds = limits or ServeLimits(bodies=_UPSTREAM_BODIES if doors and doors.upstream else _BODIES)
    open_doors: list[Door] = []

    class Protocol(DirectProtocol):
        """The protocol with our limit; uvicorn creates one for each connection."""

        head_seconds = bounds.head_seconds

    class Server(uvicorn.Server):
        """A uvicorn server with our signal handling, which reports when it is ready.

        Overrides `capture_signals` and `startup`, and sets `should_exit` and `force_exit`. uvicorn documents
        none of them; tested with 0.30 to 0.54.
        """

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop)
            try:
                yield
            finally:
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.remove_signal_handler(number)

        def _stop(self) -> None:
            self.force_exit = self.should_exit  # the second signal stops at once
            self.should_exit = True

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(f"listening on {url}")
            for door in open_doors:
                ready(f"{door.name}: {door.usage(url)}")

    if tls:
        tls.check()
    view = doors.view(log) if doors else None
    stores = doors.stores(directories, view, log) if doors and view else Stores(directories)
    stores.refresh()
    _raise_file_limit()
    with _bind(*listen) as listener:
        url = _url(listener, "https" if tls else "http")
        addresses = [str(multiaddr_of_url(address)) for address in announce or (url,)]

        async def run() -> None:
            gateway = GatewayApp(stores, addresses, limits=bounds, log=log)
            errors = _ErrorHandler(log)
            logging.getLogger("uvicorn.error").addHandler(errors)
            app = application(gateway)
            closing: list[Callable[[], None]] = [gateway.close]
            if doors and view:
                opened = doors.open(view, gateway.reader)
                open_doors.extend(opened.doors)
                app = in_front = DoorApp(gateway, opened, app)
                closing += [opened.close, in_front.close]
            config = uvicorn.Config(
                app,
                loop="asyncio",
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                backlog=_BACKLOG,
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.private_key if tls else None,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
            try:
                await Server(config).serve(sockets=[listener])
            finally:
                logging.getLogger("uvicorn.error").removeHandler(errors)
                for close in closing:
                    close()

        asyncio.run(run())


def _raise_file_limit() -> None:
    """Raise the limit of open files: each connection is one, and the default of most systems is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        with suppress(OSError, ValueError):  # a system that refuses its own hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class _ErrorHandler(logging.Handler):
    """A log handler that writes an exception as one line.

    It drops uvicorn's messages about responses that were cut off on purpose.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log the exception of a record, if it has one."""
        if record.exc_info and record.exc_info[1] is not None:
            self._log(f"internal error: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}")


@contextmanager
def _bind(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that is bound to the address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio disables Nagle's algorithm only for a socket whose protocol is TCP; otherwise a response of
        # two writes waits 40 ms for the acknowledgement of the first.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise UsageError(f"cannot listen on {host!r}: {error.strerror}") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise ReconcilerError(
                f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}",
                hint="another program may use this port; choose another one",
            ) from None
        yield listener


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
