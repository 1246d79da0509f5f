"""A Hugging Face hub on loopback: the API, `resolve`, and storage on another port behind signed addresses.

The real client accepts it: `snapshot_download` gives the files of a repository. Object ids are those of git.
With `git_root`, the commits are in bare repositories there, as `git clone` sees them. A `lie` replaces
answers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import Repo

from tests.support.http_peer import Asked
from tests.support.scripted_server import ScriptedServer, Sent, ranged, scripted_server

#: gets the part of the server ("info", "tree", "resolve", "storage"), the request and the true answer
Lie = Callable[[str, Asked, Sent], Sent]


def pointer(data: bytes) -> bytes:
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()


@dataclass(frozen=True)
class HubRepository:
    """One repository at one commit; `large` are the paths in Git LFS."""

    name: str
    files: Mapping[str, bytes]
    large: frozenset[str]
    commit: str
    oids: Mapping[str, str]
    info: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def make(
        cls, name: str, files: Mapping[str, bytes], *, large: int = 1024, git_root: Path | None = None, **info
    ) -> HubRepository:
        """Make a repository; files of at least `large` bytes are in Git LFS."""
        in_lfs = frozenset(path for path, data in files.items() if len(data) >= large)
        blobs = {
            path: Blob.from_string(pointer(data) if path in in_lfs else data) for path, data in files.items()
        }
        objects: list[object] = list(blobs.values())
        tree = _tree({tuple(path.encode().split(b"/")): blob.id for path, blob in blobs.items()}, objects)
        commit = Commit()
        commit.tree, commit.message = tree.id, b"Add weights"
        commit.author = commit.committer = b"Test <test@example.com>"
        commit.author_time = commit.commit_time = 1_700_000_000
        commit.author_timezone = commit.commit_timezone = 0
        if git_root is not None:
            place = git_root / name
            place.mkdir(parents=True)
            repo = Repo.init_bare(str(place))
            for each in [*objects, commit]:
                repo.object_store.add_object(each)
            repo.refs[b"refs/heads/main"] = commit.id
            repo.refs.set_symbolic_ref(b"HEAD", b"refs/heads/main")
            config = repo.get_config()
            config.set((b"uploadpack",), b"allowFilter", b"true")
            config.set((b"uploadpack",), b"allowAnySHA1InWant", b"true")
            config.write_to_path()
            repo.close()
        oids = {path: blob.id.decode() for path, blob in blobs.items()}
        return cls(name, files, in_lfs, commit.id.decode(), oids, info)

    def entry(self, path: str) -> dict[str, object]:
        data = self.files[path]
        found: dict[str, object] = {"type": "file", "oid": self.oids[path], "size": len(data), "path": path}
        if path in self.large:
            found["lfs"] = {
                "oid": hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "pointerSize": len(pointer(data)),
            }
        return found


def _tree(entries: Mapping[tuple[bytes, ...], bytes], objects: list[object]) -> Tree:
    below: dict[bytes, dict[tuple[bytes, ...], bytes]] = {}
    tree = Tree()
    for parts, oid in entries.items():
        if len(parts) == 1:
            tree.add(parts[0], 0o100644, oid)
        else:
            below.setdefault(parts[0], {})[parts[1:]] = oid
    for name, rest in below.items():
        tree.add(name, 0o040000, _tree(rest, objects).id)
    objects.append(tree)
    return tree


@dataclass
class Hub:
    """The hub: its address, what it has, and how it answers; `token` is what a private hub requires."""

    url: str = ""
    repositories: dict[str, HubRepository] = field(default_factory=dict)
    branches: dict[tuple[str, str], str] = field(default_factory=dict)
    token: str = ""
    page: int = 1000
    lie: Lie | None = None
    expires: float = 3600.0  # seconds that an address of storage is valid
    server: ScriptedServer = field(default_factory=lambda: ScriptedServer(""))
    storage: ScriptedServer = field(default_factory=lambda: ScriptedServer(""))

    def add(self, repository: HubRepository) -> HubRepository:
        self.repositories[f"{repository.name}@{repository.commit}"] = repository
        self.branches[repository.name, "main"] = repository.commit
        return repository

    def requests(self, part: str) -> int:
        """Return how many requests there were for "tree", "resolve", "revision" or other words of a path."""
        return sum(f"/{part}/" in asked.target for asked in self.server.asked)

    # --- answers

    def answer(self, asked: Asked) -> Sent:
        kind, true = self._true(asked)
        return true if self.lie is None else self.lie(kind, asked, true)

    def answer_storage(self, asked: Asked) -> Sent:
        parts = urlsplit(asked.target)
        sha256 = parts.path.rpartition("/")[2]
        data = {
            hashlib.sha256(repository.files[path]).hexdigest(): repository.files[path]
            for repository in self.repositories.values()
            for path in repository.large
        }
        true = ranged(asked, data[sha256], {"ETag": '"of-the-storage"'})
        if float(parse_qs(parts.query)["Expires"][0]) < time.time():
            true = Sent(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})
        return true if self.lie is None else self.lie("storage", asked, true)

    def _true(self, asked: Asked) -> tuple[str, Sent]:
        parts = urlsplit(asked.target)
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        kind = "info"
        if self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            return kind, _refusal(401, "RepoNotFound")
        if words[0] == "api":
            name, verb, revision = "/".join(words[2:4]), *words[4:6]
            kind = "tree" if verb == "tree" else "info"
        else:
            name, verb, revision = "/".join(words[0:2]), *words[2:4]
            kind = "resolve"
        if not any(each.name == name for each in self.repositories.values()):
            return kind, _refusal(404, "RepoNotFound")
        commit = self.branches.get((name, revision), revision)
        repository = self.repositories.get(f"{name}@{commit}")
        if repository is None:
            return kind, _refusal(404, "RevisionNotFound")
        if kind == "tree":
            return kind, self._tree_page(repository, parts.query)
        if kind == "info":
            siblings = [{"rfilename": path} for path in repository.files]
            info = {"id": name, "sha": commit, "private": bool(self.token), "gated": False, "tags": []}
            return kind, _json({**info, "siblings": siblings, **repository.info})
        return kind, self._resolve(repository, "/".join(words[4:]), asked)

    def _tree_page(self, repository: HubRepository, query: str) -> Sent:
        start = int(parse_qs(query).get("cursor", ["0"])[0])
        paths = sorted(repository.files)
        directories = {path.rpartition("/")[0] for path in paths if "/" in path} if not start else set()
        entries: list[dict[str, object]] = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in sorted(directories)
        ]
        entries += [repository.entry(path) for path in paths[start : start + self.page]]
        headers = {}
        if start + self.page < len(paths):
            url = f"{self.url}/api/models/{repository.name}/tree/{repository.commit}"
            following = f"{url}?recursive=true&expand=false&cursor={start + self.page}"
            headers["Link"] = f'<{following}>; rel="next"'
        return _json(entries).but(headers=headers)

    def _resolve(self, repository: HubRepository, path: str, asked: Asked) -> Sent:
        if path not in repository.files:
            return _refusal(404, "EntryNotFound")
        data = repository.files[path]
        headers = {"X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if path not in repository.large:
            return ranged(asked, data, headers | {"ETag": f'"{repository.oids[path]}"'})
        sha256 = hashlib.sha256(data).hexdigest()
        target = f"{self.storage.url}/signed/{sha256}?Expires={time.time() + self.expires}&Signature=a%2Bb%3D"
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data)), "ETag": f'"{sha256}"'}
        return Sent(302, b"Found", headers | {"Location": target})


def _json(value: object) -> Sent:
    return Sent(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _refusal(status: int, code: str) -> Sent:
    return Sent(status, b'{"error": "refused"}', {"X-Error-Code": code, "Content-Type": "application/json"})


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Run a hub without repositories, and its storage on another port."""
    hub = Hub()
    with scripted_server(hub.answer) as server, scripted_server(hub.answer_storage) as storage:
        hub.url, hub.server, hub.storage = server.url, server, storage
        yield hub
