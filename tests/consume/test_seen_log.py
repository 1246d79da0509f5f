"""A remote index whose audit log shrank, forked or lacks a version is refused, and what was kept stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.consume.remote_index import open_remote
from reconciler.consume.seen_log import pinned_keys, require_logged
from reconciler.content import cid as cids
from reconciler.errors import PeerError, TrustError
from reconciler.index.locations import Origin, RepositoryLayout
from reconciler.index.log_settings import LogSettings, WitnessSpec
from reconciler.index.user_config import PinnedLog
from reconciler.net.auth import Secret
from reconciler.trust.checkpoint import LogKeys, checkpoint_text
from reconciler.trust.leaves import LeafEvent, LogLeaf
from reconciler.trust.log import recompute
from reconciler.trust.note import NoteSigner, SignedNote
from reconciler.trust.tiles import make_tiles
from tests.consume.test_remote_index import CID_A, CID_B, text
from tests.support.http_peer import Asked, HttpPeer, Said, http_peer

SIGNER = NoteSigner("example.org/acme", Secret("5e" * 32))
STRANGER = NoteSigner("example.org/acme", Secret("5f" * 32))
KEYS = LogKeys(SIGNER.key)
INDEX = "/acme/releases/index.yaml"


def leaf(version: str, cid: str = CID_A) -> LogLeaf:
    return LogLeaf("acme", "llm", version, 1, LeafEvent.RELEASE, cid)


LEAVES = [leaf("1.0.0"), leaf("2.0.0", CID_B), *(leaf(f"3.{number}.0") for number in range(300))]


@dataclass
class Site:
    """Serves an index and the log of `leaves`; `broken` are paths of the log that fail with a status."""

    index: bytes = field(default_factory=lambda: text(v1=CID_A))
    files: dict[str, bytes] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)

    def log(self, leaves: list[LogLeaf], *, signer: NoteSigner = SIGNER, name: str = SIGNER.key.name) -> None:
        log = recompute([each.entry() for each in leaves])
        note = checkpoint_text(name, log.size, (log.roots or {})[log.size])
        self.files = make_tiles(log.entries, log.hashes)
        self.files["checkpoint"] = SignedNote(note, (signer.sign(note),)).encode()

    def release(self, **versions: str) -> None:
        self.index = text(**versions)

    def __call__(self, asked: Asked) -> Said:
        path = asked.target.partition("?")[0]
        if path == INDEX:
            return Said(200, self.index)
        inside = path.removeprefix("/acme/releases/log/")
        if inside in self.broken:
            return Said(self.broken[inside], b"")
        return Said(200, self.files[inside]) if inside in self.files else Said(404, b"")


@pytest.fixture
def site() -> Site:
    found = Site()
    found.log(LEAVES[:2])
    return found


@pytest.fixture
def peer(site: Site) -> Iterator[HttpPeer]:
    with http_peer(site) as made:
        yield made


def place(peer: HttpPeer) -> str:
    return f"{peer.url}{INDEX}"


def test_a_log_that_grows_is_accepted_and_its_checkpoint_kept(
    site: Site, peer: HttpPeer, tmp_path: Path
) -> None:
    for size, versions in ((2, {"v1": CID_A, "v2": CID_B}), (300, {"v1": CID_A, "v2": CID_B, "v3": CID_A})):
        site.release(**versions)
        site.log(LEAVES[:size])
        found = open_remote(place(peer), tmp_path, log=KEYS)
        assert (found.file.parent / "log/checkpoint").read_bytes() == site.files["checkpoint"]


def test_an_index_without_a_log_costs_one_request_and_works_as_before(
    site: Site, peer: HttpPeer, tmp_path: Path
) -> None:
    for files in ({}, {"checkpoint": b"<html>not found</html>"}):
        site.files = files
        found = open_remote(place(peer), tmp_path / str(len(files)))
        assert not (found.file.parent / "log").exists()
    assert len(peer.asked) == 4


def swapped(leaves: list[LogLeaf]) -> list[LogLeaf]:
    return [leaves[1], leaves[0], *leaves[2:]]


REFUSED: dict[str, tuple[Callable[[Site], None], str]] = {
    "shrank": (lambda site: site.log(LEAVES[:1]), "shrank: 1 entries now, and 2 before"),
    "another root of the same size": (lambda site: site.log(swapped(LEAVES[:2])), "forked: 2 entries have"),
    "another history, longer": (
        lambda site: site.log(swapped(LEAVES[:4])),
        "forked: its 4 entries do not begin",
    ),
    "removed": (lambda site: site.files.clear(), "has no audit log, and one is expected"),
    "of another name": (lambda site: site.log(LEAVES[:3], name="other"), "has the log 'other' now"),
    "no checkpoint any more": (
        lambda site: site.files.update(checkpoint=b"<html>"),
        "the checkpoint beside .* is not a signed note",
    ),
    "tiles missing": (
        lambda site: (site.log(LEAVES[:4]), [site.files.pop(p) for p in list(site.files) if "tile" in p]),
        "forked: its 4 entries do not begin .*the log has no tile",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_did_not_only_grow_is_refused_without_a_key_as_well(
    site: Site, peer: HttpPeer, tmp_path: Path, case: str
) -> None:
    change, message = REFUSED[case]
    kept = open_remote(place(peer), tmp_path).file.parent
    before = (kept / "log/checkpoint").read_bytes(), (kept / "index.yaml").read_bytes()
    change(site)
    site.release(v1=CID_A, v2=CID_B)
    for _ in range(2):
        with pytest.raises(TrustError, match=message) as caught:
            open_remote(place(peer), tmp_path)
        assert caught.value.exit_code == 4
        assert caught.value.hint
    assert ((kept / "log/checkpoint").read_bytes(), (kept / "index.yaml").read_bytes()) == before


def test_a_log_that_cannot_be_read_is_no_excuse_once_it_was_seen(
    site: Site, peer: HttpPeer, tmp_path: Path
) -> None:
    site.broken = {"checkpoint": 500}
    open_remote(place(peer), tmp_path)  # never seen, so nothing is known to be missing
    site.broken = {}
    site.release(v1=CID_A, v2=CID_B)
    open_remote(place(peer), tmp_path)
    site.release(v1=CID_A, v2=CID_B, v3=CID_A)
    site.broken = {"checkpoint": 500}
    with pytest.raises(PeerError):
        open_remote(place(peer), tmp_path)


def test_a_damaged_memory_is_an_error_and_no_fresh_start(site: Site, peer: HttpPeer, tmp_path: Path) -> None:
    kept = open_remote(place(peer), tmp_path).file.parent
    (kept / "log/checkpoint").write_bytes(b"damaged")
    site.release(v1=CID_A, v2=CID_B)
    with pytest.raises(TrustError, match="could not be detected"):
        open_remote(place(peer), tmp_path)


def test_a_known_key_demands_its_signature_and_that_of_witnesses(
    site: Site, peer: HttpPeer, tmp_path: Path
) -> None:
    site.log(LEAVES[:2], signer=STRANGER)
    with pytest.raises(TrustError, match="is not signed by the key"):
        open_remote(place(peer), tmp_path, log=KEYS)
    site.log(LEAVES[:2])
    with pytest.raises(TrustError, match="cosignatures of 0 of 1 witnesses"):
        open_remote(place(peer), tmp_path, log=LogKeys(SIGNER.key, (STRANGER.key,), 1))
    site.files.clear()
    with pytest.raises(TrustError, match="has no audit log"):
        open_remote(place(peer), tmp_path, log=KEYS)


def test_the_configuration_pins_the_log_of_one_index() -> None:
    logs = [
        PinnedLog(LogSettings(str(STRANGER.key)), None),
        PinnedLog(LogSettings(str(SIGNER.key), "", (WitnessSpec(str(STRANGER.key), ""),), 1), "https://a/i"),
    ]
    assert pinned_keys(logs, "https://a/i") == LogKeys(SIGNER.key, (STRANGER.key,), 1)
    assert pinned_keys(logs, "https://a/other") is None


# -- versions


def layout(peer: HttpPeer, tmp_path: Path, **options: object) -> RepositoryLayout:
    file = open_remote(place(peer), tmp_path, log=KEYS).file
    return RepositoryLayout(file.parent, file, file, file.parent, Origin(place(peer), None))


def require(found: RepositoryLayout, ref: str, cid: str, *, offline: bool = False) -> None:
    require_logged(found, KEYS, ref, cids.parse(cid), offline=offline, sources=tuple)


def test_a_version_counts_only_when_the_log_has_it(site: Site, peer: HttpPeer, tmp_path: Path) -> None:
    found = layout(peer, tmp_path)
    require(found, "llm@1.0.0", CID_A)
    asked = len(peer.asked)
    require(found, "llm@2.0.0", CID_B)
    require(found, "llm@2.0.0", CID_B, offline=True)
    assert len(peer.asked) == asked  # tiles do not change
    for ref, cid in (("llm@1.0.0", CID_B), ("llm@3.0.0", CID_A), ("other@1.0.0", CID_A)):
        with pytest.raises(TrustError, match=f"does not have {ref} with the CID {cid}"):
            require(found, ref, cid)
        with pytest.raises(TrustError, match="does not have"):
            require(found, ref, cid, offline=True)
    site.log(LEAVES[:3])  # signed since: asked for when it is needed
    require(found, "llm@3.0.0", CID_A)


def test_a_log_that_forked_is_found_when_a_version_is_asked_for(
    site: Site, peer: HttpPeer, tmp_path: Path
) -> None:
    found = layout(peer, tmp_path)
    site.log(swapped(LEAVES[:3]))
    with pytest.raises(TrustError, match="forked"):
        require(found, "llm@3.0.0", CID_A)


def test_entries_that_do_not_give_the_root_are_refused(site: Site, peer: HttpPeer, tmp_path: Path) -> None:
    found = layout(peer, tmp_path)
    site.files["tile/entries/000.p/2"] = site.files["tile/entries/000.p/2"].replace(b"1.0.0", b"9.0.0")
    with pytest.raises(TrustError, match="its history was rewritten"):
        require(found, "llm@9.0.0", CID_A)
    (found.index_file.parent / "log/tile/entries/000.p/2").unlink()
    del site.files["tile/entries/000.p/2"]
    with pytest.raises(TrustError, match="cannot be read: the log has no tile/entries"):
        require(found, "llm@1.0.0", CID_A)
