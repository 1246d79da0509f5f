"""Streams that are closed, full, or cannot print every character, and locales that are not UTF-8."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import main, streams
from reconciler.cli import output as out
from reconciler.errors import ExitCode
from reconciler.render.progress import Lines
from tests.support.command_line import RUN, CommandLine

NAME = "modèle – 🙂.bin"


class Printed(io.TextIOWrapper):
    """A stream in memory with the encoding and the error handler of a locale."""

    def __init__(self, encoding: str, errors: str = "strict") -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding=encoding, errors=errors)

    @property
    def text(self) -> str:
        self.flush()
        return self.raw_bytes.getvalue().decode(self.encoding)


@pytest.fixture
def repository(reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    reconcile.write(f"weights/llm/1.0.0/{NAME}", "weights")
    monkeypatch.chdir(reconcile.root)
    return reconcile


def run(patch: pytest.MonkeyPatch, *arguments: str, stdout: Any, stderr: Any = None) -> int:
    patch.setattr(sys, "argv", ["reconcile", *arguments])
    with patch.context() as inner:
        inner.setattr(sys, "stdout", stdout)
        if stderr is not None:
            inner.setattr(sys, "stderr", stderr)
        with pytest.raises(SystemExit) as caught:
            main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


ENCODINGS = ["latin-1", "ascii", "cp1252", "koi8-r", "utf-8", "utf-16"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_run_ends_as_with_utf8(
    repository: CommandLine, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    printed, said = Printed(encoding), Printed(encoding, "backslashreplace")
    assert run(monkeypatch, stdout=printed, stderr=said) == 0
    arrow = "→" if encoding.startswith("utf") else "->"
    assert f"1.0.0 {arrow} store" in printed.text
    assert "error" not in said.text
    assert "cid:" in (repository.root / "releases/index.yaml").read_text()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("arguments", [["identify", "weights/llm/1.0.0"], ["--dry-run"]])
def test_json_is_the_same_document_in_every_encoding(
    repository: CommandLine, monkeypatch: pytest.MonkeyPatch, encoding: str, arguments: list[str]
) -> None:
    printed, expected = Printed(encoding), Printed("utf-8")
    assert run(monkeypatch, *arguments, "--json", stdout=printed) == 0
    assert run(monkeypatch, *arguments, "--json", stdout=expected) == 0
    assert json.loads(printed.text) == json.loads(expected.text)
    if arguments[0] == "identify":
        assert NAME in [file["path"] for file in json.loads(printed.text)["files"]]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_error_about_a_name_is_shown(
    repository: CommandLine, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    printed, said = Printed(encoding), Printed(encoding, "strict")
    assert run(monkeypatch, "identify", "wéights→", "--json", stdout=printed, stderr=said) == 2
    assert "no such directory: 'w" in said.text
    assert json.loads(printed.text)["error"]["message"] == "no such directory: 'wéights→'"


def test_a_handler_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Printed("ascii", "replace")
    monkeypatch.setattr(sys, "stdout", printed)
    streams.prepare()
    out.result("a → b")
    assert printed.text == "a ? b\n"


def test_what_no_similar_character_replaces_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Printed("ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    streams.prepare()
    out.result("├── a…é\udc80🙂")
    assert printed.text == "+-- a...\\xe9\\udc80\\U0001f642\n"


# -- streams that cannot be written --------------------------------------------------------------------------


@pytest.fixture
def full() -> Iterator[io.TextIOBase]:
    """A stream on a disk without space."""
    path = Path("/dev/full")
    if not path.exists():
        pytest.skip("no /dev/full")
    stream = path.open("w", encoding="utf-8")
    yield stream
    streams.discard(stream)
    stream.close()


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--dry-run", "--json"], ["status"]])
def test_a_full_disk_behind_stdout_is_one_error(
    repository: CommandLine, monkeypatch: pytest.MonkeyPatch, full: io.TextIOBase, arguments: list[str]
) -> None:
    said = Printed("utf-8")
    assert run(monkeypatch, *arguments, stdout=full, stderr=said) == ExitCode.ERROR
    assert said.text.startswith("error: cannot write the result to stdout: no space left on device\nhint: ")
    resolved = "cid:" in (repository.root / "releases/index.yaml").read_text()
    assert resolved == (arguments in ([], ["--json"]))


@pytest.fixture
def unread() -> Iterator[io.TextIOWrapper]:
    """A pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    yield stream
    streams.discard(stream)
    stream.close()


def test_a_run_whose_reader_is_gone_does_everything(
    repository: CommandLine, monkeypatch: pytest.MonkeyPatch, unread: io.TextIOWrapper
) -> None:
    said = Printed("utf-8")
    assert run(monkeypatch, stdout=unread, stderr=said) == ExitCode.ERROR
    assert said.text == ""
    assert "cid:" in (repository.root / "releases/index.yaml").read_text()


def test_notes_and_errors_without_a_reader_change_no_outcome(
    repository: CommandLine, monkeypatch: pytest.MonkeyPatch, unread: io.TextIOWrapper
) -> None:
    Lines(unread).note("retrying")
    printed = Printed("utf-8")
    assert run(monkeypatch, "resolve", "llm@9.9.9", stdout=printed, stderr=unread) == ExitCode.USAGE
    assert run(monkeypatch, stdout=printed, stderr=unread) == 0


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_run_without_standard_streams_does_everything(repository: CommandLine, closed: str) -> None:
    """A closed descriptor must not become that of the store, which output would then end in."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *RUN], cwd=repository.root, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert "cid:" in (repository.root / "releases/index.yaml").read_text()
    assert repository("verify", "llm@1.0.0").code == 0


class Terminal(Printed):
    """A terminal that does not know its size."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("columns", [None, "0", "x"])
@pytest.mark.parametrize("term", [None, "", "dumb", "xterm"])
def test_progress_needs_no_size_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch, encoding: str, columns: str | None, term: str | None
) -> None:
    def unknown(*_: object) -> os.terminal_size:
        raise OSError(25, "Inappropriate ioctl for device")

    terminal = Terminal(encoding)
    monkeypatch.setattr(os, "get_terminal_size", unknown)
    monkeypatch.setattr(sys, "stderr", terminal)
    for name, value in (("COLUMNS", columns), ("LINES", columns), ("TERM", term)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    streams.prepare()
    with out.progress() as progress, progress.task("modèle → 1", 2) as task:
        task.advance(1)
        progress.note("half → done")
    assert "half" in terminal.text


# -- locales -------------------------------------------------------------------------------------------------


def test_a_cid_does_not_depend_on_the_locale(repository: CommandLine) -> None:
    expected = repository("identify", "weights/llm/1.0.0").out
    other = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = repository.process("identify", "weights/llm/1.0.0", environment=other)
    assert (done.code, done.out) == (0, expected)


@pytest.mark.parametrize(
    ("encoding", "given", "expected"),
    [
        ("iso8859-1", None, "utf-8"),
        ("ascii", "koi8-r", "koi8-r"),
        ("utf_8", None, None),
        ("UTF-8", None, None),
    ],
)
def test_another_locale_starts_the_process_again(
    monkeypatch: pytest.MonkeyPatch, encoding: str, given: str | None, expected: str | None
) -> None:
    started: list[tuple[list[str], str | None]] = []
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: encoding)
    monkeypatch.setattr(sys, "stdout", Printed("utf-8"))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-I", "reconcile", "plan"])
    monkeypatch.setattr(
        os, "execve", lambda _, words, environ: started.append((words, environ.get("PYTHONIOENCODING")))
    )
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    if given is not None:
        monkeypatch.setenv("PYTHONIOENCODING", given)
    streams.use_utf8_file_names()
    words = [sys.executable, "-X", "utf8", "-I", "reconcile", "plan"]
    assert started == ([] if expected is None else [(words, expected)])
