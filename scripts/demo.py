"""Demonstrate the whole loop on the sample models, in a scratch copy that is removed at the end.

    make run

Each step prints its command and runs it. An unexpected exit code stops the demonstration.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).with_name("reconcile")
GIT = ("git", "-c", "user.name=Demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgSign=false")
RESOLVED = re.compile(r"^ +cid: .*\n", re.MULTILINE)


def say(text: str) -> None:
    """Print the description of a step."""
    print(f"\n{'─' * 100}\n{text}\n", flush=True)


def run(folder: Path, *command: str, expect: int = 0) -> None:
    """Print and run a command; exit if its exit code is not `expect`."""
    print(f"$ {shlex.join(command)}", flush=True)
    program = {"reconcile": (str(COMMAND),), "git": GIT}[command[0]]
    done = subprocess.run([*program, *command[1:]], cwd=folder, check=False)
    if done.returncode != expect:
        sys.exit(f"error: `{shlex.join(command)}` ended with {done.returncode}, not {expect}")


def release_repository(folder: Path) -> None:
    """Create a repository as before its first run: models, and an index without CIDs."""
    shutil.copytree(PROJECT / "weights", folder / "weights")
    (folder / "releases").mkdir()
    index = (PROJECT / "releases" / "index.yaml").read_text(encoding="utf-8")
    (folder / "releases" / "index.yaml").write_text(RESOLVED.sub("", index), encoding="utf-8")
    shutil.copy(PROJECT / "releases" / "targets.yaml", folder / "releases")
    (folder / ".gitignore").write_text(".reconcile/\n", encoding="utf-8")
    for arguments in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "Two releases"],
    ):
        subprocess.run([*GIT, *arguments], cwd=folder, check=True)


def flip_one_bit(store: Path) -> None:
    """Flip a bit in the middle of the largest CAR of the store, like a failing disk."""
    car = max(store.rglob("*.car"), key=lambda file: (file.stat().st_size, file.name))
    with car.open("r+b") as file:
        file.seek(car.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    print(f"(one bit of {car.name} is now wrong)")


def demonstrate(folder: Path) -> None:
    """Publish, write back, plan again, detect damage, and repair it."""
    say("A repository with two versions of a small model. The index declares both; they have no CID yet.")
    run(folder, "git", "show", "--stat", "--oneline")
    say("Preview a run. This changes nothing.")
    run(folder, "reconcile", "--dry-run")
    say("Apply: pack the files, publish their blocks to the embedded store, write the CIDs to the index.")
    run(folder, "reconcile")
    say("The edit is an ordinary change in the working tree, one line for each version.")
    run(folder, "git", "--no-pager", "diff", "--unified=1", "releases/index.yaml")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "Resolve CIDs")
    say("Run again: the store holds what git declares, so there is nothing to do.")
    run(folder, "reconcile", "plan", "--exit-code")
    run(folder, "reconcile")
    say("Flip one bit on the disk. A check that reads every byte (--check full) finds it; exit code 3.")
    flip_one_bit(folder / ".reconcile" / "store")
    run(folder, "reconcile", "plan", "--check", "full", "--exit-code", expect=3)
    say("The next run repairs only that block, from the files or from another target that holds it.")
    run(folder, "reconcile", "--check", "full")
    run(folder, "reconcile", "plan", "--check", "full", "--exit-code")
    say("Consumers resolve a name to a CID, offline.")
    run(folder, "reconcile", "resolve", "tiny-lm@stable")
    run(folder, "reconcile", "resolve", "tiny-lm@~1.0")
    say("That was the whole loop. This clone is unchanged; continue with README.md.")


def main() -> None:
    """Run the demonstration in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="reconcile-demo-") as name:
        folder = Path(name)
        release_repository(folder)
        demonstrate(folder)


if __name__ == "__main__":
    main()
