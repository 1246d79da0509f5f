"""Texts without their secrets: the one function that every text passes before anybody reads it.

A URL may contain a user name and a password, or a token in its query. Errors, warnings, notes, JSON documents
and tracebacks quote URLs from flags, variables, files and peers, so they all call `hide_secrets`. It errs on
the side of hiding: a URL that cannot be parsed is hidden up to its last `@`.
"""

from __future__ import annotations

import re

HIDDEN = "[secret]"

# Patterns as text: most processes quote no address, and `re` keeps what it has compiled.
_URL = (  # a path in which a URL was taken for a file has one slash
    r"(?i)(?P<scheme>[a-z][a-z0-9+.-]*)(?P<colon>:[/\\]{2,}|(?<=http|.ftp):/|(?<=https):/)(?P<rest>\S+)"
)
_USER_AT_HOST = (  # as proxies are written, with a port or the name of a host
    r"(?i)[^\s'\"@:/]+:[^\s'\"@/]+(?=@(?:[\w.-]+:\d|(?:[\w-]+\.)+[a-z]{2,}))"
)
_PRIVATE_KEY = (  # of age, and of OpenSSH and others in PEM
    r"(?i)AGE-SECRET-KEY-[0-9A-Z-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s]*(?:-----END[A-Z -]*-----)?"
)
_NO_SCHEME = r"(?i)(?:(?:git\+)?(?:https?|ssh|socks[45][ah]?):)?[/\\]*"
_END_OF_HOST = r"[/\\?#]"
_HOST_AND_PORT = r"(?:\[[^\]]*\]|[^:]*)(?::\d*)?\W*"
_PARAMETER = r"(?P<name>(?:^|[?&;])[^=&;]*=)(?P<value>[^&;]*)"
_SHORTEST = 4  # characters of a value that may be a secret; shorter ones are options such as `expand=1`
_PUNCTUATION = "'\"`)>]},;:."
_PUBLIC_FRAGMENTS = ("path=", "subdirectory=", "egg=")  # of git addresses, as pip writes them


def hide_secrets(text: str) -> str:
    """Return `text` with private keys removed, and user names, passwords and query values of addresses.

    The user of an ssh address without a password, such as `git`, is kept.
    """
    if "KEY-" in text or "key-" in text:
        text = re.sub(_PRIVATE_KEY, HIDDEN, text)
    if ":/" in text or ":\\" in text:
        text = re.sub(_URL, _without_secrets, text)
    return re.sub(_USER_AT_HOST, HIDDEN, text) if "@" in text and ":" in text else text


def shown_address(text: str) -> str:
    """Return `text`, which should be an address, for a message; also malformed or without a scheme."""
    shown = hide_secrets(text)
    start = re.match(_NO_SCHEME, shown)
    begin = start.end() if start is not None else 0
    at = shown.rfind("@")
    if at < begin or HIDDEN in shown or _is_ssh_user(shown[:begin], shown[begin:at]):
        return shown
    return f"{shown[:begin]}{HIDDEN}{shown[at:]}"


def _without_secrets(found: re.Match[str]) -> str:
    scheme, rest = found["scheme"], found["rest"]
    end = re.search(_END_OF_HOST, rest)
    host = rest[: end.start()] if end is not None else rest
    at = rest.rfind("@")
    # "@" after a host and an optional port belongs to the path, as in https://host/repository@main
    has_user = "@" in host or not re.fullmatch(_HOST_AND_PORT, host.rstrip(_PUNCTUATION))
    if at >= 0 and has_user and not _is_ssh_user(scheme, rest[: rest.find("@")]):
        rest = HIDDEN + rest[at:]
    before, mark, fragment = rest.partition("#")
    before, question, query = before.partition("?")
    if question:
        before += question + _hide_query(query)
    if mark and "=" in fragment and not fragment.startswith(_PUBLIC_FRAGMENTS):
        fragment = _hide_query(fragment)
    return f"{scheme}{found['colon']}{before}{mark}{fragment}"


def _is_ssh_user(scheme: str, user: str) -> bool:
    return scheme.rstrip(":/").lower().endswith("ssh") and ":" not in user and "/" not in user


def _hide_query(query: str) -> str:
    """Replace the values of a query, and a query without names; keep the punctuation that follows the URL."""
    body = query.rstrip(_PUNCTUATION)
    rest = query[len(body) :]
    if not body or body.endswith(HIDDEN.rstrip(_PUNCTUATION)):
        return query
    if "=" not in body:
        return (body if len(body) < _SHORTEST else HIDDEN) + rest
    return re.sub(_PARAMETER, _hide_value, body) + rest


def _hide_value(found: re.Match[str]) -> str:
    return found[0] if len(found["value"]) < _SHORTEST else found["name"] + HIDDEN
