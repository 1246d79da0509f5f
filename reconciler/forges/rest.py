"""Calls to a forge's REST API: paced, asked again where that is safe, each refusal judged by its wording."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from reconciler.forges.fields import Fields
from reconciler.forges.interface import Clock
from reconciler.net.errors import RequestError, RetryLaterError, TransientError
from reconciler.net.retry import LONGEST_PAUSE, RetryPolicy
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    from reconciler.net.client import HttpClient, Params
    from reconciler.net.response import Response

Judge = Callable[["Response", str], RequestError]  #: the error for an answer, and what was being done

_ANY_STATUS = range(200, 600)
_LIMITED = 60.0  # seconds to wait at least when a forge limits us without saying for how long


class RestApi:
    """One forge's API. Writes are serial, and begin at least `write_gap` seconds after the one before ended.

    `doing` is what a call is for, worded so that it fits behind "while"; errors carry it.
    """

    def __init__(
        self,
        http: HttpClient,
        judge: Judge,
        *,
        headers: Mapping[str, str] = {},
        clock: Clock = Clock(),  # noqa: B008  frozen, and the real one
        write_gap: float = 0.0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  frozen
        progress: Progress = QUIET,
    ) -> None:
        self.name = http.name
        self.clock = clock
        self._http = http
        self._judge = judge
        self._headers = headers
        self._write_gap = write_gap
        self._retry = retry
        self._progress = progress
        self._last_write: float | None = None

    def close(self) -> None:
        """Release connections. May be called twice."""
        self._http.close()

    def read(self, path: str, *, doing: str, params: Params = ()) -> Fields:
        """GET something that must be there. Raises RequestError."""
        return self._fields(self.send("GET", path, doing=doing, params=params, repeatable=True))

    def find(self, path: str, *, doing: str, params: Params = ()) -> Fields | None:
        """GET something that may be missing (404: None). Raises RequestError."""
        answer = self.send("GET", path, doing=doing, params=params, repeatable=True, also=(404,))
        return None if answer.status == 404 else self._fields(answer)

    def write(self, method: str, path: str, json: object, *, doing: str, repeatable: bool) -> Fields:
        """Change something. Without `repeatable` it is not sent again after a failure that may hide a
        success.

        Raises RequestError; a TransientError with `reached` when it is not known whether it was carried out.
        """
        return self._fields(self.send(method, path, json=json, doing=doing, repeatable=repeatable))

    def send(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        repeatable: bool,
        json: object = None,
        params: Params = (),
        also: Collection[int] = (),
    ) -> Response:
        """Any call; statuses in `also` are answers like those below 300. Raises RequestError."""
        attempt = 1
        while True:
            try:
                answer = self._once(method, path, json, params)
                if answer.status < 300 or answer.status in also:
                    return answer
                error = self._judge(answer, doing)
            except RequestError as failure:
                error = failure
            pause = self._pause(error, attempt, repeatable=repeatable)
            if pause is None:
                raise error
            self._progress.note(f"{error.message}; asking again in {pause:.0f} s")
            self.clock.sleep(pause)
            attempt += 1

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
        """Seconds until the call is sent again, or None when it is not."""
        if attempt >= self._retry.attempts or not error.may_retry:
            return None
        pause = self._retry.pause(attempt)
        if isinstance(error, RetryLaterError):  # it was turned away, so nothing was carried out
            limited = _LIMITED * 2 ** (attempt - 1) if error.retry_after is None else error.retry_after
            pause = max(pause, limited)
        elif isinstance(error, TransientError) and error.reached and not repeatable:
            return None
        return pause if pause <= LONGEST_PAUSE else None

    def _fields(self, answer: Response) -> Fields:
        return Fields(self.name, answer.json() if answer.body else None)
