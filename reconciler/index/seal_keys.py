"""The keys of sealed models, wrapped for their recipients, in `releases/sealed/<model>/`.

`1.age` is the first generation of the key of the model: an identity file in ASCII armor, which `age -d` opens
for each recipient. `1.json` says in the clear which key it is and for whom it was wrapped, so that a change
of the recipients is seen without opening it:

    {"key": "b9d2d2a8fe047a28", "recipients": ["age1…"], "schema": 1}

A change of recipients rewrites both; a new generation is the next number. Neither contains a private key in
the clear, and neither is part of a bundle.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.content.age import message
from reconciler.content.age.errors import AgeError, AgeKeyError
from reconciler.content.age.keys import (
    KEY_SIZE,
    AgeIdentity,
    Identity,
    Recipient,
    parse_identities,
    parse_recipient,
    parse_recipients,
)
from reconciler.content.sealing.seal_key import SealKey
from reconciler.errors import InvalidIndexError, UserError, Where
from reconciler.fs import replace_file
from reconciler.index.names import is_model_name
from reconciler.index.seal_policy import SealPolicy, is_key
from reconciler.json_fields import JsonFields, load_json

MAX_FILE = 1 << 20  #: bytes of a wrapped key, of its description, and of a file with recipients

_SCHEMA = 1
_KEY = re.compile(r"[0-9a-f]{16}")
_NUMBERED = re.compile(r"([1-9][0-9]{0,5})\.json")


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """One generation of the key of `model`: its id, the recipients it was wrapped for, and its file."""

    model: str
    generation: int
    key: str
    recipients: tuple[str, ...]
    file: Path

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"key {self.generation} of {self.model}"


def seal_directory(index_file: Path, model: str) -> Path:
    """Return the directory with the wrapped keys of `model`, beside the index. Raises ValueError."""
    if not is_model_name(model):
        raise ValueError(f"{model!r} is not a model name")
    return index_file.with_name("sealed") / model


def load_wrapped_keys(index_file: Path, model: str) -> tuple[WrappedKey, ...]:
    """Return the generations of the key of `model`, the oldest first. Raises InvalidIndexError."""
    directory = seal_directory(index_file, model)
    try:
        names = os.listdir(directory)  # noqa: PTH208 - of a directory that may be missing
    except (FileNotFoundError, NotADirectoryError):
        return ()
    numbers = sorted(int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name)))
    return tuple(_load(directory / f"{number}.json", model, number) for number in numbers)


def unlock(wrapped: WrappedKey, identities: Sequence[Identity]) -> SealKey:
    """Return the key that `wrapped` contains, or that is among `identities` itself.

    Raises UserError when no identity opens it, or when what it contains is another key.
    """
    for identity in identities:
        if isinstance(identity, AgeIdentity) and (key := SealKey(identity)).id == wrapped.key:
            return key
    where = Where(str(wrapped.file))
    try:
        text = message.decrypt(_read(wrapped.file), identities).decode()
        found = parse_identities(text)
    except (AgeError, AgeKeyError, UnicodeDecodeError) as error:
        reason = error.message if isinstance(error, (AgeError, AgeKeyError)) else "contains no key"
        raise UserError(
            f"{wrapped.name} cannot be opened: it {reason}",
            hint="give the private key of one of its recipients, or the key itself",
            where=where,
        ) from None
    inside = [SealKey(each) for each in found if isinstance(each, AgeIdentity)]
    if len(found) != 1 or not inside or inside[0].id != wrapped.key:
        raise UserError(
            f"{wrapped.name} is not the key {wrapped.key} that its description names",
            hint="restore both files from the git history",
            where=where,
        )
    return inside[0]


def open_any(directory: Path, identities: Sequence[Identity]) -> list[SealKey]:
    """Return the keys below `directory` that `identities` open; files that cannot be read are skipped."""
    found = []
    for file in sorted(directory.rglob("*.age")):
        try:
            inside = parse_identities(message.decrypt(_read(file), identities).decode())
            found += [SealKey(each) for each in inside if isinstance(each, AgeIdentity)]
        except (AgeError, AgeKeyError, UnicodeDecodeError, InvalidIndexError):
            continue
    return found


def new_key() -> SealKey:
    """Return a key that nothing else has."""
    return SealKey(AgeIdentity(os.urandom(KEY_SIZE)))


def write_wrapped_key(
    index_file: Path, model: str, generation: int, key: SealKey, recipients: Sequence[Recipient]
) -> WrappedKey:
    """Wrap `key` for `recipients` and write both files. Raises OSError and LockedError."""
    directory = seal_directory(index_file, model)
    for place in (directory, *directory.parents):
        if place == index_file.parent:
            break
        if place.is_symlink():
            raise InvalidIndexError(
                "is a symbolic link, and keys are written inside the repository only",
                hint="replace it by a directory",
                where=Where(str(place)),
            )
    directory.mkdir(parents=True, exist_ok=True)
    text = f"# key {generation} of {model}\n{key.identity.text}\n"
    file = directory / f"{generation}.age"
    wrapped = WrappedKey(model, generation, key.id, tuple(each.text for each in recipients), file)
    replace_file(file, message.encrypt(text.encode(), recipients), mode=0o644)
    replace_file(file.with_suffix(".json"), _render(wrapped).encode(), mode=0o644)
    return wrapped


def recipients_of(policy: SealPolicy, root: Path) -> list[Recipient]:
    """Return the recipients of a policy, sorted, each once; files are relative to `root`, the repository.

    Raises UserError with the file and line.
    """
    found: dict[str, Recipient] = {}
    for each in policy.recipients:
        if is_key(each):
            recipient = parse_recipient(each)
            found[recipient.text] = recipient
            continue
        path = root / each
        where = Where(each)
        try:
            if not path.resolve().is_relative_to(root.resolve()):
                raise InvalidIndexError("leads out of the repository through a link", where=where)
            for recipient in parse_recipients(_read(path).decode()):
                found[recipient.text] = recipient
        except UnicodeDecodeError:
            raise InvalidIndexError("is not a text file with recipients", where=where) from None
        except AgeKeyError as error:
            raise InvalidIndexError(error.message, hint=error.hint, where=where) from None
    if not found:
        raise InvalidIndexError("no recipient is left", hint="add a key to `recipients`")
    return [found[text] for text in sorted(found)]


def _load(path: Path, model: str, generation: int) -> WrappedKey:
    where = Where(str(path))
    try:
        value = load_json(_read(path))
    except ValueError:
        raise InvalidIndexError("is not a description of a key", where=where) from None
    fields = JsonFields(value, lambda text: InvalidIndexError(text, where=where))
    if fields.mapping().keys() != {"schema", "key", "recipients"} or fields.number("schema") != _SCHEMA:
        raise InvalidIndexError(
            "is not a description of a key", hint="restore it from the git history", where=where
        )
    key, recipients = fields.text("key"), tuple(item.text() for item in fields.items("recipients"))
    if not _KEY.fullmatch(key):
        raise fields.error("16 hex digits", "key")
    return WrappedKey(model, generation, key, recipients, path.with_suffix(".age"))


def _render(wrapped: WrappedKey) -> str:
    fields: dict[str, object] = {
        "schema": _SCHEMA,
        "key": wrapped.key,
        "recipients": list(wrapped.recipients),
    }
    return json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidIndexError(f"cannot be read: {reason}", where=Where(str(path))) from None
    if len(data) > MAX_FILE:
        raise InvalidIndexError(f"is larger than {MAX_FILE} bytes", where=Where(str(path)))
    return data
