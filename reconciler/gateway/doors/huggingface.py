"""The door for clients of the Hugging Face Hub, read only: info, refs, tree, paths-info and resolve.

Every file is listed as one that is kept in LFS: its digest is then the SHA-256 that SHA256SUMS has, for the
tree, for the ETag, and for `hf cache verify`, and no other hash of its bytes is needed. The ETag is a
function of the content alone, since a client stores two files with one ETag once. Xet is never offered: a
client that has it would not fall back to HTTP.

Tags are versions, branches are `main` and the channels; ranges work as revisions, too. Sources: the requests
of huggingface_hub 1.33 and 2.4, and the OpenAPI description of the Hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from urllib.parse import quote, urlencode

from reconciler.content.lfs_pointer import LfsPointer
from reconciler.gateway.doors.interface import (
    DoorAnswer,
    DoorContent,
    DoorRequest,
    fields,
    file_path,
    json_response,
)
from reconciler.gateway.release_files import ReleaseFile, ReleaseFiles, folders_of
from reconciler.gateway.releases import Missing, ReleaseMissingError, ReleaseRefusedError, ServedRelease
from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.responses import GatewayResponse
from reconciler.index.model import Model

_API = {"models": False, "datasets": True}  # whether the repositories of a list are datasets
_RESERVED = frozenset(("api", "ipfs", "ipns", "v2", "routing"))
_PAGE = 1000  # entries of a page of a tree, and models of a list
_MAX_PAGE = 10_000
_MAX_PATHS = 10_000  # of one request for paths-info
_MAX_MESSAGE = 400  # characters of a refusal in a header
_ERROR_CODES = {
    Missing.MODEL: "RepoNotFound",
    Missing.REVISION: "RevisionNotFound",
    Missing.FILE: "EntryNotFound",
}
_CACHED = "no-cache"  # a client may keep an answer, and asks again with its ETag


@dataclass(frozen=True, slots=True)
class _Repository:
    """A model as a repository of the Hub, and the rest of the path of a request for it."""

    model: Model
    rest: tuple[str, ...]


class HuggingFaceDoor:
    """The Hub's protocol over the releases in `content`."""

    name = "hf"

    def __init__(self, content: DoorContent) -> None:
        self._content = content
        self._handlers: Mapping[str, Callable[[Model, Sequence[str], DoorRequest], GatewayResponse]] = {
            "": self._info,
            "revision": self._info,
            "refs": self._refs,
            "tree": self._tree,
            "paths-info": self._paths_info,
            "resolve": self._resolve,
        }

    def recognizes(self, request: DoorRequest) -> bool:
        """Return whether a path is below /api, or names a file as `NAME/resolve/REVISION/PATH`."""
        segments = request.segments
        if segments[:1] == ("api",):
            return True
        below = segments[1:] if segments[:1] == ("datasets",) else segments
        return bool(below) and below[0] not in _RESERVED and "resolve" in below[1:3]

    def answer(self, request: DoorRequest) -> DoorAnswer:
        """Return the response. Raises RequestRefusedError, BlockUnavailableError, DataError."""
        segments = request.segments
        if segments[0] == "api":
            if len(segments) < 2 or segments[1] not in _API:
                raise ReleaseMissingError(Missing.FILE, "this server has models and datasets only")
            if len(segments) == 2:
                return DoorAnswer(self._list(request, datasets=_API[segments[1]]))
            found = self._repository(segments[2:], datasets=_API[segments[1]])
        else:
            datasets = segments[0] == "datasets"
            found = self._repository(segments[1:] if datasets else segments, datasets=datasets)
        if not self._content.allowed(found.model, request):
            raise RequestRefusedError(
                401,
                f"{found.model.name} needs a token: set HF_TOKEN",
                {"X-Error-Code": "GatedRepo", "WWW-Authenticate": "Bearer"},
            )
        action, *rest = found.rest or ("",)
        handler = self._handlers.get(action)
        if handler is None:
            raise ReleaseMissingError(Missing.FILE, "this server answers read requests only")
        expected = ("POST",) if action == "paths-info" else ("GET", "HEAD")
        if request.method not in expected:
            raise RequestRefusedError(405, "nothing can be written here", {"Allow": ", ".join(expected)})
        return DoorAnswer(handler(found.model, rest, request), found.model.name)

    def refuse(self, refusal: RequestRefusedError, request: DoorRequest) -> GatewayResponse:
        """Return a refusal with the error code that the client turns into an exception."""
        del request
        headers = {"X-Error-Message": _latin(refusal.message), "Cache-Control": "no-store"}
        if isinstance(refusal, ReleaseMissingError):
            headers["X-Error-Code"] = _ERROR_CODES[refusal.what]
        elif isinstance(refusal, ReleaseRefusedError):
            headers["X-Error-Code"] = "GatedRepo"  # the one refusal whose reason the clients show
        response = json_response({"error": refusal.message}, headers | refusal.headers)
        return GatewayResponse(refusal.status, response.headers, response.body, response.size)

    def usage(self, address: str) -> str:
        """Return the line that makes the tools of the Hub use this server."""
        name = next((model.name for model in self._content.view.models()), "MODEL")
        return f"HF_ENDPOINT={address} hf download {name}"

    def _repository(self, segments: Sequence[str], *, datasets: bool) -> _Repository:
        """Return the model that the first one or two segments name. Raises ReleaseMissingError."""
        names = ["/".join(segments[:length]) for length in (2, 1) if length <= len(segments)]
        missing: ReleaseMissingError | None = None
        for name in names:
            try:
                model = self._content.view.model(name)
            except ReleaseMissingError as error:
                missing = missing or error
                continue
            if _is_dataset(model) is datasets:
                return _Repository(model, tuple(segments[name.count("/") + 1 :]))
        raise missing or ReleaseMissingError(
            Missing.MODEL, f"{names[0]} is {'no dataset' if datasets else 'a dataset'}"
        )

    # --- the parts of the protocol

    def _list(self, request: DoorRequest, *, datasets: bool) -> GatewayResponse:
        values = request.values
        search, author = values.get("search", "").casefold(), values.get("author", "")
        limit = min(_number(values.get("limit"), _PAGE), _MAX_PAGE)
        found = (
            model
            for model in self._content.view.models()
            if _is_dataset(model) is datasets
            and self._content.allowed(model, request)
            and search in model.name.casefold()
            and (not author or model.name.startswith(f"{author}/"))
        )
        listed = (self._summary(model, self._content.view.branches(model).get("main")) for model in found)
        return json_response(list(islice((each for each in listed if each), limit)))

    def _summary(self, model: Model, release: ServedRelease | None) -> dict[str, object] | None:
        if release is None:
            return None
        version = release.version
        tags = [f"license:{version.license.lower()}"] if version.license else []
        if version.format:
            tags.append(version.format)
        document: dict[str, object] = {
            "_id": release.commit[:24],
            "id": model.name,
            "sha": release.commit,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": tags,
        }
        if not _is_dataset(model):
            document["modelId"] = model.name
        if (moment := _moment(version.created_at)) is not None:
            document |= {"lastModified": moment, "createdAt": moment}
        return document

    def _info(self, model: Model, rest: Sequence[str], request: DoorRequest) -> GatewayResponse:
        if len(rest) > 1:
            raise ReleaseMissingError(Missing.REVISION, "a revision is one segment; write its slashes as %2F")
        release = self._content.view.release(model, rest[0] if rest else "main")
        files = self._content.files(release)
        document = self._summary(model, release) or {}
        sizes = request.values.get("blobs", "").lower() in ("true", "1")
        document["siblings"] = [
            {"rfilename": file.path} | (_sibling_sizes(file) if sizes else {}) for file in files
        ]
        document["usedStorage"] = sum(file.size for file in files)
        return json_response(document, self._commit_headers(release))

    def _refs(self, model: Model, rest: Sequence[str], request: DoorRequest) -> GatewayResponse:
        del rest, request
        view = self._content.view

        def entries(kind: str, found: Mapping[str, ServedRelease]) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": release.commit}
                for name, release in found.items()
            ]

        return json_response(
            {
                "branches": entries("heads", view.branches(model)),
                "converts": [],
                "tags": entries("tags", view.listed(model)),
            }
        )

    def _tree(self, model: Model, rest: Sequence[str], request: DoorRequest) -> GatewayResponse:
        if not rest:
            raise ReleaseMissingError(Missing.REVISION, "name a revision")
        release = self._content.view.release(model, rest[0])
        files = self._content.files(release)
        above = file_path(rest[1:])
        values = request.values
        recursive = values.get("recursive", "").lower() in ("true", "1")
        entries = _below(files, f"{above}/" if above else "", recursive=recursive)
        if above and not entries:
            raise ReleaseMissingError(Missing.FILE, f"{release.version.ref} has no folder {above!r}")
        limit = min(_number(values.get("limit"), _PAGE), _MAX_PAGE) or _PAGE
        start = _number(values.get("cursor"), 0)
        headers = self._commit_headers(release)
        if start + limit < len(entries):
            query = urlencode({**values, "limit": limit, "cursor": start + limit})
            headers["Link"] = f'<{request.address}{quote(request.path, safe="/%")}?{query}>; rel="next"'
        page = entries[start : start + limit]
        return json_response(
            [_folder_entry(e) if isinstance(e, str) else _file_entry(e) for e in page], headers
        )

    def _paths_info(self, model: Model, rest: Sequence[str], request: DoorRequest) -> GatewayResponse:
        if len(rest) != 1:
            raise ReleaseMissingError(Missing.REVISION, "name a revision")
        release = self._content.view.release(model, rest[0])
        files = self._content.files(release)
        found: list[dict[str, object]] = []
        for name in dict.fromkeys(path.strip("/") for path in _requested_paths(request)):
            if (file := files.by_path.get(name)) is not None:
                found.append(_file_entry(file))
            elif name in files.folders:
                found.append(_folder_entry(name))
        return json_response(found, self._commit_headers(release))

    def _resolve(self, model: Model, rest: Sequence[str], request: DoorRequest) -> GatewayResponse:
        if len(rest) < 2:
            raise ReleaseMissingError(Missing.FILE, "name a revision and a file")
        release = self._content.view.release(model, rest[0])
        path = file_path(rest[1:])
        file = self._content.files(release).by_path.get(path)
        headers = self._commit_headers(release)
        if file is None:
            missing = ReleaseMissingError(Missing.FILE, f"{release.version.ref} has no file {path!r}")
            missing.headers |= headers  # lets the client remember the absence
            raise missing
        headers |= {
            "X-Linked-Etag": f'"{file.hex}"',
            "X-Linked-Size": str(file.size),
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(rest[-1], safe='')}",
        }
        return self._content.send(file, request, headers)

    def _commit_headers(self, release: ServedRelease) -> dict[str, str]:
        return {"X-Repo-Commit": release.commit, "Cache-Control": _CACHED}


def _is_dataset(model: Model) -> bool:
    return any(version.kind == "dataset" for version in model.versions.values())


def _pointer(file: ReleaseFile) -> LfsPointer:
    return LfsPointer(file.sha256, file.size)


def _lfs(file: ReleaseFile) -> dict[str, object]:
    pointer = len(_pointer(file).render())
    return {"oid": file.hex, "sha256": file.hex, "size": file.size, "pointerSize": pointer}


def _sibling_sizes(file: ReleaseFile) -> dict[str, object]:
    return {"size": file.size, "blobId": _pointer(file).git_blob.hex(), "lfs": _lfs(file)}


def _file_entry(file: ReleaseFile) -> dict[str, object]:
    return {
        "type": "file",
        "oid": _pointer(file).git_blob.hex(),
        "size": file.size,
        "path": file.path,
        "lfs": _lfs(file),
    }


def _folder_entry(path: str) -> dict[str, object]:
    return {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}


def _below(files: ReleaseFiles, above: str, *, recursive: bool) -> list[ReleaseFile | str]:
    """Return the files below the folder `above` ("" or with a slash at its end), and each folder once."""
    found: dict[str, ReleaseFile | str] = {}
    for file in files:
        if not file.path.startswith(above):
            continue
        rest = file.path[len(above) :]
        for folder in islice(folders_of(rest), None if recursive else 1):
            found.setdefault(above + folder, above + folder)
        if recursive or "/" not in rest:
            found[file.path] = file
    return list(found.values())


def _requested_paths(request: DoorRequest) -> list[str]:
    """Return the paths of a form or a JSON body. Raises RequestRefusedError (400)."""
    try:
        text = request.body.decode()
        if "json" in request.headers.get("content-type", ""):
            document = json.loads(text)
            paths = document.get("paths") if isinstance(document, dict) else None
            if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
                raise RequestRefusedError(400, "paths must be a list of strings")
            if len(paths) > _MAX_PATHS:
                raise RequestRefusedError(400, f"more than {_MAX_PATHS} paths")
            return paths
    except (ValueError, RecursionError):
        raise RequestRefusedError(400, "the body is neither a form nor JSON") from None
    return [value for name, value in fields(text) if name == "paths"]


def _number(text: str | None, default: int) -> int:
    """Return a number in a query; `default` for anything else."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else default


def _moment(created_at: str | None) -> str | None:
    """Return a time in the form that clients of the Hub parse: UTC, with milliseconds."""
    if created_at is None or not created_at.endswith("Z") or "." in created_at:
        return None
    return f"{created_at[:-1]}.000Z"


def _latin(text: str) -> str:
    """Return a text as it may stand in a header: in one line, without control characters."""
    line = "".join(character if character.isprintable() else " " for character in text[:_MAX_MESSAGE])
    return line.strip().encode("latin-1", "replace").decode("latin-1")
