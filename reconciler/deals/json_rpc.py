"""JSON-RPC over HTTP with one node of the Filecoin chain (Lotus, Forest, and their Ethereum methods).

Responses are read strictly: a wrong type is an error of the node and no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.json_fields import JsonFields
from reconciler.net.address import parse_address
from reconciler.net.auth import Auth, Scheme, Secret
from reconciler.net.client import HttpClient, Timeouts, Transport
from reconciler.net.errors import (
    RejectedError,
    RetryLaterError,
    TransientError,
    UnexpectedResponseError,
    sanitize,
)
from reconciler.net.response import Response, peer_fields
from reconciler.net.retry import RetryBudget

HINT = "check that this is the JSON-RPC address of a Lotus or Forest node, ending in /rpc/v1"

Hook = Callable[[dict[str, object]], object]

_ANSWERED = (200, 500)  # nodes report the error of a call with one of these
_LIMIT = 8 << 20  # bytes of a response
_BATCH_LIMIT = 64 << 20
_RATE_LIMITED = frozenset({-32005, 429})  # "limit exceeded" of EIP-1474, and the HTTP status as a code
_TOO_MANY = ("rate limit", "too many requests")
_INVALID_REQUEST = -32600
_MAX_DATA = 1 << 16  # hexadecimal digits of the data of an error


class RpcRefusedError(RejectedError):
    """The node refused one call, or failed to execute it; `code` and `data` as in its error object.

    `data` has the bytes with which a contract reverted, where the node passes them on.
    """

    def __init__(self, peer: str, message: str, *, reason: str, code: int, data: bytes) -> None:
        super().__init__(peer, message, reason=reason, hint=HINT)
        self.code = code
        self.data = data


@dataclass(frozen=True, slots=True)
class RpcCall:
    """One call: a method and its parameters."""

    method: str
    parameters: Sequence[object] = ()

    def body(self, number: int) -> dict[str, object]:
        """Return the request object with the id `number`."""
        return {"jsonrpc": "2.0", "id": number, "method": self.method, "params": list(self.parameters)}


class JsonRpc:
    """One node, opened by `open_json_rpc`. Usable from several threads. All calls raise RequestError."""

    def __init__(self, http: HttpClient, path: str) -> None:
        self._http = http
        self._path = path
        self._batches = True

    @property
    def name(self) -> str:
        """The node's name for the user."""
        return self._http.name

    def call(
        self, method: str, parameters: Sequence[object] = (), *, limit: int = _LIMIT, hook: Hook | None = None
    ) -> JsonFields:
        """Return the result of one call. Raises RpcRefusedError, with the node's message, for an error."""
        call = RpcCall(method, parameters)
        answer = peer_fields(self.name, self._post(call.body(1), limit).json(hook), HINT)
        found = self._result(call, answer, 1)
        if isinstance(found, RpcRefusedError):
            raise found
        return found

    def batch(self, calls: Sequence[RpcCall]) -> list[JsonFields | RpcRefusedError]:
        """Return the result of each call, in their order, by one request.

        A node that takes no batches gets the calls one by one.
        """
        if not self._batches or len(calls) == 1:
            return [self._one(call) for call in calls]
        bodies = [call.body(number) for number, call in enumerate(calls, start=1)]
        value = self._post(bodies, _BATCH_LIMIT).json()
        answers = peer_fields(self.name, value, HINT)
        if isinstance(value, Mapping):
            found = self._result(RpcCall("batch"), answers, None)
            if isinstance(found, RpcRefusedError) and found.code == _INVALID_REQUEST:
                self._batches = False
                return [self._one(call) for call in calls]
            raise found if isinstance(found, RpcRefusedError) else answers.error("a list")
        by_id: dict[int, JsonFields] = {}
        for answer in answers.items():
            by_id[answer.number_in(1, len(calls), "id")] = answer
        if len(by_id) != len(calls):
            raise UnexpectedResponseError(
                self.name, f"answered {len(by_id)} of {len(calls)} calls of a batch", hint=HINT
            )
        return [self._result(call, by_id[number], number) for number, call in enumerate(calls, start=1)]

    def close(self) -> None:
        """Close connections. May be called twice."""
        self._http.close()

    def _one(self, call: RpcCall) -> JsonFields | RpcRefusedError:
        try:
            return self.call(call.method, call.parameters, limit=_BATCH_LIMIT)
        except RpcRefusedError as error:
            return error

    def _post(self, body: object, limit: int) -> Response:
        response = self._http.request(
            "POST", self._path, repeatable=True, json=body, expect=_ANSWERED, limit=limit
        )
        if response.status == 500 and response.body.lstrip()[:1] not in (b"{", b"["):
            raise TransientError(self.name, "failed (HTTP 500)", status=500)
        return response

    def _result(self, call: RpcCall, answer: JsonFields, number: int | None) -> JsonFields | RpcRefusedError:
        """Return the result of `answer`, or the error in it. Raises RequestError for anything else."""
        answer.mapping()
        if answer.has("error"):
            return self._refusal(call, answer.at("error").mapping())
        if "result" not in answer.mapping() or answer.number_or(0, "id") != number:
            raise UnexpectedResponseError(self.name, "answered with the result of another call", hint=HINT)
        return answer.at("result")

    def _refusal(self, call: RpcCall, error: Mapping[str, Any]) -> RpcRefusedError:
        message = sanitize(str(error.get("message")), self._http.secrets)
        code = error.get("code")
        if code in _RATE_LIMITED or any(words in message.lower() for words in _TOO_MANY):
            raise RetryLaterError(self.name, f"requests a pause: {message}", retry_after=None)
        return RpcRefusedError(
            self.name,
            f"{call.method}: {message}",
            reason=message,
            code=code if isinstance(code, int) else 0,
            data=_error_data(error.get("data")),
        )


def _error_data(value: object) -> bytes:
    """Return the bytes of a revert from the `data` of an error, a string or an object with one."""
    if isinstance(value, Mapping):
        value = value.get("data")
    if not isinstance(value, str) or len(value) > _MAX_DATA:
        return b""
    try:
        return bytes.fromhex(value.rpartition("0x")[2])
    except ValueError:
        return b""


def open_json_rpc(
    address: str,
    *,
    name: str,
    token: Secret | None = None,
    budget: RetryBudget | None = None,
    transport: Transport | None = None,
) -> JsonRpc:
    """Open the node at `address`, its full JSON-RPC address, such as https://api.node.glif.io/rpc/v1.

    Error messages begin with `name`. Raises UsageError for an invalid address.
    """
    whole = parse_address(address, f"the rpc address of {name}").text
    base, _, path = whole.rpartition("/")
    if "://" not in base:
        base, path = whole, ""
    auth = None if token is None else Auth(Scheme.BEARER, token)
    timeouts = Timeouts(silence=30.0, total=120.0)
    http = HttpClient(base, name=name, auth=auth, timeouts=timeouts, budget=budget, transport=transport)
    return JsonRpc(http, path)
