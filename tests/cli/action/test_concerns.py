"""Which pull requests concern the model weights, judged from the local clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.cli.action.concerns import concerns
from reconciler.cli.action.event import Event
from reconciler.index.layout import find_layout
from reconciler.index.load import load_index
from tests.support.command_line import CommandLine


class Clone:
    """A repository with releases and its first commit; `base` is that commit."""

    def __init__(self, reconcile: CommandLine) -> None:
        self.reconcile = reconcile
        self.root = reconcile.root
        self.git("init", "--quiet")
        self.base = self.commit()

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.root, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            self.reconcile.write(name, text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "x")
        return self.git("rev-parse", "HEAD")

    def concerned(self, base: str | None = None, **places: Path) -> bool:
        layout = find_layout(self.root, **places)
        event = Event("pull_request", "refs/pull/1/merge", 1, base or self.base, "")
        return concerns(event, layout, load_index(layout.index_file))


@pytest.fixture
def clone(reconcile: CommandLine) -> Clone:
    return Clone(reconcile)


@pytest.mark.parametrize(
    ("path", "concerned"),
    [
        ("releases/targets.yaml", True),
        ("releases/records/llm/1.0.0.json", True),
        ("weights/llm/1.0.0/more/config.json", True),
        ("weights/llm/1.0.0-old/config.json", False),
        ("weights/README.md", False),
        ("releases/README.md", False),
        ('docs/ü "q".md', False),
    ],
)
def test_only_what_a_run_reads_matters(clone: Clone, path: str, concerned: bool) -> None:
    clone.commit(**{path: "{}"})
    assert clone.concerned() is concerned


def test_what_the_base_got_meanwhile_is_not_the_pull_requests(clone: Clone) -> None:
    """Also where the head itself was checked out, and not its merge."""
    clone.git("checkout", "--quiet", "-b", "feature")
    clone.commit(**{"README.md": "x"})
    clone.git("checkout", "--quiet", "-")
    moved = clone.commit(**{"releases/targets.yaml": "targets: {store: {kind: store, path: x}}\n"})
    clone.git("checkout", "--quiet", "feature")
    assert clone.concerned(moved) is False


def test_a_clone_that_lacks_the_base_cannot_rule_it_out(clone: Clone) -> None:
    clone.commit(**{"README.md": "x"})
    assert clone.concerned("1" * 40) is True


def test_a_shallow_clone_cannot_rule_it_out(clone: Clone, tmp_path: Path) -> None:
    clone.commit(**{"README.md": "x"})
    shallow = tmp_path / "shallow"
    clone.git("clone", "--quiet", "--depth", "1", clone.root.as_uri(), str(shallow))
    clone.root = shallow
    assert clone.concerned() is True


def test_weights_outside_of_the_repository_are_in_no_pull_request(clone: Clone, tmp_path: Path) -> None:
    elsewhere = tmp_path / "srv"
    elsewhere.mkdir()
    clone.commit(**{"weights/llm/1.0.0/config.json": "[]"})
    assert clone.concerned(source_root=elsewhere) is False
    assert clone.concerned() is True
