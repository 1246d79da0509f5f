"""Every file under tests/hostile/index is refused with the line and message in expected.tsv, quickly."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError
from reconciler.index.load import load_index
from reconciler.index.sources_file import load_sources
from reconciler.index.targets_file import load_targets

HOSTILE = Path(__file__).parent.parent / "hostile" / "index"
CASES = [line.split("\t") for line in (HOSTILE / "expected.tsv").read_text("utf-8").splitlines()[1:]]


def load(path: Path, file: str) -> object:
    if file.startswith("targets/"):
        return load_targets(path, name=file)
    if file.startswith("sources/"):
        return load_sources(path, name=file)
    return load_index(path, name=file)


@pytest.mark.parametrize(("file", "code", "line", "contains"), CASES, ids=[case[0] for case in CASES])
def test_hostile_file_gives_one_error_with_its_line(file: str, code: str, line: str, contains: str) -> None:
    path = HOSTILE / file
    begin = time.process_time()
    with pytest.raises(InvalidIndexError) as caught:
        load(path, file)
    assert time.process_time() - begin < 1
    error = caught.value
    assert error.exit_code == int(code)
    assert contains in f"{error.message}; {error.hint}"
    first = str(error).splitlines()[0]
    assert first.startswith(f"{file}:{line}: ")
    assert first.isprintable()
    assert len(first) < 400
    assert str(error).count("\n") == 0, "one mistake, one line"
    assert "hunter2secret" not in str(error) + str(error.hint)


def test_the_table_lists_every_hostile_file() -> None:
    files = {path.relative_to(HOSTILE).as_posix() for path in HOSTILE.rglob("*.yaml")}
    assert files == {case[0] for case in CASES}
    assert len(files) >= 100


def test_a_hostile_file_is_refused_by_the_python_parser_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libyaml the same files are refused; only the wording of plain syntax errors may differ."""
    import yaml

    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    for file, _, line, contains in CASES:
        with pytest.raises(InvalidIndexError) as caught:
            path = HOSTILE / file
            load(path, file)
        if contains != "not YAML":
            assert contains in f"{caught.value.message}; {caught.value.hint}", file
            assert str(caught.value).startswith(f"{file}:{line}: ")
