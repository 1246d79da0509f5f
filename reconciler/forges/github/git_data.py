"""Commits and branches of a GitHub repository: single calls of its git database API."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.forges.commits import Commit
from reconciler.forges.github.api import GitHubAddress, graphql
from reconciler.forges.rest import RestApi
from reconciler.json_fields import JsonFields

_NO_COMMIT = "0" * 40  # as the new value of a branch: delete it
_LISTED_FILES = 300  # the most files that GitHub lists in a comparison
_MOVE = "mutation($input: UpdateRefsInput!) { updateRefs(input: $input) { clientMutationId } }"


@dataclass(frozen=True, slots=True)
class CommitComparison:
    """The difference between a base and a head: the head's own commits, oldest first, and the changed paths.

    `added` are those of `paths` that the newest commit which both have does not have. `all_commits` and
    `all_paths` are False when there are more than GitHub lists. `ahead` is True when the base is an ancestor
    of the head.
    """

    base: Commit
    commits: tuple[Commit, ...]
    paths: frozenset[str]
    added: frozenset[str]
    all_commits: bool
    all_paths: bool
    ahead: bool


class GitData:
    """The git database of one repository. Every method raises RequestError."""

    def __init__(self, api: RestApi, address: GitHubAddress) -> None:
        self.name = api.name
        self._api = api
        self._address = address
        self._node: str | None = None
        self._comparisons: dict[tuple[str, str], CommitComparison] = {}

    def tip(self, branch: str) -> str | None:
        """Return the commit id at the tip of a branch; None when the branch does not exist."""
        path = self._address.path("git", "ref", f"heads/{branch}")
        found = self._api.find(path, doing=f"reading the branch {branch!r}")
        return None if found is None else found.text("object", "sha")

    def commit(self, sha: str) -> Commit:
        """Return a commit by its id."""
        found = self._api.read(self._address.path("git", "commits", sha), doing="reading the base commit")
        return _commit(found.text("sha"), found)

    def compare(self, base: str, head: str) -> CommitComparison | None:
        """Compare two commits by their ids; None when they share no history."""
        known = self._comparisons.get((base, head))
        if known is not None:
            return known
        path = self._address.path("compare", f"{base}...{head}")
        found = self._api.find(path, doing="comparing the branch with its base")
        if found is None:
            return None
        commits = tuple(_listed_commit(one) for one in found.items("commits"))
        files = list(found.items_or_none("files"))
        paths = {file.text("filename") for file in files}
        paths |= {file.text_or("", "previous_filename") for file in files} - {""}
        comparison = CommitComparison(
            base=_listed_commit(found.at("base_commit")),
            commits=commits,
            paths=frozenset(paths),
            added=frozenset(one.text("filename") for one in files if one.text_or("", "status") == "added"),
            all_commits=len(commits) == found.number("total_commits"),
            all_paths=len(files) < _LISTED_FILES,
            ahead=found.text("status") in ("ahead", "identical"),
        )
        self._comparisons[base, head] = comparison
        return comparison

    def read_file(self, commit: str, path: str) -> bytes | None:
        """Return the content of a file in a commit; None when it has no file at `path`."""
        address, doing = self._address.path("contents", path), f"reading {path!r}"
        found = self._api.find(address, doing=doing, params=[("ref", commit)])
        if found is None:
            return None
        if found.text("type") != "file":
            raise found.error("a file", "type")
        if found.text("encoding") != "base64":  # larger than a megabyte
            found = self._api.read(self._address.path("git", "blobs", found.text("sha")), doing=doing)
        return base64.b64decode(found.text("content"))

    def make_tree(self, base_tree: str, files: Mapping[str, bytes]) -> str:
        """Store the tree `base_tree` with `files` set and return its id. Idempotent."""
        entries = [
            {"path": path, "mode": "100644", "type": "blob", **self._content(data)}
            for path, data in files.items()
        ]
        found = self._api.write(
            "POST",
            self._address.path("git", "trees"),
            {"base_tree": base_tree, "tree": entries},
            doing="storing the files",
            repeatable=True,
        )
        return found.text("sha")

    def make_commit(self, tree: str, parent: str, message: str) -> Commit:
        """Store a commit. It names no author, so that GitHub signs it for a bot or an App."""
        found = self._api.write(
            "POST",
            self._address.path("git", "commits"),
            {"message": message, "tree": tree, "parents": [parent]},
            doing="storing the commit",
            repeatable=True,  # a second object is never referenced
        )
        return _commit(found.text("sha"), found)

    def create_branch(self, branch: str, sha: str) -> None:
        """Create a branch. Raises RejectedError when it exists."""
        self._api.write(
            "POST",
            self._address.path("git", "refs"),
            {"ref": f"refs/heads/{branch}", "sha": sha},
            doing=f"creating the branch {branch!r}",
            repeatable=False,
        )

    def move_branch(self, branch: str, old: str, new: str) -> None:
        """Point a branch at `new` if it still points at `old`.

        GraphQL's updateRefs has this condition; the REST call has none, and would overwrite what a person
        pushes between two calls. Raises RequestError; whether the branch moved is then unknown, and the
        caller must read it.
        """
        self._swap(branch, old, new, doing=f"moving the branch {branch!r}")

    def delete_branch(self, branch: str, old: str) -> None:
        """Delete a branch if it still points at `old`. Raises as `move_branch` does."""
        self._swap(branch, old, _NO_COMMIT, doing=f"deleting the branch {branch!r}")

    def _swap(self, branch: str, old: str, new: str, *, doing: str) -> None:
        update = {"name": f"refs/heads/{branch}", "beforeOid": old, "afterOid": new, "force": True}
        variables = {"input": {"repositoryId": self._node_id(), "refUpdates": [update]}}
        graphql(self._api, self._address, _MOVE, variables, doing=doing, repeatable=False)

    def _node_id(self) -> str:
        if self._node is None:
            self._node = self._api.read(self._address.path(), doing="reading the repository").text("node_id")
        return self._node

    def _content(self, data: bytes) -> dict[str, str]:
        try:
            return {"content": data.decode("utf-8")}
        except UnicodeDecodeError:
            encoded = {"content": base64.b64encode(data).decode("ascii"), "encoding": "base64"}
            found = self._api.write(
                "POST", self._address.path("git", "blobs"), encoded, doing="storing a file", repeatable=True
            )
            return {"sha": found.text("sha")}


def _commit(sha: str, fields: JsonFields) -> Commit:
    parents = tuple(parent.text("sha") for parent in fields.items_or_none("parents"))
    return Commit(
        sha,
        fields.text("tree", "sha"),
        parents,
        fields.text_or("unknown", "author", "name"),
        fields.text("message"),
        fields.flag("verification", "verified"),
        fields.text_or("", "author", "email"),
    )


def _listed_commit(fields: JsonFields) -> Commit:
    """Return a commit of a comparison, where git's own fields are one level down and the parents are not."""
    inner = _commit(fields.text("sha"), fields.at("commit"))
    return replace(inner, parents=tuple(parent.text("sha") for parent in fields.items_or_none("parents")))
