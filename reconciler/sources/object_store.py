"""Object stores: Amazon S3 and what speaks its protocol, Google Cloud Storage and Azure, through obstore.

A location is a prefix of whole path segments. What was listed is pinned: by the version ids of the objects
where the bucket keeps versions, else by their ETags, which each read requires and compares. An ETag in the
form of an MD5 is taken for the MD5 of the content, as services compute it for an object that was uploaded in
one part; services that encrypt with keys of the customer do not, and need `etag: opaque` in sources.yaml.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.content.bounds import LIMITS
from reconciler.errors import UsageError
from reconciler.sources.bucket import BucketAddress, OpenBucket, open_bucket
from reconciler.sources.bucket_errors import IgnoredRangeError, changed, translated
from reconciler.sources.bucket_list import list_pages
from reconciler.sources.foreign_calls import call_interruptibly
from reconciler.sources.interface import (
    FileListing,
    KnownDigests,
    ListedFile,
    SourceDefinition,
    SourceMissingError,
    SourceProtocolError,
    SourceSpan,
)
from reconciler.sources.listing import make_listing
from reconciler.sources.once import Once
from reconciler.sources.ranges import BrokenOffError, checked_range, read_resuming
from reconciler.sources.spans import PieceSpan

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

WINDOW = 16 << 20  #: bytes of one request
_PIECE = 1 << 20  # bytes
_HEADS = 16  # requests for version ids at the same time
_LONGEST_PAUSE = 8.0  # seconds
_MD5 = re.compile(r"[0-9a-f]{32}")
_NO_VERSION = "null"  #: the version id of objects from before a bucket kept versions; it may be overwritten


def open_source(
    definition: SourceDefinition, location: str, *, root: Path, environ: Mapping[str, str]
) -> ObjectStoreSource:
    """Open the objects below the prefix `location`, without a connection.

    Raises UsageError for a variable that is not set, a credential in a wrong form, or a missing extra.
    """
    del root
    bucket = open_bucket(definition, environ)
    prefix = BucketAddress.parse(definition.url).key(location)
    return ObjectStoreSource(
        f"{definition.name}:{location}", location, bucket, prefix, trust_etag=definition.etag != "opaque"
    )


class ObjectStoreSource:
    """The objects below `prefix` of a bucket. Thread-safe.

    `trust_etag`: an ETag in the form of an MD5 is the MD5 of the content.
    """

    def __init__(
        self,
        name: str,
        location: str,
        bucket: OpenBucket,
        prefix: str,
        *,
        trust_etag: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._location = location
        self._bucket = bucket
        self._prefix = prefix
        self._trust_etag = trust_etag
        self._sleep = sleep
        self._listing = Once(self._list)
        #: whether parts can be requested; None until one was
        self.serves_ranges: bool | None = None
        self.latency: float | None = None  #: seconds that the first request for an object took
        self._closed = False

    def list(self) -> FileListing:
        """Return all objects below the prefix. Raises SourceError, and SourceMissingError for none at all."""
        return self._listing.get()

    def read(
        self, file: ListedFile, start: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        """Iterate over a range of `file`. Raises SourceChangedError when it is not the listed object."""
        start, end = checked_range(file, start, length)
        if end - start > WINDOW:
            self._find_out(file, once=False)

        def read_once(first: int, last: int) -> Iterator[bytes]:
            return self._read_once(file, first, last)

        yield from read_resuming(self.name, file, start, end, read_once, pause=self._pause)

    def request(self, file: ListedFile, start: int, end: int) -> SourceSpan:
        """Implement WeightSource.request."""
        checked_range(file, start, end - start)
        if end - start < file.size:
            self._find_out(file, once=True)
        return PieceSpan(self._read_once(file, start, end, once=True), start, end)

    def close(self) -> None:
        """End all reads at their next piece. May be called twice."""
        self._closed = True

    # -- listing ---------------------------------------------------------------------------------------------

    def _list(self) -> FileListing:
        found = [meta for meta in self._objects() if self._relative(meta)]
        if not found:
            raise SourceMissingError(
                self.name,
                "there are no objects below this prefix",
                hint="a location is a prefix of whole path segments, such as llm/1.2.0/",
            )
        files = list(self._described(found))
        identity = hashlib.sha256()
        for file in sorted(files, key=lambda file: file.path):
            identity.update(repr((file.path, file.size, file.etag, file.version_id)).encode())
        return make_listing(
            self.name,
            self._location,
            f"objects:{identity.hexdigest()}",
            files,
            immutable=all(file.version_id for file in files),
        )

    def _objects(self) -> Sequence[ObjectMeta]:
        found: list[ObjectMeta] = []
        begun: set[str] = set()
        with self._translated(), closing(list_pages(self._bucket.store, self._prefix, self.name)) as pages:
            for page in pages:
                found += page
                if len(found) > LIMITS.paths:
                    raise SourceProtocolError(self.name, f"lists more than {LIMITS.paths} objects")
                if page[0]["path"] in begun:
                    raise SourceProtocolError(self.name, "repeats a page of its listing")
                begun.add(page[0]["path"])
        return found

    def _described(self, found: Sequence[ObjectMeta]) -> Iterator[ListedFile]:
        """Yield the files of `found`, with their version ids if the bucket has them.

        Listings have no version ids, so each object of a bucket with versions costs a request. A key that
        ends with a slash marks a directory and is listed without the slash: only such an object is empty and
        does not exist under the listed name.
        """
        began = time.monotonic()
        first = self._head(found[0])
        self.latency = time.monotonic() - began
        versioned = first is not None and bool(first["version"])
        with ThreadPoolExecutor(_HEADS) as pool:
            wanted = [meta for meta in found if versioned or meta["size"] == 0]
            heads = dict(zip((meta["path"] for meta in wanted), pool.map(self._head, wanted), strict=True))
        for meta in found:
            head = heads.get(meta["path"], meta)
            if head is None and meta["size"] == 0:
                continue
            if head is None or head["size"] != meta["size"] or _etag(head) != _etag(meta):
                raise changed(self.name, self._relative(meta))
            yield self._file(head, self._relative(meta))

    def _head(self, meta: ObjectMeta) -> ObjectMeta | None:
        import obstore

        file = self._relative(meta)
        try:
            with self._translated(file):
                return call_interruptibly(lambda: obstore.head(self._bucket.store, meta["path"]))
        except SourceMissingError:
            return None

    def _file(self, meta: ObjectMeta, path: str) -> ListedFile:
        etag, version = _etag(meta), meta["version"] or ""
        is_md5 = self._trust_etag and _MD5.fullmatch(etag) is not None
        return ListedFile(
            path,
            meta["size"],
            KnownDigests(md5=bytes.fromhex(etag)) if is_md5 else KnownDigests(),
            etag=etag,
            version_id="" if version == _NO_VERSION else version,
        )

    def _relative(self, meta: ObjectMeta) -> str:
        """Return the path below the prefix; "" for the object that is the prefix itself."""
        if not self._prefix:
            return meta["path"]
        if meta["path"] == self._prefix:
            return ""
        if not meta["path"].startswith(f"{self._prefix}/"):
            raise SourceProtocolError(self.name, "lists an object outside of the prefix")
        return meta["path"][len(self._prefix) + 1 :]

    # -- reading ---------------------------------------------------------------------------------------------

    def _find_out(self, file: ListedFile, *, once: bool) -> None:
        """Find out whether ranges are served, where nothing is known yet, before a range of `file` is read.

        obstore (0.12) gives an answer with the whole object only as an error, without its bytes, and they
        come again. So the first byte of the smallest object is requested, whose other bytes cost least. With
        `once` that request is not repeated.
        """
        if self.serves_ranges is not None:
            return
        listing = self._listing.made()
        candidates = [each for each in listing.files if each.size > 1] if listing else []
        smallest = min(candidates, key=lambda each: each.size, default=file)
        try:
            for _ in self._window(smallest, 0, 1, whole=False, once=once):
                pass
        except IgnoredRangeError:
            self.serves_ranges = False

    def _read_once(
        self, file: ListedFile, start: int, end: int, *, once: bool = False
    ) -> Generator[bytes, None, None]:
        """Iterate over a range, window by window; `once`: no request is repeated."""
        while start < end:
            whole = self.serves_ranges is False  # another thread may find out meanwhile
            last = end if whole else min(start + WINDOW, end)
            try:
                yield from self._window(file, start, last, whole=whole, once=once)
            except IgnoredRangeError:
                if whole:
                    raise SourceProtocolError(self.name, "answers with a part", file=file.path) from None
                self.serves_ranges = False
                continue
            start = last

    def _window(self, file: ListedFile, start: int, end: int, *, whole: bool, once: bool) -> Iterator[bytes]:
        """Iterate over the bytes from `start` to before `end` with one request.

        With `whole`, for a service that ignores ranges, the object is requested and its other bytes dropped.
        An object whose every byte is wanted is requested without a range, which every service answers.
        """
        import obstore

        options: GetOptions = {}
        if file.version_id:
            options["version"] = file.version_id
        elif file.etag:
            options["if_match"] = f'"{file.etag}"'
        skip, left = 0, end - start
        is_part = (start, end) != (0, file.size)
        if whole:
            skip = start
        elif is_part:
            options["range"] = (start, end)
        key = f"{self._prefix}/{file.path}" if self._prefix else file.path
        bucket = self._bucket.once if once else self._bucket.store
        with self._translated(file.path):
            found = call_interruptibly(lambda: obstore.get(bucket, key, options=options))
        self._require_listed(file, found.meta)
        if not whole and found.range != (start, end):
            raise SourceProtocolError(self.name, "answers with another range", file=file.path)
        if is_part:
            self.serves_ranges = not whole
        arriving = iter(found.stream(min_chunk_size=_PIECE))
        while left:
            if self._closed:
                raise UsageError(f"{self.name} is closed")
            with self._translated(file.path, begun=True):
                piece = call_interruptibly(lambda: next(arriving, None))
            if piece is None:
                raise BrokenOffError(self.name, "ended early", file=file.path)
            data = memoryview(piece)[skip:]
            skip = max(0, skip - len(piece))
            if not whole and len(data) > left:
                raise SourceProtocolError(self.name, "came with more bytes than requested", file=file.path)
            if data := data[:left]:
                left -= len(data)
                yield bytes(data)

    def _require_listed(self, file: ListedFile, meta: ObjectMeta) -> None:
        version = meta["version"] or ""
        other = file.version_id and version and version != file.version_id
        if other or meta["size"] != file.size or (file.etag and _etag(meta) != file.etag):
            raise changed(self.name, file.path)

    def _translated(self, file: str = "", *, begun: bool = False) -> Any:
        return translated(self.name, credential=self._bucket.credential, file=file, begun=begun)

    def _pause(self, attempt: int) -> None:
        longest = min(_LONGEST_PAUSE, 0.25 * 2**attempt)
        self._sleep(random.uniform(longest / 2, longest))  # noqa: S311 - no secret


def _etag(meta: ObjectMeta) -> str:
    """Return the ETag without quotes, which only some services put into listings; "" without one."""
    return (meta["e_tag"] or "").strip('"')
