"""The order in which files were added to a directory, as the main line of HEAD merged them.

Only plumbing commands run, as in `file_history`. A file that a side branch added counts with the merge that
brought it to the main line.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.git.repository import OBJECT_ID
from reconciler.git.runner import GitRunner


def files_added(runner: GitRunner, directory: str) -> dict[str, int]:
    """Return the number of the main-line commit that first added each file below `directory`, oldest first.

    Files that one commit added have the same number. Paths are relative to the top of the repository. Raises
    GitError.
    """
    listed = runner.run("rev-list", "--first-parent", "--parents", "--reverse", "HEAD", "--", directory)
    pairs = [line.split()[:2] for line in listed.text.splitlines()]
    if not pairs:
        return {}
    wanted = "".join(f"{' '.join(pair)}\n" for pair in pairs).encode()
    flags = ("--stdin", "-r", "-z", "--root", "--no-renames", "--diff-filter=A", "--name-only")
    shown = runner.run("diff-tree", *flags, "--", directory, stdin=wanted).stdout
    numbers = {pair[0]: number for number, pair in enumerate(pairs)}
    found: dict[str, int] = {}
    commit = -1
    for part in shown.decode("utf-8", "surrogateescape").split("\0"):
        line = part.strip("\n")
        if OBJECT_ID.fullmatch(line) and line in numbers:
            commit = numbers[line]
        elif line:
            found.setdefault(line, commit)
    return found


def files_at(runner: GitRunner, commit: str, directory: str) -> dict[str, str]:
    """Return the object ids of the regular files below `directory` in `commit` by path. Raises GitError."""
    listed = runner.run("ls-tree", "-r", "-z", "--full-tree", commit, "--", directory).stdout
    found = {}
    for entry in listed.decode("utf-8", "surrogateescape").split("\0"):
        fact, _, path = entry.partition("\t")
        mode, _, rest = fact.partition(" ")
        if mode in ("100644", "100755"):
            found[path] = rest.rpartition(" ")[2]
    return found


def read_blobs(runner: GitRunner, oids: Sequence[str], limit: int) -> list[bytes]:
    """Return the contents of blobs by one command, each cut after `limit` bytes. Raises GitError."""
    if not oids:
        return []
    data = runner.run("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in oids).encode()).stdout
    found, at = [], 0
    for _ in oids:
        end = data.index(b"\n", at)
        size = int(data[at:end].split()[-1])
        found.append(data[end + 1 : end + 1 + min(size, limit + 1)])
        at = end + 1 + size + 1
    return found
