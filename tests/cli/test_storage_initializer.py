"""The entry point of a container: two arguments, and a directory that may be a mounted volume."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli import storage_initializer
from reconciler.errors import ReconcilerError, UsageError
from tests.support.command_line import CommandLine
from tests.support.releases import tree
from tests.support.safetensors import safetensors
from tests.support.small_disk import small_disk


@pytest.fixture
def published(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A version that the user's configuration names, from any directory."""
    assert reconcile().code == 0
    config = reconcile.root / "config/reconcile/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(
        f"index: {reconcile.root / 'releases/index.yaml'}\nstores: [{reconcile.root / '.reconcile/store'}]\n"
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config.parents[1]))
    elsewhere = reconcile.root.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return reconcile


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


FILES = ["SHA256SUMS", "config.json", "manifest.json", "model.safetensors"]


def test_a_plain_directory(published: CommandLine, tmp_path: Path) -> None:
    for _ in range(2):
        assert storage_initializer.run(["model://llm@^1", str(tmp_path / "models")]) == 0
        assert names(tmp_path / "models") == FILES


def test_a_mounted_volume_is_filled_and_a_second_start_finds_it(
    published: CommandLine, tmp_path: Path
) -> None:
    """A real mount point, which no rename from another file system can replace."""
    with small_disk(tmp_path / "volume", 8) as disk:
        (disk.path / "lost+found").mkdir()
        for _ in range(2):
            assert storage_initializer.run(["model://llm@1.0.0", str(disk.path)]) == 0
            assert names(disk.path) == sorted([*FILES, "lost+found"])
        before = tree(disk.path)
        with pytest.raises(UsageError, match="is not empty"):
            storage_initializer.run(["model://llm@^1.1", str(disk.path)])
        assert tree(disk.path) == before, "what another version left there is not touched"
        assert storage_initializer.run(["model://llm@^1.1", str(disk.path / "new")]) == 0
        assert names(disk.path / "new") == FILES


@pytest.mark.parametrize(
    "arguments", [[], ["model://llm"], ["s3://bucket/x", "d"], ["model://llm", "a", "b"]]
)
def test_anything_else_is_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="expected a URI"):
        storage_initializer.run(arguments)


def test_what_cannot_be_fetched_leaves_nothing(published: CommandLine, tmp_path: Path) -> None:
    with pytest.raises(ReconcilerError):
        storage_initializer.run(["model://llm@9.9.9", str(tmp_path / "models")])
    assert not (tmp_path / "models").exists()


def test_a_model_of_an_organisation_and_one_build_of_it(published: CommandLine, tmp_path: Path) -> None:
    index = published.root / "releases/index.yaml"
    index.write_text(index.read_text().replace("  llm:", "  Acme/LLM:").replace('"1.1.0"', '"1.1.0+cu121"'))
    for number, ref in enumerate(("Acme/LLM@^1", "Acme/LLM@v1.1.0+cu121", "Acme/LLM")):
        assert storage_initializer.run([f"model://{ref}", str(tmp_path / str(number))]) == 0
        weights = tmp_path / str(number) / "model.safetensors"
        assert weights.read_bytes() == safetensors(b"1.1.0" * 100)
    with pytest.raises(UsageError, match="has no version"):
        storage_initializer.run(["model://Acme/LLM@v1.1.0+cu118", str(tmp_path / "none")])
