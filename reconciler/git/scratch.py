"""Temporary repositories that exchange commits with one repository on a server.

The caller provides a directory and deletes it. Addresses hold no secret; a credential is a setting, which
git reads from its environment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from reconciler.git.runner import TIME_LIMIT, GitRunner

#: to which a user's `url.<base>.insteadOf` may rewrite the address of a server
_SERVER_PROTOCOLS = ("https", "ssh")
_FETCH_FLAGS = ("--quiet", "--no-tags", "--no-write-fetch-head")


@dataclass(frozen=True, slots=True)
class ScratchRepository:
    """A temporary bare repository whose remote `origin` is the repository at some URL.

    Every method raises GitError. Objects that a filtered fetch left out are fetched when they are read.
    """

    runner: GitRunner

    @classmethod
    def create(
        cls,
        directory: Path,
        url: str,
        *,
        settings: tuple[tuple[str, str], ...] = (),
        time_limit: float = TIME_LIMIT,
    ) -> Self:
        """Create an empty repository in `directory`; create the directory too, if its parent exists."""
        directory.mkdir(exist_ok=True)
        runner = GitRunner(
            directory,
            git_dir=directory,
            protocols=_protocols(url),
            settings=(("remote.origin.url", url), *settings),
            address=url,
            time_limit=time_limit,
        )
        runner.run("init", "--quiet", "--bare", "--template=", str(directory))
        return cls(runner)

    def list_refs(self, *names: str) -> dict[str, str]:
        """Return the object ids of these refs on the server by full name; missing ones are left out."""
        listed = (
            line.partition("\t") for line in self.runner.run("ls-remote", "origin", *names).text.splitlines()
        )
        return {name: oid for oid, _, name in listed if name in names}

    def fetch(self, *refspecs: str, flags: Iterable[str] = ()) -> None:
        """Fetch what `refspecs` name: object ids, or `+SOURCE:DESTINATION`."""
        self.runner.run("fetch", *_FETCH_FLAGS, *flags, "origin", *refspecs)

    def push(self, new: str, ref: str, old: str) -> None:
        """Move `ref` on the server from `old` ("": missing) to `new` ("": delete it).

        The server refuses when the ref is not at `old` (GitFailure.STALE).
        """
        flags = ("--porcelain", "--no-verify", f"--force-with-lease={ref}:{old}")
        self.runner.run("push", *flags, "origin", f"{new}:{ref}")


def _protocols(url: str) -> tuple[str, ...]:
    """Return git's names of the transports that may reach `url`."""
    scheme = url.partition("://")[0]
    if scheme not in ("http", *_SERVER_PROTOCOLS):
        return (scheme,)
    return tuple(dict.fromkeys((scheme, *_SERVER_PROTOCOLS)))
