"""A real Gitea on loopback, in a temporary directory, without mail, registration and external calls."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_START_SECONDS = 60.0
_PASSWORD = "only-for-a-test-0"

_CONFIG = """\
APP_NAME = test
RUN_MODE = prod
RUN_USER = {user}
WORK_PATH = {home}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = {home}/gitea.db
[repository]
ROOT = {home}/repositories
DEFAULT_BRANCH = main
[security]
INSTALL_LOCK = true
SECRET_KEY = test
INTERNAL_TOKEN = {internal}
PASSWORD_HASH_ALGO = pbkdf2$1000$50
[service]
DISABLE_REGISTRATION = true
[log]
MODE = console
LEVEL = Warn
[cron]
ENABLED = false
[indexer]
ISSUE_INDEXER_TYPE = db
[actions]
ENABLED = false
[packages]
ENABLED = false
[federation]
ENABLED = false
[cron.update_checker]
ENABLED = false
"""


@dataclass
class GiteaServer:
    """One server with an administrator, the bot that proposes, and another user."""

    home: Path
    port: int
    tokens: dict[str, str] = field(default_factory=dict)
    _repositories: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.home / "app.ini"

    def command(self, *arguments: str) -> str:
        """Run `gitea …` with the configuration of the server."""
        done = subprocess.run(
            ["gitea", "--config", str(self.config), *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GITEA_WORK_DIR": str(self.home),
            "USER": "git",
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def call(self, method: str, path: str, body: object = None, *, user: str = "owner") -> Any:
        """Call the API as a person, without the code under test."""
        answer = httpx.request(
            method,
            f"{self.url}/api/v1/{path}",
            json=body,
            auth=(user, _PASSWORD),
            timeout=30,
            trust_env=False,
        )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def add_user(self, name: str, *flags: str) -> None:
        self.command(
            "admin", "user", "create", "--username", name, "--password", _PASSWORD,
            "--email", f"{name}@example.org", "--must-change-password=false", *flags,
        )  # fmt: skip

    def make_token(self, name: str, scopes: str) -> str:
        """Create a token with only these scopes."""
        return self.command(
            "admin", "user", "generate-access-token", "--username", name, "--raw",
            "--token-name", f"test-{len(self.tokens)}", "--scopes", scopes,
        ).splitlines()[-1]  # fmt: skip

    def make_repository(self) -> str:
        """Create an empty repository that the bot may write; return owner/name."""
        self._repositories += 1
        name = f"r{self._repositories}"
        self.call("POST", "user/repos", {"name": name, "private": True, "default_branch": "main"})
        for person in ("bot", "person", "stranger"):
            self.call("PUT", f"repos/owner/{name}/collaborators/{person}", {"permission": "write"})
        return f"owner/{name}"

    def git_url(self, repository: str, *, user: str | None = None) -> str:
        """Return the URL for git pushes; with `user`, as that person."""
        who = f"{user}:{_PASSWORD}@" if user else ""
        return f"http://{who}127.0.0.1:{self.port}/{repository}.git"


@contextmanager
def gitea_server(home: Path) -> Iterator[GiteaServer]:
    """Run a server with its users and the token of the bot."""
    home.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = GiteaServer(home, probe.getsockname()[1])
    internal = "x" * 64
    user = os.environ.get("USER") or "root"
    server.config.write_text(_CONFIG.format(home=home, port=server.port, internal=internal, user=user))
    server.command("migrate")
    server.add_user("owner", "--admin")
    for name in ("bot", "person", "stranger"):
        server.add_user(name)
    server.tokens["bot"] = server.make_token("bot", "write:repository,write:issue,read:user")
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            ["gitea", "--config", str(server.config), "web"],
            env=server.environ,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _ready(server):
            assert process.poll() is None, (home / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "Gitea did not start in time"
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(server: GiteaServer) -> bool:
    try:
        return httpx.get(f"{server.url}/api/v1/version", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False
