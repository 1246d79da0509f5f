"""Where the objects of a repository are: the server of Git LFS by its definition, or that of the git remote.

git-lfs also reads `.lfsconfig`. This does not: that file is content of the repository, and could send the
secret of a source to another host.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reconciler.git.runner import GitRunner
from reconciler.net.address import Address, parse_address
from reconciler.net.auth import Auth, Scheme, Secret, from_env
from reconciler.sources.interface import SourceDefinition

_SCP = re.compile(r"(?:[^@/\s]+@)?(?P<host>[A-Za-z0-9.-]+):(?P<path>[^\s/].*)")  # as in git@host:org/repo
_BASIC = re.compile(r"authorization:\s*basic\s+([A-Za-z0-9+/=]+)\s*", re.IGNORECASE)
_USER = "x-access-token"  # forges look at the token only


@dataclass(frozen=True, slots=True)
class LfsRemote:
    """The address of a server with the secret for it, None where there is none, and local directories."""

    address: Address | None = None
    auth: Auth | None = None
    directories: tuple[Path, ...] = ()


def find_remote(
    git: GitRunner, definition: SourceDefinition | None = None, environ: Mapping[str, str] = {}
) -> LfsRemote:
    """Return where the objects of the repository are besides its own directory.

    The address is the url of `definition`, `lfs.url` of git's own configuration, or that of the remote
    `origin`; the secret that of `definition`, or the one that git has for that address. Raises UsageError
    for an address or a variable that cannot be used.
    """
    url = definition.url if definition else ""
    given = bool(url)
    url = url or git.run("config", "--get", "lfs.url", statuses=(1,)).text
    from_remote = not url
    if from_remote:
        url = git.run("config", "--get", "remote.origin.url", statuses=(1,)).text
    directory = _local_path(git.directory, url)
    if directory is not None:
        return LfsRemote(directories=(directory / "lfs/objects", directory / ".git/lfs/objects"))
    if not url or definition is None:
        return LfsRemote()
    address, auth = _server(url, append=from_remote or url.endswith(".git"), given=given)
    auth = auth or _header_auth(git, address)
    if definition.token_env:
        secret = from_env(definition.token_env, environ)
        pair = secret if ":" in secret.reveal() else Secret(f"{_USER}:{secret.reveal()}")
        auth = Auth(Scheme.BASIC, pair)
    return LfsRemote(address, auth)


def _header_auth(git: GitRunner, address: Address) -> Auth | None:
    """Return the user and password that git's configuration has in a header for `address`.

    That is how actions/checkout stores its token.
    """
    text = git.run("config", "--get-urlmatch", "http.extraHeader", address.text, statuses=(1,)).text
    found = _BASIC.fullmatch(text)
    if found is None:
        return None
    try:
        pair = base64.b64decode(found[1], validate=True).decode("ascii")
    except ValueError:
        return None
    return Auth(Scheme.BASIC, Secret(pair)) if ":" in pair else None


def _server(url: str, *, append: bool, given: bool) -> tuple[Address, Auth | None]:
    """Return the address of the server for `url`, and the user and password in it; SSH becomes HTTPS."""
    scp = _SCP.fullmatch(url)
    auth = None
    if scp is not None and "://" not in url:
        url = f"https://{scp['host']}/{scp['path']}"
    parts = urlsplit(url)
    if parts.scheme == "ssh":
        url = f"https://{parts.hostname}{parts.path}"
    elif "@" in parts.netloc and not given:
        if parts.username and parts.password:
            pair = f"{unquote(parts.username)}:{unquote(parts.password)}"
            auth = Auth(Scheme.BASIC, Secret(pair))
        url = url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)
    url = url.rstrip("/")
    if append:
        url = f"{url.removesuffix('.git')}.git/info/lfs"
    return parse_address(url, "the address of the Git LFS server"), auth


def _local_path(directory: Path, url: str) -> Path | None:
    """Return the directory that a remote on this machine names."""
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path))
    if url and "://" not in url and not _SCP.fullmatch(url):
        return directory / url
    return None
