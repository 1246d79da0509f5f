"""Witnesses: others who sign that a log only grew (C2SP tlog-witness, `add-checkpoint`).

    POST <address>/add-checkpoint
    old <size of the checkpoint that the witness has>
    <base64 of a hash>                           consistency proof from there, none from 0
    <blank line>
    <signed checkpoint>

The answer to a request is judged by a pure function; `Witness` sends it. litewitness of torchwood 0.8 answers
403 where the specification has 404, and 500 for a note that it cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.errors import DataError, Reason, TrustError
from reconciler.net.client import HttpClient, Timeouts, Transport
from reconciler.net.errors import RequestError, sanitize
from reconciler.trust.checkpoint import Checkpoint, proof_lines
from reconciler.trust.note import NoteKey, NoteSignature, SignedNote, is_signed_by, parse_signatures

_LIMIT = 1 << 16
_JUDGED = (200, 400, 403, 404, 409, 422)
_MAX_DIGITS = 15

#: returns the consistency proof between two sizes of the log
Prove = Callable[[int, int], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class OtherSize:
    """The witness has a checkpoint of this size and not the one that the request assumed."""

    size: int


def request_body(old: int, proof: Sequence[bytes], checkpoint: Checkpoint) -> bytes:
    """Return the body of a request for a cosignature of `checkpoint`."""
    return f"old {old}\n{proof_lines(proof)}\n".encode() + checkpoint.note.encode()


def judge_answer(
    status: int, body: bytes, checkpoint: Checkpoint, key: NoteKey, name: str
) -> NoteSignature | OtherSize | Reason:
    """Return the cosignature in an answer, the size the witness has, or why there is no cosignature.

    Raises TrustError when the witness has seen another history, or a longer one.
    """
    text = sanitize(body[:300].decode("utf-8", "replace"))
    if status == 200:
        return _cosignature(body, checkpoint, key, name)
    if status == 409:
        digits = body.strip()
        if not digits.isdigit() or len(digits) > _MAX_DIGITS:
            return Reason(f"{name}: does not say which size of the log it has")
        size = int(digits)
        if size > checkpoint.size:
            raise TrustError(
                f"{name} has cosigned {size:,} entries of {checkpoint.origin}, and the log here has "
                f"{checkpoint.size:,}: it was truncated, or this is not the newest commit",
                hint="sign checkpoints on the newest commit of the protected branch only",
            )
        return OtherSize(size)
    if status == 422:
        raise TrustError(
            f"{name} has cosigned another history of {checkpoint.origin}: {text}",
            hint="find out who signed it: a log with two histories convinces no one any more",
        )
    if status in (403, 404):
        return Reason(
            f"{name}: does not know the log, or not its key: {text}", "ask its operator to add them"
        )
    return Reason(f"{name}: refused the checkpoint (HTTP {status}): {text}")


def _cosignature(body: bytes, checkpoint: Checkpoint, key: NoteKey, name: str) -> NoteSignature | Reason:
    try:
        lines = parse_signatures(body.decode("utf-8"), "its answer")
        found = next((each for each in lines if each.is_by(key)), None)
        if found is not None and is_signed_by(SignedNote(checkpoint.note.text, (found,)), key):
            return found
    except (DataError, UnicodeDecodeError) as error:
        return Reason(f"{name}: {error}")
    return Reason(f"{name}: answered without a cosignature by its key {key.id.hex()}")


class Witness:
    """One witness at an address. Errors name its key."""

    def __init__(self, key: NoteKey, url: str, *, transport: Transport | None = None) -> None:
        self.key = key
        self._name = f"the witness {key.name}"
        timeouts = Timeouts(silence=20.0, total=60.0)
        self._http = HttpClient(url, name=self._name, timeouts=timeouts, transport=transport)

    def cosign(self, checkpoint: Checkpoint, old: int, prove: Prove) -> NoteSignature | Reason:
        """Ask for a cosignature, assuming that the witness has the size `old`; once more if it has another.

        Return why there is none when it cannot be reached or refuses. Raises TrustError for a history that
        differs from what the witness has seen.
        """
        for _ in range(2):
            content = request_body(old, prove(old, checkpoint.size), checkpoint)
            try:
                answer = self._http.request(
                    "POST", "add-checkpoint", repeatable=True, content=content, expect=_JUDGED, limit=_LIMIT
                )
            except RequestError as error:
                return Reason.from_error(error)
            found = judge_answer(answer.status, answer.body, checkpoint, self.key, self._name)
            if not isinstance(found, OtherSize):
                return found
            old = found.size
        return Reason(f"{self._name}: says twice that it has another size of the log")

    def close(self) -> None:
        """Close connections."""
        self._http.close()
