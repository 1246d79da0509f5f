"""Edits of `releases/index.yaml` that keep every comment, quote and line end of the rest. Pure text to text.

An edit is an insertion at a place that the YAML parser's marks give. Nothing is believed: the new text is
read again, must differ from the old one in exactly the intended fields, and must be an index that holds.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.content.cid import Cid
from reconciler.errors import InvalidIndex, Where
from reconciler.index import guarded_yaml
from reconciler.index.load import parse_index
from reconciler.index.placing import Document, Fields, quoted, text_value
from reconciler.index.problems import shown
from reconciler.index.replace_file import replace_file
from reconciler.index.versions import is_version, newest_first

NAME = "releases/index.yaml"  #: what errors call the file when the caller gives no name


def set_cids(text: str, wanted: Mapping[tuple[str, str], Cid], *, name: str = NAME) -> str:
    """`text` with a `cid` for each (model, version) of `wanted`, one line or one flow entry each.

    A version that has this CID already is left alone. Raises InvalidIndex, with the line, when a version
    is not there or has another CID.
    """
    tree = _plain(guarded_yaml.parse(text, name))
    document = Document(text, name)
    for (model, version), cid in wanted.items():
        node = document.find("models", model, "versions", version)
        if node is None:
            raise InvalidIndex(f"{model}@{version} is not in the index", where=Where(name))
        there = tree["models"][model]["versions"][version].setdefault("cid", str(cid))
        if there != str(cid):
            raise InvalidIndex(
                f"{model}@{version} has the CID {there}, not {cid}",
                hint="published is immutable: release the changed content as a new version",
                where=Where(name, document.line_of("models", model, "versions", version, "cid")),
            )
        if document.find("models", model, "versions", version, "cid") is None:
            document.append(node, "cid", str(cid))
    return _checked(document.edited(), tree, name)


def add_version(
    text: str,
    model: str,
    version: str,
    *,
    path: str | None = None,
    created_at: str | None = None,
    cid: Cid | None = None,
    hidden: bool = False,
    kind: str | None = None,
    format: str | None = None,  # noqa: A002 (the word of the index)
    license: str | None = None,  # noqa: A002
    name: str = NAME,
) -> str:
    """`text` with one more version, and with the model when it is new.

    The version takes its place in the order of its neighbours; newest first where there is no order yet.
    `kind`, `format` and `license` describe a new model. Raises InvalidIndex when the version is there
    already, when the model is and says otherwise, or when the result would not hold.
    """
    if not is_version(version):
        hint = 'versions look like "1.2.0" or "2.0.0-rc.1"'
        raise InvalidIndex(f"{shown(version)} is not a SemVer 2.0 version", hint=hint)
    tree = _plain(guarded_yaml.parse(text, name))
    document = Document(text, name)
    about = {"kind": kind, "format": format, "license": license}
    _check_characters({"model": model, "path": path, "created_at": created_at, **about})
    description = {key: value for key, value in about.items() if value is not None}
    body = {
        "path": path,
        "created_at": created_at,
        "cid": cid and str(cid),
        "hidden": "include" if hidden else None,
    }
    fields: Fields = [
        (key, quoted(value) if key == "created_at" else text_value(value))
        for key, value in body.items()
        if value
    ]
    entry = {key: value for key, value in body.items() if value}
    there = tree["models"].get(model)
    if there is None:
        whole: Fields = [(key, text_value(value)) for key, value in description.items()]
        whole.append(("versions", [(quoted(version), fields)]))
        document.insert(("models",), model, whole, after=len(tree["models"]))
        tree["models"][model] = {**description, "versions": {version: entry}}
        return _checked(document.edited(), tree, name)
    _check_description(there, model, description, Where(name, document.line_of("models", model)))
    if version in there["versions"]:
        line = document.line_of("models", model, "versions", version)
        raise InvalidIndex(
            f"{model}@{version} is in the index already",
            hint="choose the next version",
            where=Where(name, line),
        )
    after = _place(list(there["versions"]), version)
    document.insert(("models", model, "versions"), quoted(version), fields, after=after)
    there["versions"][version] = entry
    return _checked(document.edited(), tree, name)


def write_edit(path: Path, old_text: str, new_text: str) -> None:
    """Replace the file by `new_text`, if it is still `old_text`; its mode is kept, and no reader sees half
    of it.

    Raises InvalidIndex when the file changed meanwhile or is no regular file.
    """
    where = Where(str(path))
    if path.is_symlink():
        raise InvalidIndex(
            "is a symbolic link and is not edited", hint="edit the file it leads to", where=where
        )
    guarded_yaml.read(path)  # a regular file of a sane size
    mode = stat.S_IMODE(path.stat().st_mode)
    replace_file(path, new_text.encode(), mode, instead_of=old_text.encode())


def _place(texts: list[str], version: str) -> int:
    """How many of the versions `texts` come before `version`."""
    ascending = newest_first(texts)[::-1]
    order = newest_first([*texts, version])
    if len(texts) > 1 and texts == ascending:
        return order[::-1].index(version)
    if texts == ascending[::-1]:
        return order.index(version)
    return len(texts)  # no order to follow


def _check_characters(values: Mapping[str, str | None]) -> None:
    """Told of the value itself: written into the index first, it would be the index that does not hold."""
    for key, value in values.items():
        if value is not None and (found := guarded_yaml.forbidden(value)) is not None:
            raise InvalidIndex(f"{key} {shown(value)} has the control character {found!r}", hint="remove it")


def _check_description(there: dict[str, Any], model: str, description: dict[str, str], where: Where) -> None:
    for key, value in description.items():
        if there.get(key, "model" if key == "kind" else None) != value:
            raise InvalidIndex(
                f"model {model!r} has {key} {there.get(key)!r}, not {value!r}",
                hint=f"leave {key} out, or change it in the index",
                where=where,
            )


def _checked(new_text: str, expected: dict[str, Any], name: str) -> str:
    """`new_text` when it says exactly `expected` and holds."""
    try:
        said = _plain(guarded_yaml.parse(new_text, name))
    except InvalidIndex:
        said = None
    if said != expected:
        raise InvalidIndex(
            "the index is written in a way that cannot be edited safely",
            hint="make this edit by hand",
            where=Where(name),
        )
    parse_index(new_text, Path(name), name=name)
    return new_text


def _plain(node: guarded_yaml.Node) -> Any:
    if isinstance(node, guarded_yaml.Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, guarded_yaml.Sequence):
        return [_plain(item) for item in node]
    return str(node)
