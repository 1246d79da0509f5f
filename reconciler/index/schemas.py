"""The JSON Schemas, applied to trees of the guarded reader, and stamps of what passed them.

One schema serves editors and this program, although the reader keeps every scalar as text: the validator
checks a YamlScalar as the value that YAML would make of it. An unquoted `true` is a boolean, an unquoted `12`
an integer, and an unquoted scalar that YAML readers take for anything but text (`1.10`, `on`, a date) is not
a string: it must be quoted.

A validation stamp records that exactly this text passed exactly this schema. A stamp only skips the schema
check (and the import of its library); what `load.py` checks itself runs always. Deleting stamps is safe at
any time, and a forged one gains nothing but worse error messages.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.errors import LockedError
from reconciler.fs import replace_file
from reconciler.index.guarded_yaml import IndexProblem, YamlNode, YamlScalar, implicit_type, shown
from reconciler.index.names import closest, name_hint, version_hint
from reconciler.version import __version__

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator


_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")
_SECRET_KEY = re.compile(r"(?i)token|password|passwd|secret|credential|jwt|api_?key|private_?key")
MAX_PROBLEMS = 10  #: in one report


@cache
def schema_text(name: str) -> str:
    """Return the text of `<name>.schema.json`: from the package in a wheel, from the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "schemas" / f"{name}.schema.json"
    path = packaged if packaged.exists() else package.parent / "schemas" / f"{name}.schema.json"
    return path.read_text(encoding="utf-8")


def problems(name: str, tree: YamlNode) -> list[IndexProblem]:
    """Return at most MAX_PROBLEMS violations of the schema `name` in `tree`, in the order of the file."""
    found: list[IndexProblem] = []
    tree_as_json: Any = tree
    for error in _validator(name).iter_errors(tree_as_json):
        found.extend(_explain(error))
        if len(found) >= 10 * MAX_PROBLEMS:  # a hostile file may have millions
            break
    return sorted(set(found), key=lambda problem: problem.line)[:MAX_PROBLEMS]


def as_integer(value: YamlScalar) -> int | None:
    """Return the integer that an unquoted scalar means, None for any other."""
    return int(value) if value.plain and _INTEGER.fullmatch(value) else None


def as_boolean(value: YamlScalar) -> bool | None:
    """Return the boolean that an unquoted `true` or `false` means, None for any other scalar."""
    return {"true": True, "false": False}.get(value) if value.plain else None


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """Return a hint with the known name closest to `word`, or with a few known names; None without any."""
    names = list(known)
    if close := closest(word, names):
        return f"did you mean {close!r}?"
    if not names:
        return None
    return "known: " + ", ".join(sorted(names)[:12]) + (", ..." if len(names) > 12 else "")


@cache
def _validator(name: str) -> Validator:
    import jsonschema.validators

    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {name: lambda _, value, matches=matches: matches(value) for name, matches in _TYPES.items()}
    )
    keywords: dict[str, Any] = {"type": _type, "const": _const, "minimum": _minimum, "maximum": _maximum}
    extend: Any = jsonschema.validators.extend  # not typed
    kind = extend(jsonschema.Draft202012Validator, validators=keywords, type_checker=types)
    schema = json.loads(schema_text(name))
    return kind(_inlined(schema, schema["$defs"]))  # type: ignore[no-any-return]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Replace each `$ref` by its definition, which saves a third of the time for a large index."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: _inlined(part, definitions) for key, part in schema.items() if key not in ("$ref", "$defs")}
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions) | parts
    return parts


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, YamlScalar) and implicit_type(value) is None,
    "boolean": lambda value: isinstance(value, YamlScalar) and as_boolean(value) is not None,
    "integer": lambda value: isinstance(value, YamlScalar) and as_integer(value) is not None,
}


def _type(_: object, wanted: str, value: Any, __: object) -> Iterator[ValidationError]:
    """Check one type; the library's check of a list of types is slower, and this one runs for every value."""
    if not _TYPES[wanted](value):
        yield from _error(f"must be {_KINDS[wanted]}")


# The three keywords whose operand is a number: compared with the number that the text means.


def _const(_: object, wanted: Any, value: Any, __: object) -> Iterator[ValidationError]:
    number = as_integer(value) if isinstance(value, YamlScalar) and isinstance(wanted, int) else value
    if number != wanted:
        yield from _error(f"must be {wanted!r}")


def _minimum(_: object, limit: int, value: Any, __: object) -> Iterator[ValidationError]:
    if isinstance(value, YamlScalar) and (number := as_integer(value)) is not None and number < limit:
        yield from _error(f"must be at least {limit}")


def _maximum(_: object, limit: int, value: Any, __: object) -> Iterator[ValidationError]:
    if isinstance(value, YamlScalar) and (number := as_integer(value)) is not None and number > limit:
        yield from _error(f"must be at most {limit}")


def _error(message: str) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    yield ValidationError(message)


_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "boolean": "true or false",
    "integer": "a whole number",
}


def _explain(error: ValidationError) -> Iterator[IndexProblem]:
    """Translate a schema error into problems for the user; they quote no value that may be a secret."""
    node: Any = error.instance
    path = [str(part) for part in error.absolute_path]
    field = _field(path)
    line = node.line
    keyword: Any = error.validator
    operand: Any = error.validator_value
    schema: Any = error.schema
    if keyword == "additionalProperties":
        known = list(schema.get("properties", {}))
        for key in node:
            if key not in known:
                yield IndexProblem(
                    key.line, f"unknown key {shown(key)}{_inside(path)}", _unknown_hint(key, known)
                )
    elif keyword == "required":
        missing = [key for key in operand if key not in node]
        for key in missing:
            yield IndexProblem(line, f"missing key {key!r}{_inside(path)}", None)
    elif keyword == "type":
        yield IndexProblem(line, *_wrong_type(field, path, node, operand))
    elif keyword == "enum":
        hint = suggestion(node, operand) if isinstance(node, YamlScalar) else None
        yield IndexProblem(line, f"{field} must be one of {', '.join(operand)}", hint)
    elif keyword == "pattern":
        form = schema["patternErrorMessage"]
        yield IndexProblem(line, f"{_value(path, node)} {form}", _form_hint(form, node))
    elif keyword == "maxLength":
        yield IndexProblem(line, f"{field} is longer than {operand} characters", None)
    elif keyword == "maxItems":
        yield IndexProblem(line, f"{field} has more than {operand} items", None)
    elif keyword in ("minLength", "minItems", "minProperties"):
        yield IndexProblem(line, f"{field} is empty", None)
    elif keyword == "uniqueItems":
        yield IndexProblem(line, f"{field} has a repeated item", None)
    else:
        yield IndexProblem(line, f"{field} {error.message}", None)


def _wrong_type(field: str, path: list[str], node: YamlNode, wanted: str) -> tuple[str, str | None]:
    if wanted == "string" and isinstance(node, YamlScalar):
        guess = implicit_type(node)
        if not node:
            return f"{field} has no value", "write one, or remove the key"
        text = "..." if _secret(path) else str(node)
        return f"{shown(text)} without quotes is {guess} in YAML, not text", f'put it in quotes: "{text}"'
    if isinstance(node, YamlScalar) and not node:
        return f"{field} is empty; it must be {_KINDS[wanted]}", None
    hint = "write it without quotes" if isinstance(node, YamlScalar) and not node.plain else None
    return f"{field} must be {_KINDS[wanted]}", hint


def _unknown_hint(key: str, known: list[str]) -> str | None:
    if _SECRET_KEY.search(key) and "token_env" in known:
        return "secrets are not allowed in this file: set an environment variable and name it with token_env"
    return suggestion(key, known)


def _field(path: list[str]) -> str:
    return (
        repr(path[-1])
        if path and not path[-1].isdigit()
        else (f"{path[-2]!r} entry" if len(path) > 1 else "the file")
    )


def _form_hint(form: str, node: YamlScalar) -> str | None:
    """Return a hint for a text that is not the name of a model or a version; `form` is the message."""
    if form.startswith("is not a model name"):
        return name_hint(node)
    return version_hint(node) if form.startswith("is not a SemVer") else None


def _inside(path: list[str]) -> str:
    return f" in {path[-1]!r}" if path else ""


def _secret(path: list[str]) -> bool:
    return bool(path) and path[-1].endswith("_env")


def _value(path: list[str], node: YamlScalar) -> str:
    """Return the value for a message, or the field where the value may be a secret or an address."""
    if _secret(path) or "://" in node:
        return _field(path)
    return shown(node)


# --- stamps


def stamp_key(schema: str, digest: str) -> str:
    """Return the stamp of a file with this sha256 (hex), for this schema and this version of the package."""
    parts = (__version__, schema, schema_text(schema), digest)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_stamped(stamps: Path, schema: str, key: str) -> bool:
    """Return whether the last file that passed `schema` is the one with this key."""
    try:
        with _stamp_file(stamps, schema).open("rb") as file:
            return file.read(len(key) + 1) == key.encode()
    except OSError:
        return False


def write_stamp(stamps: Path, schema: str, key: str) -> None:
    """Store `key`. A cache that cannot be written is not an error."""
    with contextlib.suppress(OSError, LockedError):
        stamps.mkdir(parents=True, exist_ok=True)
        replace_file(_stamp_file(stamps, schema), key.encode(), mode=0o600, sync=False)


def _stamp_file(stamps: Path, schema: str) -> Path:
    return stamps / f"{schema}.valid"
