"""The blocks of a space through a gateway, which is how others read them. Every block is verified."""

from __future__ import annotations

from reconciler.content.bounds import MAX_BLOCK
from reconciler.content.cid import Cid
from reconciler.errors import BlockUnavailableError
from reconciler.net.client import HttpClient
from reconciler.net.errors import NotFoundError

_RAW = "application/vnd.ipld.raw"


class GatewayBlocks:
    """Blocks by CID from one trustless gateway. Usable from several threads."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def read_block(self, cid: Cid) -> bytes:
        """Read and verify a block.

        Raises BlockUnavailableError when the gateway does not have it or serves other bytes, PeerError.
        """
        try:
            answer = self._http.request(
                "GET",
                f"ipfs/{cid}",
                repeatable=True,
                params=[("format", "raw")],
                headers={"Accept": _RAW},
                limit=MAX_BLOCK,
            )
        except NotFoundError as error:
            raise BlockUnavailableError(
                f"{self._http.name} does not have block {cid}", hint=error.hint
            ) from None
        if not cid.matches(answer.body):
            raise BlockUnavailableError(f"{self._http.name} serves other bytes as block {cid}")
        return answer.body

    def close(self) -> None:
        """Do nothing: the connections belong to the target."""
