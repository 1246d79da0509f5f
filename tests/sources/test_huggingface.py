"""Hugging Face repositories as sources, against a hub that the real client accepts."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import replace
from typing import ClassVar

import pytest

from reconciler.content.lfs_pointer import LfsPointer
from reconciler.errors import UsageError
from reconciler.sources.hub import hub_auth, parse_location
from reconciler.sources.interface import (
    HUGGING_FACE,
    SourceDefinition,
    SourceKind,
    SourceMissingError,
    SourceRefusedError,
)
from reconciler.sources.open import open_source
from reconciler.sources.verify import ContentVerifier
from tests.conformance.sources import FILES, SourceSuite
from tests.support.hub_server import Hub, HubRepository, hub_server

TOKEN = "hf_NeverPrintedAnywhere"
NAME = "acme/My-LLM-7B"


class HubSubject:
    def __init__(self, hub: Hub, root=None) -> None:
        self.hub = hub
        self.files = dict(FILES)
        self.commit = hub.add(HubRepository.make(NAME, self.files)).commit

    def open(self, name: str = NAME, revision: str = "", environ=None):
        environ = {"HF_ENDPOINT": self.hub.url, "HF_TOKEN": TOKEN} if environ is None else environ
        return open_source(HUGGING_FACE, f"{name}@{revision or self.commit}", root=None, environ=environ)

    def open_missing(self):
        return self.open("acme/absent")

    def put(self, path: str, data: bytes) -> None:
        self.files[path] = data
        self.commit = self.hub.add(HubRepository.make(NAME, self.files)).commit

    def make_unreachable(self) -> None:
        def refuse(kind, asked, sent):
            return sent.but(status=503, body=b"", headers={"Location": None})

        self.hub.lie = refuse


@pytest.fixture
def hub():
    with hub_server() as hub:
        hub.token = TOKEN
        yield hub


@pytest.fixture
def subject(hub):
    return HubSubject(hub)


class TestHuggingFace(SourceSuite):
    secret: ClassVar = TOKEN

    @pytest.fixture
    def subject(self, subject):
        return subject


def test_the_real_client_accepts_the_hub_and_gives_the_same_files(hub, subject, tmp_path):
    import huggingface_hub

    found = huggingface_hub.snapshot_download(
        NAME, endpoint=hub.url, token=TOKEN, revision=subject.commit, local_dir=tmp_path / "snapshot"
    )
    api = huggingface_hub.HfApi(endpoint=hub.url, token=TOKEN)
    theirs = {
        entry.path: (entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in api.list_repo_tree(NAME, revision=subject.commit, recursive=True)
        if hasattr(entry, "blob_id")
    }
    with closing(subject.open()) as source:
        files = source.list().files
        for file in files:
            with open(f"{found}/{file.path}", "rb") as downloaded:
                assert b"".join(source.read(file)) == downloaded.read()
    assert theirs == {f.path: (f.size, (f.digests.sha256 or f.digests.git_blob).hex()) for f in files}


def test_the_token_goes_to_the_endpoint_and_never_to_storage(hub, subject):
    with closing(subject.open()) as source:
        for file in source.list().files:
            b"".join(source.read(file))
    assert hub.server.sent_headers("authorization") == {f"Bearer {TOKEN}"}
    assert hub.storage.asked
    assert hub.storage.sent_headers("authorization") == set()
    assert hub.storage.sent_headers("cookie") == set()


def test_a_file_in_lfs_has_the_id_of_its_pointer(subject):
    with closing(subject.open()) as source:
        file = next(file for file in source.list().files if file.path == "model.safetensors")
    assert file.digests.sha256 == hashlib.sha256(FILES[file.path]).digest()
    assert file.digests.lfs_pointer == LfsPointer(file.digests.sha256, file.size).git_blob
    assert file.digests.git_blob is None


def test_the_address_of_storage_is_asked_for_once(hub, subject):
    with closing(subject.open()) as source:
        file = next(file for file in source.list().files if file.path == "model.safetensors")
        for start in range(0, file.size, 100_000):
            assert b"".join(source.read(file, start, 5)) == FILES[file.path][start : start + 5]
    assert hub.requests("resolve") == 1


def test_an_expired_address_is_asked_for_again_at_the_same_offset(hub, subject):
    """The connection breaks in the middle of the file, and its address has expired by then."""
    cut = 300_000

    def lie(kind, asked, sent):
        if kind == "storage" and len(hub.storage.asked) == 1:
            hub.expires = 3600
            return sent.but(cut=cut)
        if kind == "storage" and len(hub.storage.asked) == 2:
            return sent.but(status=403, body=b"<Error><Code>AccessDenied</Code></Error>")
        return sent

    hub.lie = lie
    with closing(subject.open()) as source:
        file = next(file for file in source.list().files if file.path == "model.safetensors")
        verifier = ContentVerifier(source.name, file)
        for piece in source.read(file):
            verifier.update(piece)
        verifier.finish()
    ranges = [asked.headers.get("range") for asked in hub.storage.asked]
    assert ranges == [None, f"bytes={cut}-{file.size - 1}", f"bytes={cut}-{file.size - 1}"]
    assert hub.requests("resolve") == 2


def test_twenty_thousand_files_are_listed_by_pages(hub):
    files = {f"shards/{number // 500}/part-{number}.bin": b"%d" % number for number in range(20_000)}
    repository = hub.add(HubRepository.make("acme/many", files, large=5))
    subject = HubSubject(hub)
    with closing(subject.open("acme/many", repository.commit)) as source:
        assert len(source.list().files) == 20_000
    assert hub.requests("tree") == 20


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ({"cardData": {"license": "apache-2.0"}}, "apache-2.0"),
        ({"tags": ["gguf", "license:mit"]}, "mit"),
        ({"cardData": None}, ""),
    ],
)
def test_upstream_resolves_a_branch_and_states_the_license(hub, subject, card, license):  # noqa: A002
    hub.add(replace(HubRepository.make(NAME, FILES), info=card))
    with closing(subject.open(revision="main")) as source:
        state = source.upstream("main")
        assert (state.repository, state.commit, state.license) == (NAME, subject.commit, license)
        with pytest.raises(UsageError, match="'main' is a branch or a tag"):
            source.list()


def test_a_renamed_repository_is_followed_and_named(hub, subject):
    def lie(kind, asked, sent):
        if "acme/Old" in asked.target:
            return sent.but(
                status=307, body=b"", headers={"Location": asked.target.replace("acme/Old", NAME)}
            )
        return sent

    hub.lie = lie
    with closing(subject.open("acme/Old")) as source:
        assert source.upstream(subject.commit).repository == NAME
        assert len(source.list().files) == len(FILES)


@pytest.mark.parametrize(
    "location",
    [
        "acme",
        "acme/a/b@main",
        "../x@main",
        "acme/x@",
        "acme/..@main",
        "https://x/y@main",
        "a/b@c@d",
        "a/b@../x",
    ],
)
def test_an_invalid_location_is_refused(location):
    with pytest.raises(UsageError, match="names no repository"):
        parse_location(location)


def test_datasets_have_paths_of_their_own():
    found = parse_location("datasets/acme/corpus@main")
    assert found.api == "/api/datasets/acme/corpus"
    assert found.resolve("a b/c+d.bin") == "/datasets/acme/corpus/resolve/main/a%20b/c%2Bd.bin"


def test_a_declared_hub_gets_only_the_token_that_it_names():
    mirror = SourceDefinition("mirror", SourceKind.HUGGING_FACE, url="https://hub.example")
    environ = {"HF_TOKEN": TOKEN, "HUB_TOKEN": "other-token"}
    assert hub_auth(mirror, environ) is None
    named = hub_auth(replace(mirror, token_env="HUB_TOKEN"), environ)
    assert named is not None and named.secret.reveal() == "other-token"
    with pytest.raises(UsageError, match="'ABSENT' is not set"):
        hub_auth(replace(mirror, token_env="ABSENT"), environ)


def test_the_token_of_a_login_is_used_for_the_built_in_hub(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_stored")
    found = hub_auth(HUGGING_FACE, {})
    assert found is not None and found.secret.reveal() == "hf_stored"
    assert hub_auth(HUGGING_FACE, {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}) is None


@pytest.mark.parametrize(
    ("status", "headers", "error", "message"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, SourceRefusedError, "is gated"),
        (403, {"X-Error-Code": "GatedRepo"}, SourceRefusedError, "is gated"),
        (401, {"X-Error-Code": "RepoNotFound"}, SourceRefusedError, "or it is private"),
        (404, {"X-Error-Code": "RepoNotFound"}, SourceMissingError, "or it is private"),
        (404, {"X-Error-Code": "RevisionNotFound"}, SourceMissingError, "no such revision"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, SourceRefusedError, "is disabled"),
        (401, {"X-Error-Message": "Invalid credentials"}, SourceRefusedError, "denies access .*Invalid"),
        (403, {}, SourceRefusedError, "denies access"),
        (404, {}, SourceMissingError, "does not exist"),
        (410, {}, SourceMissingError, "does not exist"),
        (451, {}, SourceRefusedError, "denies access"),
    ],
)
def test_a_refusal_has_its_own_outcome(hub, subject, status, headers, error, message):
    hub.lie = lambda kind, asked, sent: sent.but(status=status, body=TOKEN.encode(), headers=headers)
    with closing(subject.open()) as source, pytest.raises(error, match=message) as caught:
        source.list()
    assert TOKEN not in f"{caught.value!r} {caught.value} {caught.value.hint}"


def test_a_private_repository_without_a_token_says_how_to_set_one(hub, subject):
    environ = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    with closing(subject.open(environ=environ)) as source, pytest.raises(SourceRefusedError) as caught:
        source.list()
    assert "set HF_TOKEN" in (caught.value.hint or "")
