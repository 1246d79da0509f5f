"""Trust rules of the consumer, on every way to the bytes of a version."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import reconciler
from reconciler.consume.find_index import find_index
from reconciler.consume.lock_file import lock_reference
from reconciler.consume.open import Sources, open_ref
from reconciler.consume.trusted import AcceptedReleases, trust_check
from reconciler.errors import BlockUnavailableError, InvalidIndexError, TrustError, UsageError
from reconciler.index.load import load_index
from reconciler.progress import QUIET
from tests.support.http_peer import Asked, HttpPeer, Said, http_peer
from tests.support.signing import bundle, public_key
from tests.support.trusted import WEIGHTS, SignedRepository, signed_repository

REF = "acme/llm@1.0.0"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SignedRepository:
    return signed_repository(tmp_path, monkeypatch)


def fetch(repository: SignedRepository, destination: Path, ref: str = REF) -> None:
    index = repository.releases.index_file
    reconciler.fetch(ref, destination, index=index, sources=Sources(stores=[repository.store]), cache=False)


def test_a_signed_release_is_fetched(repository: SignedRepository, tmp_path: Path) -> None:
    fetch(repository, tmp_path / "out")
    assert (tmp_path / "out/model.bin").read_bytes() == WEIGHTS


def test_an_unsigned_release_is_refused_before_a_source_is_opened(
    repository: SignedRepository, tmp_path: Path
) -> None:
    (repository.signatures() / "release.sigstore.json").unlink()
    nowhere = Sources(gateways=["http://127.0.0.1:9"])
    with pytest.raises(TrustError, match="is not signed"):
        reconciler.fetch(REF, tmp_path / "out", index=repository.releases.index_file, sources=nowhere)
    assert not (tmp_path / "out").exists()


RULES: dict[str, tuple[dict[str, object], bool]] = {
    "no rule": ({"models": ["other/*"]}, True),
    "another key": ({"signed_by": [{"key": "1.pem"}]}, False),
    "one of two keys": ({"signed_by": [{"key": "1.pem"}, {"key": "0.pem"}]}, True),
    "both of two keys": ({"signed_by": [{"key": "1.pem"}, {"key": "0.pem"}], "threshold": 2}, False),
    "a key that expired": ({"signed_by": [{"key": "0.pem", "until": "2020-01-01"}]}, False),
    "any spelling of the name": ({"models": ["ACME/LLM"], "signed_by": [{"key": "1.pem"}]}, False),
    "all models": ({"models": ["*"], "signed_by": [{"key": "1.pem"}]}, False),
    "the index by its path": ({"index": "{index}", "signed_by": [{"key": "1.pem"}]}, False),
    "the index by its repository": ({"index": "{root}", "signed_by": [{"key": "1.pem"}]}, False),
    "another index": ({"index": "https://other.example/*", "signed_by": [{"key": "1.pem"}]}, True),
    "off": ({"mode": "off", "signed_by": [{"key": "1.pem"}]}, True),
    "warn": ({"mode": "warn", "signed_by": [{"key": "1.pem"}]}, True),
    "provenance": ({"provenance": {}}, True),
    "provenance of another builder": ({"provenance": {"builder": "https://other.example"}}, False),
}


@pytest.mark.parametrize("case", RULES)
def test_the_first_rule_that_covers_a_release_decides(
    repository: SignedRepository, tmp_path: Path, case: str
) -> None:
    fields, accepted = RULES[case]
    repository.accept(1)
    places = {"{index}": str(repository.releases.index_file), "{root}": str(repository.releases.root)}
    rule = {**repository.accept(), **fields}
    rule["index"] = places.get(str(rule.get("index")), rule.get("index", "*"))
    if rule["index"] == "*":
        del rule["index"]
    repository.trust(rule, {"mode": "off"})
    if accepted:
        fetch(repository, tmp_path / "out")
    else:
        with pytest.raises(TrustError):
            fetch(repository, tmp_path / "out")


def test_a_rule_that_warns_says_so(repository: SignedRepository) -> None:
    (repository.signatures() / "release.sigstore.json").unlink()
    repository.trust(repository.accept(mode="warn"))
    sources = Sources(stores=[repository.store])
    with open_ref(find_index(index=str(repository.releases.index_file)), REF, sources, QUIET) as opened:
        assert "is not signed" in opened.warnings[0]
        assert opened.signers == ()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"signed_by": []}], "signed_by"),
        ([{}], "'signed_by' must have 1 to 8 signers"),
        ([{"signed_by": [{"key": "a", "identity": "b"}]}], "a signer has identity and key"),
        ([{"signed_by": [{"identity": "b"}]}], "a signer has identity"),
        ([{"signed_by": [{"issuer": "b"}]}], "a signer has issuer"),
        ([{"signed_by": [{}]}], "a signer has nothing"),
        ([{"signed_by": [{"key": "a", "until": "soon"}]}], "'until' is 'soon'"),
        ([{"signed_by": [{"key": "a"}], "threshold": 2}], "'threshold' must be from 1 to the 1 signers"),
        ([{"signed_by": [{"key": "a"}, {"key": "a"}], "threshold": 2}], "from 1 to the 1 signers"),
        ([{"signed_by": [{"key": "a"}], "mode": "maybe"}], "mode"),
        ([{"signed_by": [{"key": "a"}], "model": ["x"]}], "model"),
    ],
)
def test_an_invalid_rule_is_an_error_with_its_line(
    repository: SignedRepository, tmp_path: Path, rules: list[dict[str, object]], message: str
) -> None:
    """A rule that cannot be read must not count as no rule."""
    repository.trust(*rules)
    with pytest.raises(InvalidIndexError, match=message):
        fetch(repository, tmp_path / "out")


def test_a_key_that_cannot_be_read_is_an_error(repository: SignedRepository, tmp_path: Path) -> None:
    (repository.config.parent / "0.pem").unlink()
    with pytest.raises(UsageError, match="cannot read"):
        fetch(repository, tmp_path / "out")


def test_two_files_with_one_key_are_one_signer(repository: SignedRepository, tmp_path: Path) -> None:
    repository.accept(0)
    (repository.config.parent / "same.pem").write_bytes(public_key(0).pem)
    signers = [{"key": "0.pem"}, {"key": "same.pem"}]
    repository.trust({"models": ["acme/*"], "signed_by": signers, "threshold": 2})
    with pytest.raises(UsageError, match="of 1 distinct signers"):
        fetch(repository, tmp_path / "out")


def test_a_cid_is_judged_as_the_version_that_has_it(repository: SignedRepository, tmp_path: Path) -> None:
    cid = str(repository.releases.cid(REF))
    fetch(repository, tmp_path / "out", cid)
    repository.accept(1)
    repository.trust(repository.accept(1))
    with pytest.raises(TrustError):
        fetch(repository, tmp_path / "other", cid)


def test_a_rule_for_everything_refuses_content_of_no_index(
    repository: SignedRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cid, sources = str(repository.releases.cid(REF)), Sources(stores=[repository.store])
    reconciler.fetch(cid, tmp_path / "out", sources=sources, cache=False)
    repository.trust(repository.accept(models=["*"]))
    with pytest.raises(TrustError, match="is not a version of an index that was read"):
        reconciler.fetch(cid, tmp_path / "other", sources=sources, cache=False)


def test_lock_refuses_and_a_locked_cid_is_judged_again(repository: SignedRepository) -> None:
    index = load_index(repository.releases.index_file)
    layout = find_index(index=str(repository.releases.index_file))
    assert lock_reference(layout, index, REF, offline=False)[0].version == "1.0.0"
    (repository.signatures() / "release.sigstore.json").unlink()
    with pytest.raises(TrustError):
        lock_reference(layout, index, REF, offline=False)
    sources, cid = Sources(stores=[repository.store]), str(repository.releases.cid(REF))
    for known in (layout, None):
        with pytest.raises(TrustError), open_ref(known, cid, sources, QUIET, named=("acme/llm", "1.0.0")):
            pass


# -- a server


def test_a_server_answers_from_accepted_versions_only(
    repository: SignedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    release = repository.signatures("1.1.0") / "release.sigstore.json"
    data = release.read_bytes()
    release.unlink()
    index = str(repository.releases.index_file)
    served = AcceptedReleases(
        lambda: find_index(index=index), lambda layout: load_index(layout.index_file), said.append
    )
    for _ in range(2):
        assert list(served().models["acme/llm"].versions) == ["1.0.0"]
    assert said == ["not served: acme/llm@1.1.0 is not signed, and a trust rule demands a signature"]
    release.write_bytes(data)
    assert list(served.refused()) == ["acme/llm@1.1.0"], "and it is not asked for again at once"
    assert len(served().models["acme/llm"].versions) == 1
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert len(served().models["acme/llm"].versions) == 2
    assert not served.refused()
    repository.trust()
    assert served() == load_index(repository.releases.index_file)


# -- a remote index


def served(repository: SignedRepository, *, broken: bool = False) -> tuple[object, str]:
    root = repository.releases.root

    def answer(asked: Asked) -> Said:
        path = root / asked.target.lstrip("/")
        if broken and "signatures" in asked.target:
            return Said(403)
        return Said(200, path.read_bytes()) if path.is_file() else Said(404)

    return http_peer(answer), "/releases/index.yaml"


def fetch_remote(peer: HttpPeer, repository: SignedRepository, destination: Path, ref: str = REF) -> None:
    sources = Sources(stores=[repository.store])
    reconciler.fetch(ref, destination, index=f"{peer.url}/releases/index.yaml", sources=sources, cache=False)


def test_the_signatures_of_a_remote_index_are_read_beside_it(
    repository: SignedRepository, tmp_path: Path
) -> None:
    context, _ = served(repository)
    with context as peer:  # type: ignore[attr-defined]
        fetch_remote(peer, repository, tmp_path / "out")
        folder = public_key(0).id[:16]
        assert [asked.target for asked in peer.asked] == [
            "/releases/index.yaml",
            "/releases/log/checkpoint",
            f"/releases/signatures/acme/llm/1.0.0/{folder}/release.sigstore.json",
        ]
        layout = find_index(index=f"{peer.url}/releases/index.yaml", offline=True)
    check = trust_check(layout, load_index(layout.index_file), offline=True)
    outcome = check.require("acme/llm", "1.0.0", repository.releases.cid(REF))
    assert outcome.signers == ("0.pem",), "without a connection, as they were read before"
    with pytest.raises(TrustError, match="is not signed"):
        check.require("acme/llm", "1.1.0", repository.releases.cid("acme/llm@1.1.0"))


@pytest.mark.parametrize("wrong", [False, True])
def test_a_refusal_takes_few_requests_and_little_time(
    repository: SignedRepository, tmp_path: Path, wrong: bool
) -> None:
    """At most 10 requests for eight signers; the size of the release does not matter, as no block is read."""
    for number in range(8):
        repository.accept(number)
        place = repository.signatures(number=number)
        if wrong:
            place.mkdir(parents=True, exist_ok=True)
            (place / "release.sigstore.json").write_bytes(bundle(number))
        elif number == 0:
            (place / "release.sigstore.json").unlink()
    repository.trust(repository.accept(signed_by=[{"key": f"{number}.pem"} for number in range(8)]))
    context, _ = served(repository)
    with context as peer:  # type: ignore[attr-defined]
        began = time.process_time()
        with pytest.raises(TrustError):
            fetch_remote(peer, repository, tmp_path / "out")
        assert len(peer.asked) <= 10
        assert time.process_time() - began < 0.5
    assert not (tmp_path / "out").exists()


def test_signatures_that_cannot_be_asked_for_refuse_the_release(
    repository: SignedRepository, tmp_path: Path
) -> None:
    context, _ = served(repository, broken=True)
    with context as peer, pytest.raises(TrustError, match="and a trust rule demands them"):  # type: ignore[attr-defined]
        fetch_remote(peer, repository, tmp_path / "out")


def test_altered_bytes_of_a_signed_release_are_refused_at_the_altered_block(
    repository: SignedRepository, tmp_path: Path
) -> None:
    car = repository.store / "cars" / f"{repository.releases.cid(REF)}.car"
    data = bytearray(car.read_bytes())
    data[data.index(WEIGHTS[2_000_000:2_000_064])] ^= 1
    car.write_bytes(data)
    with pytest.raises(BlockUnavailableError, match="bafkrei"):
        fetch(repository, tmp_path / "out")
    assert not (tmp_path / "out").exists()
