"""HTTP requests with time limits, retries and bounded bodies; every failure is a RequestError."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from reconciler.net.address import parse_address
from reconciler.net.auth import Auth, Secret
from reconciler.net.deadline import Timeouts, deadline, deadline_at
from reconciler.net.errors import (
    RequestError,
    ResponseTooLargeError,
    RetryLaterError,
    TransientError,
    UnexpectedResponseError,
)
from reconciler.net.response import (
    CountedUpload,
    OpenBody,
    Response,
    Stream,
    UploadBody,
    error_for_status,
)
from reconciler.net.retry import LONGEST_PAUSE, NO_RETRY, RetryBudget, RetryPolicy
from reconciler.net.transport import OpenResponse, Session, Transport
from reconciler.redaction import hide_secrets
from reconciler.version import __version__

__all__ = ["BODY_LIMIT", "HttpClient", "Params", "Stream", "Timeouts", "Transport"]

Params = Sequence[tuple[str, str]]  #: query parameters; one name may occur several times

BODY_LIMIT = 64 << 20  #: bytes of a response that is read whole, by default
_ERROR_LIMIT = 64 << 10  # bytes of an error response; the rest is not read
_PROBES = 2  # requests that are made to measure the latency
_PROBE_SECONDS = 5.0
_SLOWEST = 64 << 10  # bytes per second; an upload that is slower than this fails

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Call:
    """One request as its caller described it; it can be sent several times."""

    method: str
    path: str
    params: Params
    headers: Mapping[str, str]
    expect: Collection[int]
    silence: float | None
    json: object = None
    content: bytes | UploadBody | None = None


class HttpClient:
    """One peer at one base URL. Usable from several threads.

    `name` is the peer's name for the user; every error message begins with it. `on_retry` gets one line for
    each pause. A call with `repeatable` may reach the peer more than once; every other call is sent again
    only when certainly nothing of it reached the peer, or when the peer asked for a pause instead of
    executing it. `is_command_error` recognizes the error responses of a peer that executed the command and
    failed: these raise RejectedError and are not sent again, even where the peer uses the same status for
    failures of its own. `public_only` refuses to connect to addresses of this machine and of private
    networks, for base URLs that the user did not give.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str,
        auth: Auth | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        budget: RetryBudget | None = None,
        transport: Transport | None = None,
        sleep: Callable[[float], None] | None = None,
        on_retry: Callable[[str], None] | None = None,
        is_command_error: Callable[[Response], bool] | None = None,
        public_only: bool = False,
    ) -> None:
        self.name = name = hide_secrets(name)  # it may be an address
        self.address = parse_address(base_url, f"the address of {name}")
        self.secrets: tuple[Secret, ...] = () if auth is None else (auth.secret,)
        self.timeouts = timeouts or Timeouts()
        self.latency = 0.0  #: seconds of the fastest request without an upload so far; 0: none was made
        self._probes = _PROBES
        self._retry = retry or RetryPolicy()
        self._budget = budget or RetryBudget()
        self._closed = Event()
        self._sleep = sleep or self.pause
        self.on_retry = on_retry
        self._is_command_error = is_command_error
        headers = {"User-Agent": f"reconciler/{__version__}", "Accept-Encoding": "identity"}
        if auth is not None:
            headers["Authorization"] = auth.header()
        self._session = Session(
            self.address,
            name=name,
            secrets=self.secrets,
            headers=headers,
            public_only=public_only,
            transport=transport,
        )
        self._budget.share(self)

    def close(self) -> None:
        """Close all connections, end pauses, and refuse new requests. May be called twice."""
        self._closed.set()
        self._session.close()

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, at most until the client is closed."""
        self._closed.wait(seconds)

    def interrupt(self) -> None:
        """End the requests of all threads, which raise TransientError; new ones can be made."""
        self._session.interrupt()

    def apart(self) -> HttpClient:
        """Return a client of the same peer with connections of its own, which the caller closes.

        It shares the retry budget, and ends with the run. Interrupting one of them does not end the requests
        of the other.
        """
        other = copy(self)
        other._session = self._session.apart()  # noqa: SLF001  it is of this class
        other._closed = Event()  # noqa: SLF001
        self._budget.share(other)
        return other

    def probe_latency(self) -> float:
        """Return `latency`, once after a few more requests, which give the peer next to nothing to do.

        The first requests may take long because of the peer's own work. What it answers does not matter.
        """
        while self._probes > 0:
            self._probes -= 1
            with suppress(RequestError):
                self.request("GET", "", repeatable=True, retry=NO_RETRY, total=_PROBE_SECONDS)
        return self.latency

    def request(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool,
        params: Params = (),
        json: object = None,
        content: bytes | UploadBody | None = None,
        headers: Mapping[str, str] | None = None,
        expect: Collection[int] = (200,),
        limit: int = BODY_LIMIT,
        silence: float | None = None,
        total: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> Response:
        """Send a request and return its response, read to the end.

        Statuses other than `expect` raise. `limit` is the longest body in bytes. `silence` and `total`
        replace the client's time limits, in seconds, `retry` its policy; an upload gets time for its size in
        addition. Raises RequestError, and whatever an UploadBody raises while it makes its pieces.
        """
        call = _Call(method, path, params, headers or {}, expect, silence, json, content)
        seconds = self.timeouts.total if total is None else total
        if isinstance(content, UploadBody):
            seconds += content.size / _SLOWEST

        def once() -> Response:
            with deadline(seconds):
                response = self._send(call)
                try:
                    body = b"".join(self._pieces(response, limit))
                finally:
                    response.close()
            return Response(self.name, response.status, response.headers, body, self.secrets)

        return self._with_retries(once, repeatable=repeatable, policy=retry)

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool,
        params: Params = (),
        headers: Mapping[str, str] | None = None,
        expect: Collection[int] = (200,),
        silence: float | None = None,
        total: float | None = None,
    ) -> Iterator[Stream]:
        """Send a request and yield its response while the body arrives, within `total` seconds altogether.

        Only the opening is retried; when the body breaks off, the caller has to start again. Raises
        RequestError.
        """
        call = _Call(method, path, params, headers or {}, expect, silence)
        seconds = self.timeouts.total if total is None else total

        def once() -> OpenResponse:
            with deadline(seconds):
                return self._send(call)

        response = self._with_retries(once, repeatable=repeatable)
        try:
            with deadline(seconds):
                yield Stream(response.status, response.headers, lambda limit: self._pieces(response, limit))
        finally:
            response.close()

    def open(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool,
        headers: Mapping[str, str] | None = None,
        expect: Collection[int] = (200,),
        body_seconds: Callable[[Mapping[str, str]], float] | None = None,
        retry: RetryPolicy | None = None,
    ) -> OpenBody:
        """Send a request and return its response, whose body the caller reads when it wants, and closes.

        Like `stream`, but the time limit applies only inside of reads: other requests of the thread are not
        affected while the body is open, so that a generator may hold it. `body_seconds` returns how long a
        body with these headers may take beyond the limit. `retry` replaces the client's policy.
        """
        until = time.monotonic() + self.timeouts.total
        call = _Call(method, path, (), headers or {}, expect, None)

        def once() -> OpenResponse:
            with deadline_at(until):
                return self._send(call)

        response = self._with_retries(once, repeatable=repeatable, policy=retry)
        if body_seconds is not None:
            until += body_seconds(response.headers)

        def receive_into(memory: memoryview) -> int:
            self._require_plain(response)
            with deadline_at(until):
                return response.receive_into(memory)

        def pieces(limit: int) -> Iterator[bytes]:
            arriving = self._pieces(response, limit)
            while True:
                with deadline_at(until):
                    piece = next(arriving, None)
                if piece is None:
                    return
                yield piece

        return OpenBody(response.status, response.headers, pieces, response.close, receive_into)

    def _send(self, call: _Call) -> OpenResponse:
        """Send `call` once and return the open response. Raises RequestError, also for other statuses."""
        headers = dict(call.headers)
        upload = None
        if isinstance(call.content, UploadBody):
            upload = CountedUpload(call.content)
            headers |= {"Content-Length": str(call.content.size), "Content-Type": call.content.content_type}
        began = time.monotonic()
        response = self._session.send(
            call.method,
            call.path,
            params=call.params,
            headers=headers,
            json=call.json,
            content=call.content if isinstance(call.content, bytes) else upload,
            silence=call.silence or self.timeouts.silence,
            connect=self.timeouts.connect,
        )
        if upload is None:
            taken = time.monotonic() - began
            self.latency = min(self.latency or taken, taken)
        try:
            if response.status == 407 and (denial := self._session.proxy_denial()) is not None:
                raise denial
            if response.status not in call.expect:
                body = response.first_bytes(_ERROR_LIMIT)
                answer = Response(self.name, response.status, response.headers, body, self.secrets)
                executed = self._is_command_error is not None and self._is_command_error(answer)
                raise error_for_status(answer, is_command_error=executed)
            if upload is not None and 200 <= response.status < 300 and not upload.complete:
                raise TransientError(
                    self.name, "answered before it had received the whole request", status=response.status
                )
        except BaseException:
            response.close()
            raise
        return response

    def _pieces(self, response: OpenResponse, limit: int) -> Iterator[bytes]:
        """Iterate over the body as it arrives, never decoded. Raises RequestError beyond `limit` bytes."""
        self._require_plain(response)
        length = 0
        for piece in response.pieces():
            length += len(piece)
            if length > limit:
                raise ResponseTooLargeError(self.name, f"answered with more than {limit} bytes")
            yield piece

    def _require_plain(self, response: OpenResponse) -> None:
        if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            hint = "something in between, such as a proxy, compresses its responses"
            raise UnexpectedResponseError(
                self.name, "answered in an encoding that was not requested", hint=hint
            )

    def _with_retries(
        self, once: Callable[[], _Result], *, repeatable: bool, policy: RetryPolicy | None = None
    ) -> _Result:
        """Call `once`; repeat it after a failure while the call, the policy and the budget allow it."""
        policy = policy or self._retry
        attempt = 1
        while True:
            try:
                return once()
            except RequestError as error:
                pause = self._pause(error, attempt, policy, repeatable=repeatable)
                if pause is None:
                    raise
            self._sleep(pause)
            attempt += 1

    def pause_after(self, error: RequestError, attempt: int) -> float | None:
        """Return the seconds until a repeatable call of attempt number `attempt` should be sent again.

        None when it should not: the error is permanent, or there were enough attempts. For callers that keep
        their own account of attempts, and call `request` with NO_RETRY.
        """
        return self._pause(error, attempt, self._retry, repeatable=True)

    def _pause(
        self, error: RequestError, attempt: int, policy: RetryPolicy, *, repeatable: bool
    ) -> float | None:
        """Return the seconds until the call that failed with `error` is sent again; None when it is not."""
        if self._closed.is_set():
            return None
        if error.peer != self.name or not error.may_retry or attempt >= policy.attempts:
            return None  # another peer's error: the source of our upload, which has retried by itself
        not_executed = isinstance(error, RetryLaterError) or (
            isinstance(error, TransientError) and not error.reached
        )
        if not (repeatable or not_executed):
            return None
        pause = policy.pause(attempt)
        if isinstance(error, RetryLaterError) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        if pause > LONGEST_PAUSE or not self._budget.take(pause):
            return None
        if self.on_retry is not None:
            self.on_retry(f"{error.message}; retrying in {pause:.1f} s")
        return pause
