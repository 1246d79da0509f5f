"""Calls to the REST API of a forge: pacing of writes, retries, and the classification of errors.

Retries happen here and not in `HttpClient`, which is created without them: only the classifier of the forge
can distinguish a rate limit from a missing permission (both are 403 on GitHub), and each attempt to write
must keep the pause after the write before it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from reconciler.forges.interface import Clock
from reconciler.json_fields import JsonFields
from reconciler.net.auth import Auth, Scheme, Secret
from reconciler.net.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    RejectedError,
    RequestError,
    RetryLaterError,
    TransientError,
    UnexpectedResponseError,
    sanitize,
)
from reconciler.net.retry import LONGEST_PAUSE, NO_RETRY, RetryPolicy, retry_after
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    from reconciler.net.client import Params
    from reconciler.net.response import Response
    from reconciler.net.transport import Transport

Classify = Callable[["Response", str], RequestError]  #: makes the error for a response and a description

_ANY_STATUS = range(200, 600)
_RATE_LIMIT_PAUSE = 60.0  # seconds before the first retry when a rate limit names no time
_RETRY = RetryPolicy()
_MAX_PAGES = 20


class RestApi:
    """The API of one forge at `url`.

    Writes are serial; each begins at least `write_gap` seconds after the end of the one before. `doing` of a
    call describes its purpose and follows "while" in errors, such as "reading the branch 'main'".
    """

    def __init__(
        self,
        name: str,
        url: str,
        token: Secret,
        classify: Classify,
        *,
        headers: Mapping[str, str] = {},
        clock: Clock = Clock(),  # noqa: B008 - frozen
        write_gap: float = 0.0,
        transport: Transport | None = None,
        progress: Progress = QUIET,
    ) -> None:
        from reconciler.net.client import HttpClient

        auth = Auth(Scheme.BEARER, token)
        self.name = name
        self.clock = clock
        self._http = HttpClient(url, name=name, auth=auth, retry=NO_RETRY, transport=transport)
        self._classify = classify
        self._headers = headers
        self._write_gap = write_gap
        self._progress = progress
        self._last_write: float | None = None

    def close(self) -> None:
        """Release connections. May be called twice."""
        self._http.close()

    def read(self, path: str, *, doing: str, params: Params = ()) -> JsonFields:
        """GET a resource. Raises RequestError, NotFoundError when it does not exist."""
        return self.fields(self.send("GET", path, doing=doing, params=params, repeatable=True))

    def find(self, path: str, *, doing: str, params: Params = ()) -> JsonFields | None:
        """GET a resource; None when it does not exist (404). Raises RequestError."""
        response = self.send("GET", path, doing=doing, params=params, repeatable=True, accept=(404,))
        return None if response.status == 404 else self.fields(response)

    def read_pages(
        self, path: str, *, doing: str, params: Params = (), limit: tuple[str, int] = ("per_page", 100)
    ) -> Iterator[JsonFields]:
        """Iterate over the items of a paged list, at most 20 pages; `limit` is the parameter for its length.

        Raises RequestError during the iteration.
        """
        name, size = limit
        for page in range(1, _MAX_PAGES + 1):
            paged = [*params, (name, str(size)), ("page", str(page))]
            items = list(self.read(path, doing=doing, params=paged).items())
            yield from items
            if len(items) < size:
                return

    def write(self, method: str, path: str, json: object, *, doing: str, repeatable: bool) -> JsonFields:
        """Send a change. Without `repeatable` it is not sent again after a failure that may hide a success.

        Raises RequestError; a TransientError with `reached` when the change may have been carried out.
        """
        return self.fields(self.send(method, path, json=json, doing=doing, repeatable=repeatable))

    def send(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        repeatable: bool,
        json: object = None,
        params: Params = (),
        accept: Collection[int] = (),
    ) -> Response:
        """Send a request; statuses in `accept` are returned like those below 300. Raises RequestError."""
        attempt = 1
        while True:
            try:
                response = self._once(method, path, json, params)
                if response.status < 300 or response.status in accept:
                    return response
                error = self._classify(response, doing)
            except RequestError as failure:
                error = failure
            pause = self._pause(error, attempt, repeatable=repeatable)
            if pause is None:
                raise error
            self._progress.note(f"{error.message}; retrying in {pause:.0f} s")
            self.clock.sleep(pause)
            attempt += 1

    def fields(self, response: Response) -> JsonFields:
        """Return the JSON body of a response, null when it is empty.

        The methods of the result raise UnexpectedResponseError.
        """
        return JsonFields(response.json() if response.body else None, self._unexpected)

    def _unexpected(self, message: str) -> UnexpectedResponseError:
        hint = "check that this is the address of the forge's API"
        return UnexpectedResponseError(self.name, f"unexpected response: {message}", hint=hint)

    def _once(self, method: str, path: str, json: object, params: Params) -> Response:
        writes = method != "GET"
        if writes and self._last_write is not None:
            wait = self._last_write + self._write_gap - self.clock.monotonic()
            if wait > 0:
                self.clock.sleep(wait)
        try:
            return self._http.request(
                method,
                path,
                repeatable=False,
                json=json,
                params=params,
                headers=self._headers,
                expect=_ANY_STATUS,
            )
        finally:
            if writes:
                self._last_write = self.clock.monotonic()

    def _pause(self, error: RequestError, attempt: int, *, repeatable: bool) -> float | None:
        """Return the seconds until the next attempt; None when there is none."""
        if attempt >= _RETRY.attempts or not error.may_retry:
            return None
        pause = _RETRY.pause(attempt)
        if isinstance(error, RetryLaterError):  # the forge did not carry the request out
            limited = (
                _RATE_LIMIT_PAUSE * 2 ** (attempt - 1) if error.retry_after is None else error.retry_after
            )
            pause = max(pause, limited)
        elif isinstance(error, TransientError) and error.reached and not repeatable:
            return None
        return pause if pause <= LONGEST_PAUSE else None


class ErrorClassifier:
    """A function that makes the error for a response of one forge, with advice for the user.

    The methods below `__call__` are what GitLab and Gitea have in common; a subclass replaces those in which
    its forge differs. `permissions` describes what the token for `repository` needs.
    """

    def __init__(self, repository: str, permissions: str) -> None:
        self.repository = repository
        self.permissions = permissions

    def __call__(self, response: Response, doing: str) -> RequestError:
        """Return the error for a status that is not a success; `doing` is the purpose of the call."""
        peer, status, message = response.peer, response.status, self.message_of(response)
        context = f"(HTTP {status}) while {doing}" + (f": {message}" if message else "")
        if self.is_rate_limit(response):
            pause = self.rate_limit_pause(response)
            when = "later" if pause is None else f"in {max(1, math.ceil(pause / 60))} min"
            return RetryLaterError(
                peer,
                f"rate limit exceeded {context}",
                retry_after=pause,
                hint=f"run again {when}",
                status=status,
            )
        match status:
            case 401:
                hint = "the token is wrong, expired or revoked: make a new one and set it again"
                return AccessDeniedError(peer, f"rejected the token {context}", hint=hint, status=status)
            case 403 | 407:
                text, hint = self.describe_denial(response)
                return AccessDeniedError(peer, f"{text} {context}", hint=hint, status=status)
            case 404 | 410:
                hint = f"check the name {self.repository!r}, and that the token may read it"
                return NotFoundError(peer, f"not found {context}", hint=hint, status=status)
            case 409:
                hint = "push a first commit to it" if "empty" in message.lower() else "run again"
                return ConflictError(peer, f"conflict {context}", hint=hint, status=status)
            case 408 | 425:
                return TransientError(peer, f"failed {context}", status=status)
        if 300 <= status < 400:
            target = sanitize(response.headers.get("location", ""), response.secrets)
            hint = f"if {self.repository!r} was renamed or moved, use its new name"
            return UnexpectedResponseError(
                peer, f"unexpected redirect to {target!r} {context}", hint=hint, status=status
            )
        if status >= 500:
            return TransientError(peer, f"failed {context}", status=status)
        hint_or_none = self.rejection_hint(message)
        return RejectedError(
            peer, f"rejected the request {context}", reason=message, hint=hint_or_none, status=status
        )

    def message_of(self, response: Response) -> str:
        """Return the message of an error response, cleaned.

        `message` is a text, a list, or an object of lists (GitLab); without it, `error` is the message.
        """
        value = error_document(response)
        message = value.get("message") or value.get("error") or value.get("error_description") or ""
        if not value:
            return response.message
        return sanitize(message if isinstance(message, str) else json.dumps(message), response.secrets)

    def is_rate_limit(self, response: Response) -> bool:
        """Whether the forge limits the rate of requests."""
        return response.status == 429 or (
            response.status == 503 and self.rate_limit_pause(response) is not None
        )

    def rate_limit_pause(self, response: Response) -> float | None:
        """Return the seconds to wait according to the response; None when it does not contain them."""
        return retry_after(response.headers.get("retry-after"))

    def describe_denial(self, response: Response) -> tuple[str, str]:
        """Return the message and the hint for a response of 403."""
        if "archived" in self.message_of(response).lower():
            return "the repository is archived", "unarchive it in its settings"
        return "denied access", self.permissions

    def rejection_hint(self, message: str) -> str | None:
        """Return the hint for a rejected request."""
        too_large = "too long" in message.lower() or "too large" in message.lower()
        return "propose fewer versions at once with --only" if too_large else None


def error_document(response: Response) -> dict[str, object]:
    """Return the JSON object in the body of an error response; {} when there is none."""
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
