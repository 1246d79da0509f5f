"""Properties of all commands: help, options, paths, failures, and output on terminals and pipes."""

from __future__ import annotations

import importlib
import os
import pty
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

import reconciler.cli
from reconciler.cli.app import app
from reconciler.cli.command_group import COMMANDS
from tests.support.command_line import INDEX, RUN, CommandLine


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS)], ids=lambda c: " ".join(c) or "reconcile"
)
def test_help_teaches_without_an_index(empty: CommandLine, command: list[str]) -> None:
    for flag in ("--help", "-h"):
        done = empty(*command, flag)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"Usage: reconcile {' '.join(command)}".strip())
    summary = done.out.split("\n\n")[1].strip()
    assert summary.endswith(".")
    assert empty.files() == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [("reconcile st", ["status"]), ("reconcile audit pro", ["prove"])],
    ids=["one", "group"],
)
def test_the_shell_completes_commands(
    line: str, found: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_RECONCILE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    with pytest.raises(SystemExit) as ended:
        app(prog_name="reconcile")
    assert not ended.value.code
    assert capsys.readouterr().out.split() == found


def test_help_of_the_loop_lists_commands_and_exit_codes(empty: CommandLine) -> None:
    text = empty("--help").out
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", text, re.MULTILINE), command
    assert "4 refused by a safety or trust rule" in " ".join(text.split())


def test_version(empty: CommandLine) -> None:
    done = empty("--version")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"reconcile \d+\.\d+\S*\n", done.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["stauts"], "status"),
        (["--chekc", "full"], "--check"),
        (["plan", "--check", "deep"], "'deep'"),
        (["plan", "--allow-removals", "-1"], "--allow-removals"),
        (["plan", "--allow-removals", "many"], "many"),
        (["resolve"], "REF"),
        (["resolve", "a", "b"], "b"),
        (["export", "llm"], "FILE.car"),
        (["apply"], "PLAN"),
        (["-C"], "-C"),
    ],
)
def test_wrong_usage_is_two_with_a_way_on(reconcile: CommandLine, arguments: list[str], message: str) -> None:
    done = reconcile(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "hint: see `reconcile" in done.err
    assert reconcile(*arguments, "--json").document["error"]["exit_code"] == 2


@pytest.mark.parametrize(
    "option", [["--json"], ["--dry-run"], ["--check", "full"], ["--only", "x"], ["--index", "i"]]
)
def test_an_option_before_a_command_is_not_silently_ignored(
    reconcile: CommandLine, option: list[str]
) -> None:
    done = reconcile(*option, "status")
    assert done.code == 2
    assert f"{option[0]} must follow the command 'status'" in done.err
    assert "hint: `reconcile status" in done.err


class TestPlaces:
    """-C, --index, --targets, --source-root, and the nearest index upwards."""

    def test_c_names_another_repository_before_or_behind_the_command(
        self, reconcile: CommandLine, tmp_path: Path
    ) -> None:
        here = reconcile("plan").out
        for arguments in (
            ["-C", reconcile.root, "plan"],
            ["plan", "-C", reconcile.root],
            ["-C", reconcile.root, "-n"],
        ):
            assert reconcile(*arguments, cwd=tmp_path).out == here
        assert reconcile("-C", "repository", cwd=tmp_path).code == 0
        assert len(reconcile.cars()) == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["repository"]

    def test_the_nearest_index_upwards_is_taken(self, reconcile: CommandLine) -> None:
        here = reconcile("plan").out
        assert reconcile("plan", cwd=reconcile.root / "weights/llm/1.0.0").out == here
        assert not (reconcile.root / "weights/llm/1.0.0/.reconcile").exists()

    def test_without_an_index_nothing_is_made(self, empty: CommandLine) -> None:
        for command in (
            [],
            ["plan"],
            ["status"],
            ["resolve", "x"],
            ["verify", "x"],
            ["export", "x", "x.car"],
        ):
            done = empty(*command)
            assert (done.code, done.out) == (2, ""), command
            assert "no index at 'releases/index.yaml'" in done.err
            assert "`reconcile init` makes one" in done.err
        assert list(empty.root.iterdir()) == []

    @pytest.mark.parametrize("option", ["-C", "--index", "--targets", "--source-root"])
    def test_a_missing_path_is_a_usage_error(self, reconcile: CommandLine, option: str) -> None:
        done = reconcile("plan", option, "nowhere")
        assert (done.code, done.out) == (2, "")
        assert "nowhere" in done.err

    def test_weights_may_lie_elsewhere(self, reconcile: CommandLine, tmp_path: Path) -> None:
        (reconcile.root / "weights").rename(tmp_path / "weights")
        assert reconcile("plan").code == 5
        assert reconcile("--source-root", tmp_path).code == 0
        assert len(reconcile.cars()) == 2


# -- streams -------------------------------------------------------------------------------------------------


def on_a_terminal(root: Path, *arguments: str, **environment: str) -> str:
    """Return what a command writes to a terminal that is both stdout and stderr."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*RUN, *arguments],
        cwd=root,
        stdin=child,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm-256color", **environment},
    )
    os.close(child)
    said = b""
    while True:
        try:
            data = os.read(parent, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        said += data
    os.close(parent)
    assert process.wait() == 0
    return said.decode()


def test_a_terminal_gets_colour_unless_it_does_not_want_it(reconcile: CommandLine) -> None:
    assert "\x1b[32m+\x1b[0m" in on_a_terminal(reconcile.root, "plan")
    assert "\x1b[32m" not in on_a_terminal(reconcile.root, "plan", NO_COLOR="1")
    assert "\x1b[32m" not in on_a_terminal(reconcile.root, "plan", TERM="dumb")


def test_a_terminal_gets_bars_that_are_gone_before_the_result(reconcile: CommandLine) -> None:
    reconcile.write("weights/llm/1.1.0/model.safetensors", os.urandom(8 << 20))
    said = on_a_terminal(reconcile.root, COLUMNS="120")
    assert "hashing" in said
    assert "storing llm@1.1.0" in said
    result = said.rpartition("\x1b[2K")[2]
    assert "Result: 6 applied" in result
    assert "storing" not in result


def test_hostile_names_reach_neither_the_terminal_nor_the_runner(empty: CommandLine) -> None:
    """Escapes and workflow commands in file names are shown as text."""
    empty.write("releases/index.yaml", INDEX)
    empty.write("weights/llm/1.0.0/\x1b]0;owned\x07", "x")
    empty.write("weights/llm/1.1.0/::set-output name=x::y\n::error::z", "x")
    for command in (["plan"], []):
        done = empty(*command)
        assert done.code == 5
        assert "\x1b" not in done.out + done.err
        assert not re.search(r"^\s*::", done.out + done.err, re.MULTILINE)


def test_an_unexpected_exception_is_reported_as_a_bug(reconcile: CommandLine) -> None:
    broken = (
        "import reconciler.cli.fast_resolve as c\n"
        "c.show_resolution = lambda *a, **k: 1 / 0\n"
        "from reconciler.cli import main; main()"
    )
    command = [RUN[0], "-c", broken, "resolve", "llm"]
    done = subprocess.run(command, cwd=reconcile.root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: unexpected ZeroDivisionError: division by zero\nhint: this is a bug"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "--check", "full"],
        ["doctor", "--no-cache"],
        ["adopt", "--prune"],
        ["status", "--drift", "report"],
        ["apply", "plan.json", "--only", "llm"],
        ["apply", "plan.json", "--allow-removals", "1"],
        ["log", "llm", "--targets", "releases/targets.yaml"],
        ["add", "llm", "2.0.0", "weights/llm/1.0.0", "--targets", "releases/targets.yaml"],
        ["check", "--source-root", "."],
        ["get", "x", "y", "--source-root", "."],
        ["plan", "--markdown"],
    ],
)
def test_an_option_that_a_command_would_ignore_is_a_usage_error(
    reconcile: CommandLine, arguments: list[str]
) -> None:
    done = reconcile(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "No such option" in done.err


def test_the_list_of_commands_agrees_with_their_modules() -> None:
    """Every Typer of a module is listed, with the summary that Typer would print for each command."""
    folder = Path(reconciler.cli.__file__).parent
    defined = {}
    for path in sorted(folder.glob("*.py")):
        commands = getattr(importlib.import_module(f"reconciler.cli.{path.stem}"), path.stem, None)
        if isinstance(commands, typer.Typer):
            group = typer.Typer()
            group.add_typer(commands, name="audit" if commands.registered_callback else None)
            built = typer.main.get_command(group).commands  # type: ignore[attr-defined]
            defined |= {name: (path.stem, command) for name, command in built.items()}
    assert {name: listed.module for name, listed in COMMANDS.items()} == {
        name: module for name, (module, _) in defined.items()
    }
    for name, (_, command) in defined.items():
        assert COMMANDS[name].summary == command.get_short_help_str(10_000), name
        built = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
        assert [each.name for each in built.params] == [each.name for each in command.params]


@pytest.mark.parametrize(
    ("arguments", "modules"),
    [
        (["--help"], set()),
        (["plan", "--help"], {"loop_commands"}),
        (["-C", "audit", "check", "--help"], {"index_commands"}),
        (["audit", "--help"], {"audit_commands"}),
    ],
)
def test_only_the_module_of_a_command_is_imported(
    empty: CommandLine, monkeypatch: pytest.MonkeyPatch, arguments: list[str], modules: set[str]
) -> None:
    imported = []

    def spy(name: str) -> ModuleType:
        imported.append(name.rpartition(".")[2])
        return importlib.import_module(name)

    monkeypatch.setattr("reconciler.cli.command_group.import_module", spy)
    assert empty(*arguments).code == 0
    assert set(imported) == modules
