"""A git server on loopback (dulwich) that requires a password, and its bare repository."""

from __future__ import annotations

import base64
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIServer, make_server

from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import WSGIRequestHandlerLogger, make_wsgi_chain


class QuietHandler(WSGIRequestHandlerLogger):
    def log_message(self, *args):
        pass


class BareRepository:
    """A bare repository on disk that a person changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._merged: dict[tuple[str | None, str | None], bool] = {}

    @classmethod
    def make(cls, path: Path, files: Mapping[str, bytes]) -> BareRepository:
        """Create a repository whose branch `main` contains `files`."""
        self = cls(path)
        self.run("init", "-q", "--bare", "--template=", "-b", "main", str(path), cwd=path.parent)
        self.run("config", "user.name", "A Person")
        self.run("config", "user.email", "person@example.org")
        self.push("main", files, message="start")
        return self

    def copy(self, path: Path) -> BareRepository:
        """Copy the repository, which is faster than creating another."""
        shutil.copytree(self.path, path)
        return BareRepository(path)

    def run(self, *command: str, stdin: bytes = b"", cwd: Path | None = None, env=None) -> str:
        done = subprocess.run(
            ["git", *command], cwd=cwd or self.path, input=stdin, capture_output=True, check=True, env=env
        )
        return done.stdout.decode().strip()

    def push(
        self, branch: str, files: Mapping[str, bytes], *, onto: str | None = None, message="by hand"
    ) -> str:
        parent = onto or self.tip(branch)
        entries = self.run("ls-tree", "-r", "-z", parent).split("\0") if parent else []
        kept = [line for line in entries if line and line.partition("\t")[2] not in files]
        kept = [line.replace(" blob ", " ", 1) for line in kept]
        for path, data in files.items():
            sha = self.run("hash-object", "-w", "--stdin", stdin=data)
            kept.append(f"100644 {sha}\t{path}")
        index = self.path / "by-hand-index"
        env = {"GIT_INDEX_FILE": str(index), "PATH": "/usr/bin:/bin:/usr/local/bin"}
        self.run(
            "update-index",
            "-z",
            "--index-info",
            stdin="".join(f"{line}\0" for line in kept).encode(),
            env=env,
        )
        tree = self.run("write-tree", env=env)
        index.unlink()
        parents = ["-p", parent] if parent else []
        sha = self.run("commit-tree", *parents, "-m", message, tree)
        self.run("update-ref", f"refs/heads/{branch}", sha)
        return sha

    def tip(self, branch: str) -> str | None:
        loose = self.path / "refs" / "heads" / branch
        return loose.read_text().strip() if loose.is_file() else None  # nothing packs refs here

    def delete(self, branch: str) -> None:
        self.run("update-ref", "-d", f"refs/heads/{branch}")

    def message(self, commit: str) -> tuple[str, str]:
        author, _, message = self.run("log", "-1", "--format=%an <%ae>%n%B", commit).partition("\n")
        return message.rstrip(), author

    def parents(self, commit: str) -> tuple[str, ...]:
        return tuple(self.run("rev-list", "--parents", "-n", "1", commit).split()[1:])

    def files(self, branch: str) -> dict[str, bytes]:
        names = self.run("ls-tree", "-r", "-z", "--name-only", f"refs/heads/{branch}").split("\0")
        found = {}
        for name in filter(None, names):
            done = subprocess.run(
                ["git", "cat-file", "blob", f"refs/heads/{branch}:{name}"],
                cwd=self.path,
                capture_output=True,
                check=True,
            )
            found[name] = done.stdout
        return found

    def is_merged(self, branch: str, into: str) -> bool:
        tips = self.tip(branch), self.tip(into)
        if tips not in self._merged:
            self._merged[tips] = self._is_ancestor(branch, into)
        return self._merged[tips]

    def _is_ancestor(self, branch: str, into: str) -> bool:
        done = subprocess.run(
            ["git", "merge-base", "--is-ancestor", f"refs/heads/{branch}", f"refs/heads/{into}"],
            cwd=self.path,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def merge(self, branch: str, into: str, *, squash: bool) -> None:
        """Merge three ways like a forge; there are no conflicts in these tests."""
        head, base = self.tip(branch), self.tip(into)
        assert head and base
        tree = self.run("merge-tree", "--write-tree", base, head).splitlines()[0]
        parents = ["-p", base] if squash else ["-p", base, "-p", head]
        sha = self.run("commit-tree", *parents, "-m", "Merge", tree)
        self.run("update-ref", f"refs/heads/{into}", sha)


class Gate:
    """A WSGI filter that checks the password, fails on demand, and records the requests."""

    def __init__(self, application, password: str) -> None:
        self.application = application
        self.password = password
        self.asked: list[tuple[str, str]] = []
        self.before_push = None
        self.status = ""

    def __call__(self, environ, start_response):
        self.asked.append((environ["PATH_INFO"], environ.get("QUERY_STRING", "")))
        if self.status:
            start_response(self.status, [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return [b""]
        sent = environ.get("HTTP_AUTHORIZATION", "")
        wanted = "Basic " + base64.b64encode(f"oauth2:{self.password}".encode()).decode()
        if sent != wanted:
            headers = [("WWW-Authenticate", 'Basic realm="git"'), ("Content-Length", "0")]
            start_response("401 Unauthorized", headers)
            return [b""]
        if environ["PATH_INFO"].endswith("/git-receive-pack") and self.before_push is not None:
            act, self.before_push = self.before_push, None
            act()
        return self.application(environ, start_response)


@contextmanager
def serve(repository: BareRepository, password: str) -> Iterator[tuple[str, Gate]]:
    """Serve the repository over HTTP; yield its URL and the gate."""
    with Repo(str(repository.path)) as repo:
        gate = Gate(make_wsgi_chain(DictBackend({"/o/r.git": repo})), password)
        server = make_server("127.0.0.1", 0, gate, handler_class=QuietHandler, server_class=WSGIServer)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/o/r.git", gate
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
