"""The keys that open a sealed version: among the private keys of a reader, or wrapped for one of them.

A model's key is wrapped beside the index, at `sealed/<model>/<generation>.age`. For an index that is
elsewhere, these files are read when they are needed and not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath

from reconciler.consume.beside import BesideRemoteIndex
from reconciler.consume.sources import Source
from reconciler.content.age import message
from reconciler.content.age.errors import AgeError, AgeKeyError, NotForIdentityError
from reconciler.content.age.keys import AgeIdentity, Identity, parse_identities
from reconciler.content.sealing.seal_key import SealKey
from reconciler.errors import PeerError, ReconcilerError
from reconciler.index.locations import RepositoryLayout
from reconciler.index.seal_keys import MAX_FILE

_MOST_GENERATIONS = 100  # that are asked for beside a remote index


@dataclass(frozen=True, slots=True)
class ReaderKeys:
    """The private keys of a reader, and the index beside which keys are wrapped for it, None without one.

    `identities` reads them when a sealed version has to be opened, and not before.

    `model` is the model of the version, "" when it is not known: then the keys of all models are tried, as
    far as they are on this machine. `sources` serve the blocks of an index under a CID.
    """

    identities: Callable[[], Sequence[Identity]]
    layout: RepositoryLayout | None = None
    model: str = ""
    sources: Sequence[Source] = ()

    def open(self, data: bytes) -> tuple[SealKey, bytes] | None:
        """As `OpensSealed.open`."""
        identities = self.identities()
        if not identities:
            return None
        for identity in self._candidates(identities):
            try:
                return SealKey(identity), message.decrypt(data, [identity])
            except NotForIdentityError:
                continue
        raise NotForIdentityError(
            "is sealed for other keys",
            hint="ask its publisher to add your public key to the recipients, and fetch the index again",
        )

    def _candidates(self, identities: Sequence[Identity]) -> Iterator[AgeIdentity]:
        """Yield the private keys that may be that of the model."""
        yield from (each for each in identities if isinstance(each, AgeIdentity))
        for data in self._wrapped():
            try:
                found = parse_identities(message.decrypt(data, identities).decode())
            except (AgeError, AgeKeyError, UnicodeDecodeError):
                continue
            yield from (each for each in found if isinstance(each, AgeIdentity))

    def _wrapped(self) -> Iterator[bytes]:
        """Yield the wrapped keys beside the index. Raises ReconcilerError when they cannot be asked for."""
        if self.layout is None:
            return
        if self.layout.origin is None:
            directory = self.layout.index_file.with_name("sealed")
            for file in sorted((directory / self.model).rglob("*.age"), reverse=True):
                if file.is_file() and file.stat().st_size <= MAX_FILE:
                    yield file.read_bytes()
            return
        if not self.model:
            return
        origin = self.layout.origin
        with closing(BesideRemoteIndex(origin.place, origin.commit, self.sources)) as beside:
            for generation in range(1, _MOST_GENERATIONS):
                path = PurePosixPath("sealed", self.model, f"{generation}.age")
                try:
                    data = beside.read(path, MAX_FILE)
                except PeerError:
                    raise
                except ReconcilerError:
                    return
                if data is None:
                    return
                yield data
