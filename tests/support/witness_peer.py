"""A witness in this process: `add-checkpoint` of C2SP tlog-witness, over what it has seen of each log."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from reconciler.errors import DataError
from reconciler.trust.checkpoint import parse_checkpoint
from reconciler.trust.merkle import verify_consistency
from reconciler.trust.note import NoteKey, NoteKeyType, NoteSignature, is_signed_by
from tests.support.http_peer import Asked, Said


@dataclass
class WitnessPeer:
    """Cosigns checkpoints of the logs in `known`; `says` replaces its next answers."""

    name: str
    known: list[NoteKey]
    seed: bytes = b"w" * 32
    seen: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    says: list[Said] = field(default_factory=list)
    time: int = 1796022000

    @property
    def key(self) -> NoteKey:
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return NoteKey(self.name, NoteKeyType.COSIGNATURE, public)

    def cosign(self, text: str, time: int | None = None) -> NoteSignature:
        time = self.time if time is None else time
        message = f"cosignature/v1\ntime {time}\n{text}".encode()
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)
        return NoteSignature(self.name, self.key.id, time.to_bytes(8, "big") + signature)

    def __call__(self, asked: Asked) -> Said:
        if self.says:
            return self.says.pop(0)
        assert (asked.method, asked.target) == ("POST", "/add-checkpoint")
        head, _, note = asked.body.partition(b"\n\n")
        old, *hashes = head.decode().split("\n")
        match = re.fullmatch(r"old (\d+)", old)
        assert match is not None
        checkpoint = parse_checkpoint(note)
        key = next((each for each in self.known if each.name == checkpoint.origin), None)
        if key is None:
            return Said(404, b"unknown log")
        if not is_signed_by(checkpoint.note, key):
            return Said(403, b"no signature of the log")
        size, root = self.seen.get(checkpoint.origin, (0, b""))
        if int(match[1]) > checkpoint.size:
            return Said(400, b"old is larger than the checkpoint")
        if int(match[1]) != size:
            return Said(409, f"{size}\n".encode(), {"Content-Type": "text/x.tlog.size"})
        proof = [base64.b64decode(line) for line in hashes]
        try:
            if size:
                verify_consistency(size, checkpoint.size, proof, root, checkpoint.root)
        except DataError:
            return Said(422, b"the proof is wrong")
        self.seen[checkpoint.origin] = checkpoint.size, checkpoint.root
        return Said(200, self.cosign(checkpoint.note.text).line().encode())
