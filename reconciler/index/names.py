"""Names of models: their form, what makes two of them equal, and what to suggest instead of a bad one.

A model is `name` or `org/name`. Each part begins with a letter or digit, followed by letters, digits, `.`,
`_` and `-`; the whole name has at most MAX_LENGTH characters. Case is kept, but file systems may ignore it,
so names that differ only in case are equal: an index contains one of them. Records are files below a
directory of that name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from reconciler.index.versions import is_version

MAX_LENGTH = 96  #: characters, as on the Hugging Face Hub; label lengths depend on it
MODEL_NAME = re.compile(r"(?=.{1,96}\Z)[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?")
CHANNEL_NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}")
RULE = (
    "letters, digits, '.', '_' and '-' in one part or as org/name, each part beginning with a letter or "
    f"digit, at most {MAX_LENGTH} characters"
)

_RECORD = ".json"
#: names of devices on Windows, where no file can have them, whatever follows a dot
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\..*)?", re.IGNORECASE)


def is_model_name(text: str) -> bool:
    """Return whether `text` may be the name of a model."""
    return MODEL_NAME.fullmatch(text) is not None and not _is_record_file(text)


def name_key(name: str) -> str:
    """Return a key that is equal for names that differ only in case."""
    return name.lower()


def unportable(name: str) -> str | None:
    """Return why a repository with records of the model `name` cannot be checked out on Windows, or None."""
    for part in name.split("/"):
        if _DEVICES.fullmatch(part):
            return f"{part!r} is the name of a device on Windows"
        if part.endswith("."):
            return f"{part!r} ends with a dot, which Windows removes"
    return None


def suggested_name(text: str) -> str | None:
    """Return a valid name close to `text`, or None when nothing of it can be kept."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-._") for part in re.split(r"[/\\]+", plain)]
    parts = [f"model-{part}" if unportable(part) else part for part in parts if part]
    name = "/".join([parts[0], "-".join(parts[1:])]) if len(parts) > 1 else "".join(parts)
    name = name[:MAX_LENGTH].rstrip("-._/")
    if _is_record_file(name):
        name = name.removesuffix(_RECORD)
    return name if is_model_name(name) and name != text else None


def name_hint(text: str) -> str:
    """Return the hint for a text that is not the name of a model, or not a portable one."""
    near = suggested_name(text)
    return f"for example {near!r}" if near else f"a name has {RULE}"


def suggested_version(text: str) -> str | None:
    """Return the SemVer version that `text` most likely means, such as 1.2.0 for `v1.2`; None without one."""
    plain = re.sub(r"^[vV=\s]+", "", text.strip())
    match = re.fullmatch(r"(\d{1,15})(?:\.(\d{1,15}))?(?:\.(\d{1,15}))?([-+.].+)?", plain)
    if match is None:
        return None
    numbers = ".".join(str(int(group or "0")) for group in match.groups()[:3])
    rest = match[4] or ""
    found = numbers + (f"-{rest[1:]}" if rest.startswith(".") else rest)
    return found if is_version(found) and found != text else None


def version_hint(text: str) -> str:
    """Return the hint for a text that is not a SemVer version."""
    near = suggested_version(text)
    return f"did you mean {near!r}?" if near else 'versions look like "1.2.0" or "2.0.0-rc.1"'


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the name in `known` that `word` most likely means; None when no name is close.

    A name in another case comes first, then one without its `org/`, then a mistyped one.
    """
    names = list(known)
    for key in (name_key, lambda name: name_key(name).rpartition("/")[2]):
        same = [name for name in names if key(name) == name_key(word)]
        if len(same) == 1:
            return same[0]
    import difflib  # imported here: it is needed for hints alone

    near = difflib.get_close_matches(word[:100], names, n=1)
    return near[0] if near else None


def _is_record_file(name: str) -> bool:
    """Return whether the directory of the model's records would be a record of the model `org`."""
    last = name.lower().partition("/")[2]
    return last.endswith(_RECORD) and is_version(last.removesuffix(_RECORD))
