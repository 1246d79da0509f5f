"""HTTP requests with time limits, retries and bounded bodies; every failure is one of `outcomes`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpcore
import httpx

from reconciler.net.address import parse_address
from reconciler.net.auth import Auth, Secret
from reconciler.net.deadline import DeadlineExceededError, Timeouts, body_of, deadline, hold, remaining
from reconciler.net.errors import (
    RequestError,
    ResponseTooLargeError,
    RetryLaterError,
    TransientError,
    UnexpectedResponseError,
    sanitize,
)
from reconciler.net.response import Counted, Response, Stream, UploadBody, error_for_status
from reconciler.net.retry import LONGEST_PAUSE, RetryBudget, RetryPolicy
from reconciler.version import __version__

__all__ = ["BODY_LIMIT", "HttpClient", "Params", "Stream", "Timeouts"]

Params = Sequence[tuple[str, str]]  #: query parameters; one name may come several times

BODY_LIMIT = 64 << 20  #: bytes of an answer that is read whole, unless its caller says otherwise
_ERROR_LIMIT = 64 << 10  # bytes of an error answer; the rest is not read
_SLOWEST = 64 << 10  # bytes a second; an upload that is slower than this ends

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Call:
    """One request as its caller described it; it can be built, and sent, several times."""

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

    `name` is how users know the peer; it begins every error. `on_retry` gets one line for each pause. A call
    with `repeatable` may reach the peer more than once; every other call is sent again only when certainly
    nothing of it got there, or when the peer asked for a pause instead of doing it. `is_command_error`
    recognizes the error answers of a peer that executed the command and failed: these raise RejectedError and
    are not sent again, even where the peer uses the same status for failures of its own. `public_only`
    refuses to connect to addresses of this machine and of private networks, for base URLs that the user did
    not give.
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
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        on_retry: Callable[[str], None] | None = None,
        is_command_error: Callable[[Response], bool] | None = None,
        public_only: bool = False,
    ) -> None:
        self.name = name
        self.address = parse_address(base_url, f"the address of {name}")
        self.secrets: tuple[Secret, ...] = () if auth is None else (auth.secret,)
        self.timeouts = timeouts or Timeouts()
        self._retry = retry or RetryPolicy()
        self._budget = budget or RetryBudget()
        self._sleep = sleep
        self.on_retry = on_retry
        self._is_command_error = is_command_error
        headers = {"User-Agent": f"reconciler/{__version__}", "Accept-Encoding": "identity"}
        if auth is not None:
            headers["Authorization"] = auth.header()
        self._http = httpx.Client(
            headers=headers,
            follow_redirects=False,
            trust_env=not (
                self.address.loopback or public_only
            ),  # no proxy has business between us and this machine
            transport=transport,
        )
        hold(self._http, public_only=public_only)

    def close(self) -> None:
        """Close all connections. May be called twice."""
        self._http.close()

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
    ) -> Response:
        """Send a request and read the whole answer.

        `expect` are the statuses that are answers; others raise. `limit` is bytes of the answer; `silence`
        and `total` replace the client's time limits, in seconds; an upload gets time for its size on top.
        Raises RequestError, and whatever an UploadBody raises while its pieces are made.
        """
        call = _Call(method, path, params, headers or {}, expect, silence, json, content)
        seconds = self.timeouts.total if total is None else total
        if isinstance(content, UploadBody):
            seconds += content.size / _SLOWEST

        def once() -> Response:
            with self._outcomes(), deadline(seconds):
                response = self._send(call)
                try:
                    body = b"".join(self._pieces(response, limit))
                finally:
                    response.close()
            return Response(self.name, response.status_code, _lower(response.headers), body, self.secrets)

        return self._again(once, repeatable=repeatable)

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
        """Send a request and hand out its answer while it comes; `total` seconds are for all of it.

        Only the opening is tried again; when it breaks off later, the caller has to begin anew. Raises
        RequestError.
        """
        call = _Call(method, path, params, headers or {}, expect, silence)
        seconds = self.timeouts.total if total is None else total

        def once() -> httpx.Response:
            with self._outcomes(), deadline(seconds):
                return self._send(call)

        response = self._again(once, repeatable=repeatable)

        def pieces(limit: int) -> Iterator[bytes]:
            with self._outcomes():
                yield from self._pieces(response, limit)

        try:
            with deadline(seconds):
                yield Stream(response.status_code, _lower(response.headers), pieces)
        finally:
            response.close()

    def _send(self, call: _Call) -> httpx.Response:
        """The answer to `call`, still to be read and closed; raises the error for an unexpected status."""
        upload = Counted(call.content) if isinstance(call.content, UploadBody) else None
        response = self._http.send(self._build(call, upload), stream=True)
        try:
            if response.status_code not in call.expect:
                answer = self._error(response)
                executed = self._is_command_error is not None and self._is_command_error(answer)
                raise error_for_status(answer, is_command_error=executed)
            if upload is not None and response.is_success and not upload.complete:
                raise TransientError(
                    self.name, "answered before it had read everything", status=response.status_code
                )
        except BaseException:
            response.close()
            raise
        return response

    def _build(self, call: _Call, upload: Counted | None) -> httpx.Request:
        headers = dict(call.headers)
        content: bytes | Counted | None = call.content if isinstance(call.content, bytes) else upload
        if isinstance(call.content, UploadBody):
            headers |= {"Content-Length": str(call.content.size), "Content-Type": call.content.content_type}
        return self._http.build_request(
            call.method,
            self.address.join(call.path),
            params=httpx.QueryParams(list(call.params)) if call.params else None,
            json=call.json,
            content=content,
            headers=headers,
            timeout=httpx.Timeout(call.silence or self.timeouts.silence, connect=self.timeouts.connect),
        )

    def _pieces(self, response: httpx.Response, limit: int) -> Iterator[bytes]:
        """The body as it comes, at most `limit` bytes and never decoded."""
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            hint = "something in between, such as a proxy, compresses its answers"
            raise UnexpectedResponseError(
                self.name, "answered in an encoding that was not asked for", hint=hint
            )
        length = 0
        for piece in body_of(response):
            remaining()
            length += len(piece)
            if length > limit:
                raise ResponseTooLargeError(self.name, f"answered with more than {limit} bytes")
            yield piece

    def _error(self, response: httpx.Response) -> Response:
        """An answer that nobody expected: its first bytes, for their wording."""
        body = bytearray()
        try:
            for piece in response.iter_raw():
                remaining()
                body += piece
                if len(body) >= _ERROR_LIMIT:
                    break
        except httpx.TransportError:
            pass  # the status says enough
        return Response(
            self.name,
            response.status_code,
            _lower(response.headers),
            bytes(body[:_ERROR_LIMIT]),
            self.secrets,
        )

    @contextmanager
    def _outcomes(self) -> Iterator[None]:
        """Turn what goes wrong on the way into outcomes."""
        try:
            yield
        except DeadlineExceededError:
            raise TransientError(self.name, "took too long altogether", timed_out=True) from None
        except httpx.ConnectTimeout:
            raise self._unreachable("no answer in time", timed_out=True) from None
        except httpx.ConnectError as error:
            raise self._unreachable(self._cause(error)) from None
        except httpx.WriteTimeout:
            hint = "something in the peer is stuck; restart it and run again"
            raise UnexpectedResponseError(self.name, "takes no more bytes", hint=hint) from None
        except (httpx.TimeoutException, httpcore.TimeoutException):
            raise TransientError(self.name, "was silent for too long", timed_out=True) from None
        except (httpx.TransportError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise TransientError(self.name, f"the connection broke ({self._cause(error)})") from None

    def _unreachable(self, why: str, *, timed_out: bool = False) -> TransientError:
        hint = f"is it running, and is {self.address.text} its address?"
        message = f"cannot be reached at {self.address.text} ({why})"
        return TransientError(self.name, message, hint=hint, reached=False, timed_out=timed_out)

    def _cause(self, error: BaseException) -> str:
        """The innermost wording, which says what the system said."""
        while error.__context__ is not None:
            error = error.__context__
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return sanitize(text, self.secrets) or type(error).__name__

    def _again(self, once: Callable[[], _Result], *, repeatable: bool) -> _Result:
        """Call `once` until it works, may not be repeated, or the policy or the budget is at its end."""
        attempt = 1
        while True:
            try:
                return once()
            except RequestError as error:
                pause = self._pause(error, attempt, repeatable=repeatable)
                if pause is None:
                    raise
                if self.on_retry is not None:
                    self.on_retry(f"{error.message}; asking again in {pause:.1f} s")
            self._sleep(pause)
            attempt += 1

    def _pause(self, error: RequestError, attempt: int, *, repeatable: bool) -> float | None:
        """Seconds until the call that ended with `error` is sent again, or None when it is not."""
        if error.peer != self.name or not error.may_retry or attempt >= self._retry.attempts:
            return None  # another peer's error: the one our upload reads from, which has tried again itself
        untouched = isinstance(error, RetryLaterError) or (
            isinstance(error, TransientError) and not error.reached
        )
        if not (repeatable or untouched):
            return None
        pause = self._retry.pause(attempt)
        if isinstance(error, RetryLaterError) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        return pause if pause <= LONGEST_PAUSE and self._budget.take(pause) else None


def _lower(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
