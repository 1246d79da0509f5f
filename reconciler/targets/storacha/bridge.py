"""The HTTP bridge: a service's read calls without Node, many in one request.

Source: the specification w3-ucan-bridge. Uploading is not possible over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.net.client import HttpClient
from reconciler.net.errors import AccessDeniedError, UnexpectedResponseError, sanitize
from reconciler.targets import fields
from reconciler.targets.storacha import wire
from reconciler.targets.storacha.options import BridgeKeys
from reconciler.targets.storacha.wire import Claims, SpaceUpload, TaskRefusal

BATCH = 100  #: tasks in one request
PAGE = 1000  #: uploads in one answer
_THREADS = 4  # requests about pieces at a time: a service checks signatures for milliseconds a task
_UNKNOWN = "RecordNotFound"  # a piece that was offered, and that the queue has not brought any further
_MOST_PAGES = 10_000  # ten million uploads; a listing longer than that has no end


class Bridge:
    """One space. All calls raise RequestError."""

    def __init__(self, http: HttpClient, space: str, keys: BridgeKeys, page: int = PAGE) -> None:
        self._http = http
        self._space = space
        self._keys = keys
        self._page = page
        http.secrets = (keys.secret, keys.authorization)

    def uploads(self) -> dict[Cid, SpaceUpload]:
        """Every upload in the space, page by page."""
        found: dict[Cid, SpaceUpload] = {}
        cursor = ""
        for _ in range(_MOST_PAGES):
            asked: dict[str, object] = {"size": self._page} | ({"cursor": cursor} if cursor else {})
            (answer,) = self._ask([("upload/list", asked)])
            if isinstance(answer, TaskRefusal):
                raise refusal(self._http.name, answer, "upload/list")
            page = fields.record(self._http.name, answer, "a list of uploads")
            if "results" not in page:
                raise UnexpectedResponseError(
                    self._http.name, "answered with something that is not a list of uploads"
                )
            results = fields.items(self._http.name, page, "results")
            for upload in (wire.read_upload(self._http.name, each) for each in results):
                if upload is not None:
                    found[upload.root] = upload
            following = fields.text(self._http.name, page, "cursor")
            if not following or not results:
                return found
            if following == cursor:
                break
            cursor = following
        raise UnexpectedResponseError(self._http.name, "lists its uploads without an end")

    def claims(self, pieces: Sequence[PieceCid], done: Callable[[int], None]) -> dict[PieceCid, Claims]:
        """What the service says of each piece."""
        found: dict[PieceCid, Claims] = {}
        batches = [pieces[start : start + BATCH] for start in range(0, len(pieces), BATCH)]
        with ThreadPoolExecutor(_THREADS, "bridge") as threads:
            try:
                for some in threads.map(self._claims, batches):
                    found |= some
                    done(len(some))
            finally:
                threads.shutdown(cancel_futures=True)  # one that fails fails for all
        return found

    def _claims(self, pieces: Sequence[PieceCid]) -> dict[PieceCid, Claims]:
        """The same of as many pieces as go into one request."""
        found: dict[PieceCid, Claims] = {}
        answers = self._ask([("filecoin/info", {"piece": {"/": str(piece)}}) for piece in pieces])
        for piece, answer in zip(pieces, answers, strict=True):
            if not isinstance(answer, TaskRefusal):
                found[piece] = wire.read_info(self._http.name, piece, answer)
            elif answer.name == _UNKNOWN:
                found[piece] = wire.unknown(piece)
            else:
                found[piece] = answer
        return found

    def _ask(self, tasks: Sequence[tuple[str, Mapping[str, object]]]) -> list[object]:
        """The `ok` of each task, or a TaskRefusal."""
        response = self._http.request(
            "POST",
            "bridge",
            repeatable=True,
            json={"tasks": [[can, self._space, details] for can, details in tasks]},
            headers={
                "X-Auth-Secret": self._keys.secret.reveal(),
                "Authorization": self._keys.authorization.reveal(),
            },
        )
        receipts = response.json()
        if not isinstance(receipts, list) or len(receipts) != len(tasks):
            raise UnexpectedResponseError(
                self._http.name, f"did not answer {len(tasks)} tasks with as many receipts"
            )
        return [self._result(receipt) for receipt in receipts]

    def _result(self, receipt: object) -> object:
        payload = fields.record(self._http.name, receipt, "a receipt").get("p")
        out = fields.record(self._http.name, payload, "a receipt").get("out")
        result = fields.record(self._http.name, out, "a receipt")
        if "ok" in result:
            return result["ok"]
        error = fields.record(self._http.name, result.get("error"), "a receipt")
        said = sanitize(fields.text(self._http.name, error, "message"), self._http.secrets)
        return TaskRefusal(sanitize(fields.text(self._http.name, error, "name")), said)


def refusal(peer: str, refused: TaskRefusal, can: str) -> AccessDeniedError:
    """A refused task as an error."""
    return AccessDeniedError(
        peer,
        f"refuses {can}: {refused.message or refused.name}",
        hint="`reconcile doctor` says what the delegation allows, and until when",
    )
