"""Git LFS as a source, with repositories of the real git and git-lfs, and a server that git-lfs pushes to."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from reconciler.content.lfs_pointer import LfsPointer, parse_pointer
from reconciler.errors import SourceChangedError, UsageError
from reconciler.git.runner import GitRunner
from reconciler.sources.interface import (
    KnownDigests,
    ListedFile,
    SourceDefinition,
    SourceError,
    SourceKind,
    SourceMismatchError,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceUnavailableError,
)
from reconciler.sources.lfs_remote import find_remote
from reconciler.sources.open import open_source
from reconciler.sources.verify import ContentVerifier
from tests.conformance.sources import FILES, SourceSuite, requested
from tests.support.lfs_peer import PASSWORD, USER, LfsPeer, lfs_peer

pytestmark = pytest.mark.git_lfs
WEIGHTS = "model.safetensors"


def git(directory: Path, *command: str) -> bytes:
    return subprocess.run(["git", *command], cwd=directory, check=True, capture_output=True).stdout


class LfsSubject:
    """A repository whose objects are on a server only."""

    def __init__(self, root: Path, peer: LfsPeer) -> None:
        self.root = root / "repo"
        self.peer = peer
        self.definition = SourceDefinition("lfs", SourceKind.LFS, url=peer.url, token_env="LFS_TOKEN")
        self.environ = {"LFS_TOKEN": f"{USER}:{PASSWORD}"}

    @classmethod
    def make(cls, root: Path, peer: LfsPeer) -> LfsSubject:
        found = cls(root, peer)
        git(root, "init", "-q", "--bare", "remote.git")
        git(root, "init", "-q", "repo")
        git(found.root, "lfs", "install", "--local")
        git(found.root, "remote", "add", "origin", str(root / "remote.git"))
        for path, data in FILES.items():
            found.write(path, data)
        found.commit()
        return found

    def write(self, path: str, data: bytes) -> None:
        file = self.root / "weights" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def commit(self) -> None:
        address = self.peer.url.replace("://", f"://{USER}:{PASSWORD}@")
        git(self.root, "add", ".")
        git(self.root, "commit", "-qm", "Add weights")
        git(
            self.root,
            "-c",
            f"lfs.url={address}",
            "-c",
            "lfs.locksverify=false",
            "push",
            "-q",
            "origin",
            "HEAD",
        )
        shutil.rmtree(self.root / ".git/lfs/objects", ignore_errors=True)

    def open(self, location: str = "weights"):
        return open_source(self.definition, location, root=self.root, environ=self.environ)

    def open_missing(self):
        return self.open("absent")

    def put(self, path: str, data: bytes) -> None:
        self.write(path, data)
        self.commit()

    def make_unreachable(self) -> None:
        self.peer.lie = lambda kind, asked, sent: sent.but(status=503, body=b"")


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A repository that was pushed once, and the objects of its server."""
    root = tmp_path_factory.mktemp("lfs")
    with lfs_peer() as peer:
        LfsSubject.make(root, peer)
        assert hashlib.sha256(FILES[WEIGHTS]).hexdigest() in peer.objects
        return root, dict(peer.objects)


@pytest.fixture
def subject(pushed, tmp_path):
    shutil.copytree(pushed[0], tmp_path, dirs_exist_ok=True)
    with lfs_peer() as peer:
        peer.objects.update(pushed[1])
        subject = LfsSubject(tmp_path, peer)
        git(subject.root, "remote", "set-url", "origin", str(tmp_path / "remote.git"))
        yield subject


class TestLfs(SourceSuite):
    secret: ClassVar = PASSWORD

    @pytest.fixture
    def subject(self, subject):
        return subject


def weights(source) -> ListedFile:
    return next(file for file in source.list().files if file.path == WEIGHTS)


def test_a_pointer_is_listed_with_the_digest_of_its_object(subject):
    with closing(subject.open()) as source:
        file = weights(source)
        text = git(subject.root, "cat-file", "blob", f"HEAD:weights/{WEIGHTS}")
        assert parse_pointer(text) == LfsPointer(file.digests.sha256, file.size)
        assert LfsPointer(file.digests.sha256, file.size).git_blob == file.digests.lfs_pointer
        assert source.list().revision == git(subject.root, "rev-parse", "HEAD:weights").decode().strip()
    assert subject.peer.server.asked == []


def test_an_object_on_this_machine_is_read_without_the_server(subject):
    data = FILES[WEIGHTS]
    oid = hashlib.sha256(data).hexdigest()
    place = subject.root / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    with closing(subject.open()) as source:
        assert b"".join(source.read(weights(source), 7)) == data[7:]
    assert subject.peer.server.asked == []
    place.write_bytes(data[:-1])  # an interrupted download of another program
    with closing(subject.open()) as source:
        assert b"".join(source.read(weights(source))) == data
    assert subject.peer.storage.asked


def test_a_file_outside_of_lfs_is_read_from_git_once_for_all_its_ranges(subject, monkeypatch):
    """Git gives it only as a whole, so each request would have all of it in memory."""
    asked = []
    run = GitRunner.run

    def noted(git, *words, **more):
        asked.append(words[:2])
        return run(git, *words, **more)

    monkeypatch.setattr(GitRunner, "run", noted)
    with closing(subject.open()) as source:
        file = next(file for file in source.list().files if file.digests.sha256 is None and file.size > 2)
        asked.clear()
        with (
            closing(source.request(file, 0, 1)) as first,
            closing(source.request(file, 1, file.size)) as rest,
        ):
            found = requested(first, 100) + requested(rest, file.size)
    assert found == FILES[file.path]
    assert asked == [("cat-file", "blob")]


def test_the_objects_of_a_remote_on_this_machine_are_read(subject, tmp_path):
    git(subject.root, "config", "lfs.url", "")
    oid = hashlib.sha256(FILES[WEIGHTS]).hexdigest()
    place = tmp_path / "remote.git/lfs/objects" / oid[:2] / oid[2:4] / oid
    place.parent.mkdir(parents=True)
    place.write_bytes(FILES[WEIGHTS])
    with closing(
        open_source(SourceDefinition("lfs", SourceKind.LFS), "weights", root=subject.root, environ={})
    ) as found:
        assert b"".join(found.read(weights(found))) == FILES[WEIGHTS]


def test_the_working_tree_is_not_touched(subject):
    (subject.root / "weights" / WEIGHTS).write_bytes(b"not committed")
    before = git(subject.root, "status", "--porcelain")
    with closing(subject.open()) as source:
        assert b"".join(source.read(weights(source))) == FILES[WEIGHTS]
    assert git(subject.root, "status", "--porcelain") == before
    assert not (subject.root / ".git/lfs/objects").exists()


def test_an_earlier_commit_is_a_revision_of_its_own(subject):
    commit = git(subject.root, "rev-parse", "HEAD").decode().strip()
    subject.put(WEIGHTS, b"the next version")
    with closing(subject.open(f"weights@{commit}")) as source:
        assert b"".join(source.read(weights(source))) == FILES[WEIGHTS]


def test_storage_gets_its_own_header_and_never_the_password(subject):
    with closing(subject.open()) as source:
        b"".join(source.read(weights(source)))
    assert subject.peer.server.sent_headers("authorization")
    assert subject.peer.storage.sent_headers("authorization") == set()
    assert len(subject.peer.storage.asked) == 1


@pytest.mark.parametrize("location", ["", ".", "weights/", "weights/a b"])
def test_a_location_may_be_written_in_several_ways(subject, location):
    with closing(subject.open(location)) as source:
        assert {Path(file.path).name for file in source.list().files} >= {"é.txt"}


@pytest.mark.parametrize("location", ["../x", "/etc", "a/../../x"])
def test_a_path_outside_of_the_repository_is_refused(subject, location):
    with pytest.raises(UsageError, match="not a directory of this repository"):
        subject.open(location)


def changed_object(**changes):
    def lie(kind, asked, sent):
        if kind != "batch":
            return sent
        body = json.loads(sent.body)
        for each in body["objects"]:
            each.update(changes)
        return sent.but(body=json.dumps(body).encode())

    return lie


def redirected(target):
    return changed_object(actions={"download": {"href": target}})


def in_storage(**changes):
    return lambda kind, asked, sent: sent.but(**changes) if kind == "storage" else sent


def in_batch(**changes):
    return lambda kind, asked, sent: sent.but(**changes) if kind == "batch" else sent


LIES = {
    "object gone": (
        changed_object(error={"code": 404, "message": "gone"}),
        SourceMissingError,
        "gives no object",
    ),
    "object denied": (
        changed_object(error={"code": 403, "message": "no"}),
        SourceRefusedError,
        "gives no object",
    ),
    "object later": (
        changed_object(error={"code": 503, "message": "no"}),
        SourceUnavailableError,
        "gives no object",
    ),
    "object invalid": (
        changed_object(error={"code": 422, "message": "no"}),
        SourceProtocolError,
        "gives no object",
    ),
    "another size": (changed_object(size=5), SourceProtocolError, "5 bytes on the Git LFS server"),
    "another object": (changed_object(oid="0" * 64), SourceMissingError, "missing in the answer"),
    "no action": (changed_object(actions={}), SourceMissingError, "no download"),
    "file address": (redirected("file:///etc/passwd"), SourceProtocolError, "which is not an address"),
    "address with a user": (
        redirected("http://u:p@127.0.0.1/x"),
        SourceProtocolError,
        "which is not an address",
    ),
    "invalid header": (
        changed_object(actions={"download": {"href": "http://127.0.0.1:1/x", "header": {"X": "a\r\nb: c"}}}),
        SourceProtocolError,
        "invalid header",
    ),
    "other transfer": (
        lambda kind, asked, sent: sent.but(body=b'{"transfer": "ssh", "objects": []}'),
        SourceProtocolError,
        "'ssh' transfers",
    ),
    "no JSON": (
        lambda kind, asked, sent: sent.but(body=b"{"),
        SourceUnavailableError,
        "invalid or truncated JSON",
    ),
    "web page": (lambda kind, asked, sent: sent.but(body=b"<html>"), SourceProtocolError, "a web page"),
    "no server": (lambda kind, asked, sent: sent.but(status=404), SourceMissingError, "no Git LFS server"),
    "redirect": (
        lambda kind, asked, sent: sent.but(status=307, headers={"Location": "http://localhost:1/x"}),
        SourceRefusedError,
        "only its own host and port",
    ),
    "denied in storage": (
        lambda kind, asked, sent: sent.but(status=403) if kind == "storage" else sent,
        SourceRefusedError,
        "also at a new one",
    ),
    "gone in storage": (
        lambda kind, asked, sent: sent.but(status=404) if kind == "storage" else sent,
        SourceMissingError,
        "also at a new one",
    ),
    "truncated in storage": (
        lambda kind, asked, sent: sent.but(body=sent.body[:-9]) if kind == "storage" else sent,
        SourceChangedError,
        "bytes now instead of",
    ),
    "other bytes": (
        lambda kind, asked, sent: sent.but(body=bytes(len(sent.body))) if kind == "storage" else sent,
        SourceMismatchError,
        "does not have its SHA-256",
    ),
    "grown in storage": (
        in_storage(body=FILES[WEIGHTS] + b"more"),
        SourceChangedError,
        "bytes now instead of",
    ),
    "broken off every time": (in_storage(cut=100), SourceUnavailableError, "broke"),
    "another range": (
        in_storage(status=206, headers={"Content-Range": "bytes 5-9/1000"}),
        SourceChangedError,
        "1000 bytes now",
    ),
    "a part without a range": (in_storage(status=206), SourceProtocolError, "without a valid Content-Range"),
    "compressed": (in_storage(headers={"Content-Encoding": "gzip"}), SourceProtocolError, "encoding"),
    "429 in storage": (in_storage(status=429), SourceUnavailableError, "requests a pause"),
    "500 in storage": (in_storage(status=500), SourceUnavailableError, "HTTP 500"),
    "storage leads in a circle": (
        lambda kind, asked, sent: (
            sent.but(status=302, headers={"Location": asked.target}) if kind == "storage" else sent
        ),
        SourceProtocolError,
        "redirects more than 5 times",
    ),
    "storage leads to a file": (
        in_storage(status=302, headers={"Location": "file:///etc/passwd"}),
        SourceProtocolError,
        "which is not an address",
    ),
    "429 for the list of objects": (in_batch(status=429), SourceUnavailableError, "requests a pause"),
    "500 for the list of objects": (in_batch(status=500), SourceUnavailableError, "HTTP 500"),
    "401 for the list of objects": (in_batch(status=401), SourceRefusedError, "HTTP 401"),
}


@pytest.mark.parametrize(("lie", "error", "message"), LIES.values(), ids=LIES)
def test_a_lie_of_the_server_is_found(subject, lie, error, message):
    subject.peer.lie = lie
    with closing(subject.open()) as source:
        file = weights(source)
        verifier = ContentVerifier(source.name, file)
        with pytest.raises(error, match=message) as caught:
            for piece in source.read(file):
                verifier.update(piece)
            verifier.finish()
    assert WEIGHTS in str(caught.value) or isinstance(caught.value, SourceError)
    assert PASSWORD not in f"{caught.value!r} {getattr(caught.value, 'hint', '')}"


@pytest.mark.parametrize("kind", ["batch", "storage"])
@pytest.mark.parametrize(("headers", "pause"), [({}, None), ({"Retry-After": "86400"}, 86400.0)])
def test_the_requested_pause_is_known_to_the_caller(subject, kind, headers, pause):
    change = {"batch": in_batch, "storage": in_storage}[kind]
    subject.peer.lie = change(status=429, headers=headers)
    with closing(subject.open()) as source, pytest.raises(SourceUnavailableError) as caught:
        b"".join(source.read(weights(source)))
    assert caught.value.retry_after == pause


@pytest.mark.parametrize("kind", ["batch", "storage"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_request_of_the_downloader_is_made_once(subject, kind, status):
    """It repeats them itself, when and as often as pays off."""
    change = {"batch": in_batch, "storage": in_storage}[kind]
    subject.peer.lie = change(status=status)
    with closing(subject.open()) as source:
        file = weights(source)
        with pytest.raises(SourceUnavailableError) as caught:
            source.request(file, 0, 1000)
        assert caught.value.overloaded == (status != 500)
    assert len({"batch": subject.peer.server, "storage": subject.peer.storage}[kind].asked) == 1


def test_storage_that_ignores_ranges_changes_no_byte(subject):
    subject.peer.lie = in_storage(status=200, body=FILES[WEIGHTS], headers={"Content-Range": None})
    with closing(subject.open()) as source:
        assert b"".join(source.read(weights(source), 5, 1000)) == FILES[WEIGHTS][5:1005]


def test_an_address_that_has_expired_is_asked_for_again(subject):
    def lie(kind, asked, sent):
        if kind == "storage" and len(subject.peer.storage.asked) == 1:
            return sent.but(cut=100_000)
        if kind == "storage" and len(subject.peer.storage.asked) == 2:
            return sent.but(status=403, body=b"")
        return sent

    subject.peer.lie = lie
    with closing(subject.open()) as source:
        assert b"".join(source.read(weights(source))) == FILES[WEIGHTS]
    assert len(subject.peer.server.asked) == 2
    assert subject.peer.storage.asked[-1].headers["range"].startswith("bytes=100000-")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"version https://git-lfs.github.com/spec/v2\noid sha256:" + b"0" * 64 + b"\nsize 1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 63 + b"\nsize 1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize -1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n" + b" " * 1024,
        b"version \xff\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"A" * 64 + b"\nsize 1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 01\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize +1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1e3\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\nsize 2\n",
        b"version https://git-lfs.github.com/spec/v1\noid md5:" + b"0" * 32 + b"\nsize 1\n",
        b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n",
    ],
)
def test_other_texts_are_no_pointers(text):
    assert parse_pointer(text) is None


def test_a_pointer_with_extensions_is_refused(subject):
    pointer = LfsPointer(hashlib.sha256(b"x").digest(), 1).render()
    text = pointer.replace(b"oid", b"ext-0-crypt sha256:" + b"0" * 64 + b"\noid", 1)
    subject.write("extended.bin", text)
    git(subject.root, "add", ".")
    git(subject.root, "commit", "-qm", "Add an extension")
    with (
        closing(subject.open()) as source,
        pytest.raises(SourceProtocolError, match=r"'extended\.bin' has a pointer with"),
    ):
        source.list()


def test_a_link_in_the_tree_is_refused(subject):
    (subject.root / "weights/link").symlink_to("config.json")
    git(subject.root, "add", ".")
    git(subject.root, "commit", "-qm", "Add a link")
    with (
        closing(subject.open()) as source,
        pytest.raises(SourceProtocolError, match="'link' is a symbolic link"),
    ):
        source.list()


@pytest.mark.parametrize(
    ("remote", "address", "user"),
    [
        ("https://git.example/org/repo", "https://git.example/org/repo.git/info/lfs", None),
        ("https://git.example/org/repo.git", "https://git.example/org/repo.git/info/lfs", None),
        ("https://u:p%40ss@git.example/org/repo", "https://git.example/org/repo.git/info/lfs", "u:p@ss"),
        ("https://u@git.example/org/repo", "https://git.example/org/repo.git/info/lfs", None),
        ("git@git.example:org/repo.git", "https://git.example/org/repo.git/info/lfs", None),
        ("ssh://git@git.example:2222/org/repo.git", "https://git.example/org/repo.git/info/lfs", None),
    ],
)
def test_the_server_is_found_from_the_remote(tmp_path, remote, address, user):
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "remote.origin.url", remote)
    (tmp_path / ".lfsconfig").write_text("[lfs]\n\turl = https://evil.example/\n")
    found = find_remote(GitRunner(tmp_path), SourceDefinition("lfs", SourceKind.LFS))
    assert found.address is not None and found.address.text == address
    assert (found.auth.secret.reveal() if found.auth else None) == user


def test_the_secret_that_git_has_for_the_server_is_used(subject):
    """As actions/checkout stores it: in a header for the host."""
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    host = subject.peer.server.url
    git(subject.root, "config", f"http.{host}/.extraheader", f"AUTHORIZATION: basic {pair}")
    git(subject.root, "config", "lfs.url", subject.peer.url)
    subject.definition = SourceDefinition("lfs", SourceKind.LFS)
    with closing(subject.open()) as source:
        assert b"".join(source.read(weights(source))) == FILES[WEIGHTS]
    assert subject.peer.storage.sent_headers("authorization") == set()


def test_a_server_without_its_secret_is_refused(subject):
    subject.definition = SourceDefinition("lfs", SourceKind.LFS, url=subject.peer.url)
    with closing(subject.open()) as source, pytest.raises(SourceRefusedError, match="denies access"):
        b"".join(source.read(weights(source)))


def test_a_read_of_a_file_of_another_listing_is_missing(subject):
    with closing(subject.open()) as source, pytest.raises(SourceMissingError):
        b"".join(source.read(ListedFile("x", 1, KnownDigests(sha256=bytes(32)))))
