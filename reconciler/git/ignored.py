"""Files that git leaves out: ignored ones that were not added all the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from reconciler.git.repository import git_directory
from reconciler.git.runner import GitError, GitRunner


def ignored_files(directory: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """Return those of `paths` (relative to `directory`) that git ignores and does not track.

    One call of git, and none where no repository is around `directory`. Returns nothing when git cannot tell.
    """
    place = directory.resolve()
    if not paths or git_directory(place) is None:
        return ()
    # `check-ignore` refuses literal pathspecs; after "./" nothing in a path has a meaning of its own.
    questions = b"".join(b"./" + os.fsencode(path) + b"\0" for path in paths)
    try:
        output = GitRunner(place).run(
            "check-ignore",
            "-z",
            "--stdin",
            stdin=questions,
            env={"GIT_LITERAL_PATHSPECS": "0"},
            statuses=(1,),
        )
    except GitError:
        return ()
    return tuple(os.fsdecode(path.removeprefix(b"./")) for path in output.stdout.split(b"\0") if path)
