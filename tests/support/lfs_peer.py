"""A server of Git LFS on loopback, which the real git-lfs pushes to, with storage on another port.

The batch API needs the user and password; storage needs the header that the batch API names, and no other.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.http_peer import Asked
from tests.support.scripted_server import ScriptedServer, Sent, ranged, scripted_server

USER, PASSWORD = "robot", "NeverPrintedPassword"
KEY = "key-of-the-storage"
MEDIA_TYPE = "application/vnd.git-lfs+json"


@dataclass
class LfsPeer:
    """The server; `objects` are its objects by SHA-256. A `lie` replaces answers ("batch" or "storage")."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    lie: Callable[[str, Asked, Sent], Sent] | None = None
    expires_in: int = 600
    server: ScriptedServer = field(default_factory=lambda: ScriptedServer(""))
    storage: ScriptedServer = field(default_factory=lambda: ScriptedServer(""))

    def answer(self, asked: Asked) -> Sent:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if asked.headers.get("authorization") != f"Basic {pair}":
            return Sent(401, b"{}", {"Lfs-Authenticate": "Basic", "Content-Type": MEDIA_TYPE})
        if not asked.target.endswith("/objects/batch"):
            return Sent(404, b"{}", {"Content-Type": MEDIA_TYPE})
        question = json.loads(asked.body)
        found = [self._object(question["operation"], each) for each in question["objects"]]
        body = json.dumps({"transfer": "basic", "hash_algo": "sha256", "objects": found}).encode()
        true = Sent(200, body, {"Content-Type": MEDIA_TYPE})
        return true if self.lie is None else self.lie("batch", asked, true)

    def _object(self, operation: str, asked: dict[str, object]) -> dict[str, object]:
        oid = str(asked["oid"])
        if operation == "download" and oid not in self.objects:
            return {**asked, "error": {"code": 404, "message": "Object does not exist"}}
        action = {
            "href": f"{self.storage.url}/{oid}",
            "header": {"X-Storage-Key": KEY},
            "expires_in": self.expires_in,
        }
        return {**asked, "authenticated": True, "actions": {operation: action}}

    def answer_storage(self, asked: Asked) -> Sent:
        oid = asked.target.rpartition("/")[2]
        if asked.headers.get("x-storage-key") != KEY or "authorization" in asked.headers:
            return Sent(403)
        if asked.method == "PUT":
            self.objects[hashlib.sha256(asked.body).hexdigest()] = asked.body
            return Sent(200)
        true = ranged(asked, self.objects[oid])
        return true if self.lie is None else self.lie("storage", asked, true)


@contextmanager
def lfs_peer() -> Iterator[LfsPeer]:
    """Run a server without objects."""
    peer = LfsPeer()
    with scripted_server(peer.answer) as server, scripted_server(peer.answer_storage) as storage:
        peer.server, peer.storage = server, storage
        peer.url = f"{server.url}/org/repo.git/info/lfs"
        yield peer
