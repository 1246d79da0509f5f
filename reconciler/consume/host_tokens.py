"""Tokens of gateways, nodes and remote indexes: which one a request to an address carries.

The user's configuration names environment variables by host (`hosts`) or beside an address (`token_env`). A
token goes only to the host and port that it is configured for, since redirects are not followed. It goes over
https, to this machine, or to exactly the http address that the configuration has it for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from reconciler.errors import UsageError
from reconciler.index.user_config import config_file, load_config
from reconciler.net.address import Address, parse_address
from reconciler.net.auth import Auth, Scheme, from_env


def auth_for(url: str, environ: Mapping[str, str] | None = None) -> Auth | None:
    """Return the authentication for requests to `url` by the user's configuration; None without any.

    Raises UsageError when the variable is not set, InvalidIndexError for an invalid configuration.
    """
    environ = os.environ if environ is None else environ
    tokens = load_config(config_file(environ)).tokens
    if not tokens:
        return None
    try:
        address = parse_address(url)
    except UsageError:
        return None  # the client of this address says what is wrong with it
    variable = next((tokens[key] for key in tokens if _covers(key, address)), None)
    return None if variable is None else Auth(Scheme.BEARER, from_env(variable, environ))


def _covers(key: str, address: Address) -> bool:
    """Return whether a key of `tokens` is for a peer."""
    if "://" in key:
        try:
            given = parse_address(key)
        except UsageError:
            return False
        return (given.encrypted, given.host, given.port) == (address.encrypted, address.host, address.port)
    if not (address.encrypted or address.loopback):
        return False
    try:
        parts = urlsplit(f"//{key}")
        port = parts.port or (443 if address.encrypted else 80)
    except ValueError:
        return False
    return (parts.hostname, port) == (address.host, address.port)
