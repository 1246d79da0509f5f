"""The listing of a bucket with obstore, with an end.

The blocking iterator of obstore (0.12) goes on to the next page while pages are empty, without an end and
without heed to an interrupt. Its asynchronous one can be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.sources.interface import SourceUnavailableError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

PATIENCE = 300.0  #: seconds for the next objects, however many pages they take
_PAGE = 1000  # objects


def list_pages(store: ObjectStore, prefix: str, name: str) -> Generator[Sequence[ObjectMeta], None, None]:
    """Iterate over the objects below `prefix`, many at a time and never none. The caller closes it.

    Raises what obstore raises, and SourceUnavailableError for the source `name` when the next objects do not
    come in time.
    """
    import obstore

    async def following() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await anext(pages, None)

    pages = aiter(obstore.list(store, prefix or None, chunk_size=_PAGE))
    with asyncio.Runner() as runner:
        try:
            while page := runner.run(following()):
                yield page
        except TimeoutError:
            raise SourceUnavailableError(
                name, f"listed no objects for {PATIENCE:.0f} seconds, in spite of its answers"
            ) from None
