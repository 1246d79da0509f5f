"""The pieces of a version whose upload was interrupted, in the cache: an upload is finished, not repeated.

Nothing is decided by it: what it names is compared with the version, with the provider and with the chain. It
may be deleted at any time; then the bytes are read and hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler import fs
from reconciler.content import piece_cid
from reconciler.content.car import CarShard, Sharding, parse_car_cid
from reconciler.content.cid import Cid
from reconciler.errors import DataError, LockedError
from reconciler.json_fields import JsonFields, load_json


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload that was not named yet: to the provider with this id, in this place of its API."""

    provider_id: int
    place: str


class UploadJournal:
    """The hashed shards of one version by number, and uploads that were not named yet.

    `directory` is created when needed; None: nothing is kept between runs.
    """

    def __init__(self, directory: Path | None, root: Cid, sharding: Sharding) -> None:
        self._file = None if directory is None else directory / f"{root}-{sharding.max_bytes}.json"
        self.shards: dict[int, CarShard] = {}
        self.open: dict[int, OpenUpload] = {}
        with contextlib.suppress(OSError, ValueError, DataError):
            if self._file is not None:
                checksum, _, body = self._file.read_bytes().partition(b"\n")
                if hashlib.sha256(body).hexdigest().encode() == checksum:
                    self._load(JsonFields(load_json(body), ValueError))

    def begin(self, number: int, upload: OpenUpload) -> None:
        """Note an upload whose bytes are being sent."""
        self.open[number] = upload
        self._save()

    def note(self, number: int, shard: CarShard) -> None:
        """Note the hashes of a shard whose bytes were sent; its upload has to be named."""
        self.shards[number] = shard
        self._save()

    def forget_upload(self, number: int) -> None:
        """Note that the upload of a shard was named, or dropped by its provider."""
        if self.open.pop(number, None) is not None:
            self._save()

    def remove(self) -> None:
        """Delete it: the version is published."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _load(self, fields: JsonFields) -> None:
        for number, each in fields.members("shards"):
            self.shards[int(number)] = CarShard(
                parse_car_cid(each.text("car")), each.number("size"), piece_cid.parse(each.text("piece"))
            )
        for number, each in fields.members("open"):
            self.open[int(number)] = OpenUpload(each.number("provider"), each.text("place"))

    def _save(self) -> None:
        if self._file is None:
            return
        shards: Mapping[str, object] = {
            str(number): {"car": str(each.cid), "size": each.size, "piece": str(each.piece)}
            for number, each in self.shards.items()
        }
        uploads = {
            str(number): {"provider": each.provider_id, "place": each.place}
            for number, each in self.open.items()
        }
        body = json.dumps({"shards": shards, "open": uploads}).encode()
        with contextlib.suppress(OSError, LockedError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            entry = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
            fs.replace_file(self._file, entry, mode=0o600, sync=False)
