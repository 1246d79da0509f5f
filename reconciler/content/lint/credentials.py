"""Credentials: files in which tools keep secrets, and private keys.

Names alone decide only where a file of that name has no other use. Elsewhere the content decides, so a public
certificate, a public key, or an `.env` without secrets is not a finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from reconciler.content.lint.finding import FindingCode, Flaw, ReadAt

MAX_EXAMINED = 64 << 10  #: bytes of one file that are searched

_TOKEN = rb"(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|glpat-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16})"
_SECRET_VALUE = re.compile(
    rb"(?im)^\s*(?:export\s+)?[A-Z0-9_.-]*(?:TOKEN|SECRET|PASSW(?:OR)?D|PASSPHRASE|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY"
    rb"|CREDENTIALS?)[A-Z0-9_.-]*[ \t]*[=:][ \t]*[\"']?(?![\"'\s$<{]|your|change|xxx|\.\.\.)[^\s\"']{4,}"
)
_ANYTHING = re.compile(rb"\S")

#: last parts of the path, in lower case -> what the content must match
_FILES: dict[str, re.Pattern[bytes]] = {
    ".netrc": re.compile(rb"\b(?:password|passwd)\s+\S"),
    "_netrc": re.compile(rb"\b(?:password|passwd)\s+\S"),
    ".git-credentials": re.compile(rb"://[^/\s]*:[^/\s]*@"),
    ".pgpass": _ANYTHING,
    ".vault-token": _ANYTHING,
    ".htpasswd": re.compile(rb":\S"),
    ".pypirc": re.compile(rb"(?m)^\s*password\s*[=:]\s*\S"),
    ".npmrc": re.compile(rb"_(?:authToken|auth|password)\s*=\s*[\"']?[^\s\"'$]"),
    ".dockercfg": re.compile(rb'"auth"\s*:\s*"[^"]'),
    ".docker/config.json": re.compile(rb'"auth"\s*:\s*"[^"]'),
    ".aws/credentials": re.compile(rb"(?i)aws_(?:secret_access_key|session_token)\s*=\s*\S"),
    ".s3cfg": re.compile(rb"(?m)^\s*secret_key\s*=\s*\S"),
    ".boto": re.compile(rb"(?m)^\s*(?:gs|aws)_?[a-z_]*secret[a-z_]*\s*=\s*\S"),
    "rclone/rclone.conf": re.compile(rb"(?m)^\s*(?:pass|password|token|secret_access_key|key)\s*=\s*\S"),
    "gh/hosts.yml": re.compile(rb"oauth_token\s*:\s*\S"),
    ".kube/config": re.compile(rb"(?m)(?:client-key-data|token|password)\s*:\s*\S"),
    "kubeconfig": re.compile(rb"(?m)(?:client-key-data|token|password)\s*:\s*\S"),
    ".kaggle/kaggle.json": re.compile(rb'"key"\s*:\s*"[^"]'),
    "kaggle.json": re.compile(rb'"username"[^}]*"key"\s*:\s*"[0-9a-f]{32}"'),
    "huggingface/token": _ANYTHING,
    ".huggingface/token": _ANYTHING,
    "huggingface/stored_tokens": re.compile(rb"hf_"),
    ".terraform.d/credentials.tfrc.json": re.compile(rb'"token"'),
    "application_default_credentials.json": re.compile(rb'"(?:refresh_token|private_key)"\s*:\s*"[^"]'),
}
_ENVIRONMENT = re.compile(r"\.env(?:rc|\..+)?|.+\.env")
_EXAMPLE = re.compile(r".*\.(?:example|sample|template|dist|defaults?|schema)")
_SERVICE_ACCOUNT = re.compile(rb'"type"\s*:\s*"service_account"')
_BARE_TOKEN = re.compile(rb"\s*" + _TOKEN + rb"\s*")

_KEY = re.compile(
    rb"(?m)^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\r?\n"
    rb"(?=(?:[A-Za-z0-9-]+: [^\n]*\n|\r?\n)*[A-Za-z0-9+/=]{16})"
)
_OTHER_KEY = re.compile(
    rb"PuTTY-User-Key-File-[0-9]+:|(?:# [^\n]*\n)*AGE-SECRET-KEY-|-----BEGIN OPENSSH PRIVATE"
)
_KEY_SUFFIXES = frozenset({"", ".pem", ".key", ".p8", ".pk8", ".crt", ".cer", ".ppk", ".asc", ".age", ".txt"})
_KEY_NAMES = re.compile(r"id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?")


def credential_flaws(path: str, head: bytes, read: ReadAt, size: int) -> Iterator[Flaw]:
    """Yield the flaw of a file that contains credentials; `head` is its beginning."""
    name = PurePosixPath(path).name.lower()
    content = head
    if size > len(head) and _is_text(head) and (_rule(path) is not None or _is_key_name(name)):
        content = read(min(size, MAX_EXAMINED), 0)
    rule = _rule(path)
    if rule is not None and rule.search(content):
        yield Flaw(FindingCode.CREDENTIALS, "contains credentials")
    elif _contains_key(name, content):
        known = _KEY_NAMES.fullmatch(name)
        yield Flaw(FindingCode.CREDENTIALS if known else FindingCode.PRIVATE_KEY, "contains a private key")
    elif _BARE_TOKEN.fullmatch(content) or (name.endswith(".json") and _SERVICE_ACCOUNT.search(content)):
        yield Flaw(FindingCode.CREDENTIALS, "contains credentials")


def _rule(path: str) -> re.Pattern[bytes] | None:
    """Return what makes the content of the file at `path` a secret, or None."""
    parts = path.lower().split("/")
    name = parts[-1]
    for key in ("/".join(parts[-2:]), name):
        if key in _FILES:
            return _FILES[key]
    if _ENVIRONMENT.fullmatch(name) and not _EXAMPLE.fullmatch(name):
        return _SECRET_VALUE
    return None


def _contains_key(name: str, content: bytes) -> bool:
    if _OTHER_KEY.match(content) or _KEY.match(content):
        return True
    return _is_key_name(name) and _KEY.search(content) is not None


def _is_key_name(name: str) -> bool:
    return PurePosixPath(name).suffix in _KEY_SUFFIXES or _KEY_NAMES.fullmatch(name) is not None


def _is_text(head: bytes) -> bool:
    return b"\0" not in head
