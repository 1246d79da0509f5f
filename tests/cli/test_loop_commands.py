"""`reconcile`, `plan`, `apply`, `status`: results, exit codes, and what must not exist after a failure."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from reconciler.loop.workspace import run_lock
from tests.support.command_line import INDEX, RUN, CommandLine
from tests.support.store_files import harm

CID = r"bafybei[a-z2-7]{52}"


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True)


def touched(file: Path) -> tuple[int, int, int]:
    """Return values that change when a file is written or replaced."""
    seen = file.stat()
    return seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns


# -- the loop ------------------------------------------------------------------------------------------------


def test_from_a_dry_run_to_nothing_to_do(reconcile: CommandLine) -> None:
    before = reconcile.files()
    plan = reconcile("--dry-run")
    assert (plan.code, plan.err) == (0, "")
    assert plan.out.startswith("llm\n  + 1.1.0 → store")
    assert re.search(
        r"\nPlan: 2 bundles to publish \([\d.]+ KiB\), 2 CIDs to write; 0 in sync\.\n$", plan.out
    )
    assert reconcile.files() == before

    run = reconcile()
    assert (run.code, run.err) == (0, "")
    assert re.search(r"\nResult: 6 applied; [\d.]+ KiB sent\.\n$", run.out)
    assert len(reconcile.cars()) == 2
    index = (reconcile.root / "releases/index.yaml").read_text()
    assert re.sub(rf" +cid: {CID}\n", "", index) == INDEX
    assert len(re.findall(CID, index)) == 2

    after = reconcile.files()
    again = reconcile()
    assert (again.code, again.out) == (0, "Result: nothing to do; 2 in sync.\n")
    assert reconcile("plan", "--exit-code").code == 0
    assert reconcile.files() == after


def test_exit_code_says_that_changes_are_pending(reconcile: CommandLine) -> None:
    assert reconcile("plan").code == 0
    assert reconcile("plan", "--exit-code").code == 3
    assert reconcile("--dry-run", "--exit-code").code == 3
    assert reconcile("status", "--exit-code").code == 3
    done = reconcile("--exit-code")
    assert done.code == 2
    assert "--dry-run" in done.err
    assert not reconcile.cars()


def test_json_is_one_document_on_stdout(reconcile: CommandLine) -> None:
    plan = reconcile("--dry-run", "--json")
    assert plan.document == reconcile("plan", "--json").document
    assert [item["state"] for item in plan.document["items"]] == ["planned"] * 6
    report = reconcile("--json").document
    assert (report["kind"], report["summary"]["applied"]) == ("report", 6)
    assert report["digest"] == plan.document["digest"]
    status = reconcile("status", "--json").document
    assert status["summary"]["held"] == 2


def test_damage_is_found_and_repaired_and_the_sibling_not_touched(reconcile: CommandLine) -> None:
    reconcile()
    damaged, sibling = reconcile.cars()
    whole, untouched = damaged.read_bytes(), touched(sibling)
    harm(damaged, len(whole) // 2, bytes([whole[len(whole) // 2] ^ 1]))
    assert reconcile("plan", "--exit-code").code == 0
    found = reconcile("plan", "--check", "full", "--exit-code")
    assert found.code == 3
    assert "1 to repair" in found.out
    assert "partial" in reconcile("status", "--check", "full").out
    assert reconcile("--check", "full").code == 0
    assert damaged.read_bytes() == whole
    assert touched(sibling) == untouched


# -- failures ------------------------------------------------------------------------------------------------


def test_one_bad_directory_does_not_hold_up_the_other(reconcile: CommandLine) -> None:
    shutil.rmtree(reconcile.root / "weights/llm/1.0.0")
    done = reconcile("--json")
    assert done.code == 5
    states = {(i["version"], i["change"]): i["state"] for i in done.document["items"]}
    assert states["1.0.0", "blocked"] == "blocked"
    assert states["1.1.0", "publish"] == "applied"
    index = (reconcile.root / "releases/index.yaml").read_text()
    assert len(re.findall(CID, index)) == 1
    assert not (reconcile.root / "releases/records/llm/1.0.0.json").exists()
    assert reconcile("plan").code == 5


def test_a_target_that_is_down_is_five_and_unknown(reconcile: CommandLine) -> None:
    (reconcile.root / ".reconcile").mkdir()
    (reconcile.root / ".reconcile/store").write_text("in the way")
    before = reconcile.files()
    for command in ([], ["plan"], ["status"]):
        done = reconcile(*command)
        assert done.code == 5, command
        assert "unknown" in done.out
    assert reconcile.files() == before


def test_a_refused_run_shows_the_plan_and_then_does_nothing(reconcile: CommandLine) -> None:
    reconcile()
    reconcile.write("releases/index.yaml", INDEX.partition("models:")[0] + "models: {}\n")
    shutil.rmtree(reconcile.root / "releases/records")
    before = reconcile.files()
    done = reconcile("--prune")
    assert done.code == 4
    assert "  - 1.0.0 → store" in done.out
    assert done.err.startswith("error: refused: the index keeps no version;")
    assert "hint: to allow this, run again with --allow-removals 2\n" in done.err
    assert reconcile.files() == before
    as_json = reconcile("--prune", "--json")
    assert as_json.code == 4
    assert as_json.document["kind"] == "plan"
    assert as_json.document["refusals"][0]["rule"] == "emptied-index"
    assert reconcile("plan", "--prune").code == 4
    assert reconcile("--prune", "--allow-removals", "2").code == 0
    assert not reconcile.cars()


def test_a_cid_that_moved_is_refused(reconcile: CommandLine) -> None:
    reconcile()
    git(reconcile.root, "init", "-q")
    git(reconcile.root, "add", "releases")
    git(reconcile.root, "commit", "-qm", "resolved")
    index = reconcile.root / "releases/index.yaml"
    one, two = re.findall(CID, index.read_text())
    index.write_text(index.read_text().replace(one, two))
    shutil.rmtree(reconcile.root / "releases/records")
    done = reconcile()
    assert done.code == 4
    assert f"was {one} in commit" in done.err


def test_an_index_that_does_not_hold_is_two_and_nothing_is_made(reconcile: CommandLine) -> None:
    reconcile.write("releases/index.yaml", INDEX.replace("format:", "fromat:"))
    before = reconcile.files()
    for command in (
        [],
        ["plan"],
        ["status"],
        ["resolve", "llm"],
        ["add", "llm", "2.0.0", "weights/llm/1.0.0"],
    ):
        done = reconcile(*command)
        assert (done.code, done.out) == (2, ""), command
        assert re.match(r"error: releases/index.yaml:7: unknown key 'fromat'", done.err)
        assert "did you mean 'format'?" in done.err
    assert reconcile.files() == before
    failure = reconcile("plan", "--json")
    assert failure.document["error"]["exit_code"] == 2
    assert failure.err


def test_a_second_run_is_told_who_runs(reconcile: CommandLine) -> None:
    (reconcile.root / ".reconcile").mkdir()
    with run_lock(reconcile.root / ".reconcile", "reconcile apply"):
        done = reconcile()
        assert done.code == 1
        assert f"'reconcile apply', process {os.getpid()}" in done.err
        assert reconcile("plan").code == 0
    assert not reconcile.cars()


def test_mistyped_names_get_a_suggestion(reconcile: CommandLine) -> None:
    done = reconcile("--only", "lllm")
    assert done.code == 2
    assert "--only 'lllm' matches no model, version or target" in done.err
    assert "hint: did you mean 'llm'?" in done.err
    assert reconcile("plan", "--exclude", "stroe").err.endswith("hint: did you mean 'store'?\n")
    assert not reconcile.cars()


def test_only_and_exclude_narrow_the_run(reconcile: CommandLine) -> None:
    assert reconcile("--only", "llm@1.0.*").code == 0
    assert len(reconcile.cars()) == 1
    assert "1.1.0" not in reconcile("plan", "--exclude", "llm@1.1.0").out


# -- saved plans ---------------------------------------------------------------------------------------------


def test_a_saved_plan_is_carried_out(reconcile: CommandLine) -> None:
    assert reconcile("plan", "-o", "plan.json").code == 0
    assert json.loads((reconcile.root / "plan.json").read_text())["kind"] == "plan"
    assert reconcile("apply", "plan.json").code == 0
    assert len(reconcile.cars()) == 2


def test_a_saved_plan_is_carried_out_with_its_own_options(reconcile: CommandLine) -> None:
    options = ("--only", "llm@1.0.*", "--propose", "none", "--check", "full")
    assert reconcile("plan", "-o", "plan.json", *options).code == 0
    assert reconcile("apply", "plan.json").code == 0
    assert len(reconcile.cars()) == 1
    assert (reconcile.root / "releases/index.yaml").read_text() == INDEX
    done = reconcile("apply", "plan.json", "--prune")
    assert done.code == 2
    assert "--prune" in done.err


def test_a_plan_saved_without_options_is_refused(reconcile: CommandLine) -> None:
    reconcile("plan", "-o", "plan.json")
    path = reconcile.root / "plan.json"
    document = json.loads(path.read_text())
    del document["options"]
    path.write_text(json.dumps(document))
    done = reconcile("apply", "plan.json")
    assert (done.code, done.out) == (2, "")
    assert "saved by an earlier version, without its options" in done.err
    assert "reconcile plan -o FILE" in done.err
    assert not reconcile.cars()


def test_a_saved_plan_is_refused_once_anything_moved(reconcile: CommandLine) -> None:
    reconcile("plan", "-o", "plan.json")
    reconcile.write("releases/index.yaml", INDEX + "# a comment\n")
    done = reconcile("apply", "plan.json")
    assert (done.code, done.out) == (4, "")
    assert "the index changed since the plan was saved" in done.err
    reconcile.write("releases/index.yaml", INDEX)
    reconcile.write("releases/targets.yaml", "targets:\n  store: {kind: store, path: elsewhere}\n")
    assert "the targets changed" in reconcile("apply", "plan.json", "--json").document["error"]["message"]
    assert not reconcile.cars()
    assert not (reconcile.root / "elsewhere").exists()


@pytest.mark.parametrize("place", ["missing/plan.json", "weights"])
def test_a_plan_that_cannot_be_saved_is_told_first(reconcile: CommandLine, place: str) -> None:
    done = reconcile("plan", "-o", place)
    assert (done.code, done.out) == (2, "")
    assert repr(place) in done.err
    assert not list(reconcile.root.rglob("*plan.json*"))


def test_what_is_no_plan_is_not_applied(reconcile: CommandLine) -> None:
    done = reconcile("apply", "releases/index.yaml")
    assert done.code == 2
    assert "not a saved plan" in done.err
    assert reconcile("apply", "none.json").code == 2
    assert not reconcile.cars()


# -- proposals -----------------------------------------------------------------------------------------------


def test_a_branch_without_a_repository_is_told_before_anything_is_done(reconcile: CommandLine) -> None:
    before = reconcile.files()
    done = reconcile("--propose", "branch")
    assert done.code == 2
    assert "not in a git repository" in done.err
    assert reconcile.files() == before


def test_a_proposal_on_a_branch(reconcile: CommandLine) -> None:
    git(reconcile.root, "init", "-q")
    git(reconcile.root, "add", "releases")
    git(reconcile.root, "commit", "-qm", "start")
    assert reconcile("--propose", "branch").code == 0
    assert (reconcile.root / "releases/index.yaml").read_text() == INDEX
    done = reconcile("plan", "--propose", "branch", "--exit-code")
    assert done.code == 0
    assert "note: the branch reconciler/resolve-cids proposes the CIDs of 2 versions" in done.out


# -- markdown, colour, pipes, signals ------------------------------------------------------------------------


def test_a_plan_as_markdown(reconcile: CommandLine) -> None:
    done = reconcile("plan", "--format", "markdown")
    assert done.out.startswith("**Plan:** 2 bundles to publish")
    assert "| `+` | `llm@1.1.0` | `store` | publish " in done.out


def test_a_pipe_gets_no_colour(reconcile: CommandLine) -> None:
    assert "\x1b" not in reconcile.process("plan").out


def test_a_reader_that_leaves_is_no_traceback(reconcile: CommandLine) -> None:
    process = subprocess.Popen(
        [*RUN, "plan"], cwd=reconcile.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_by_a_signal_is_finished_by_the_next(reconcile: CommandLine, sign: int) -> None:
    """The signal comes while the first bundle is being written to the store."""
    script = (
        "import os, signal, sys\n"
        # a shell that runs the tests in the background has SIGINT ignored, and so have its children
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import threading\n"
        "from reconciler.loop.stopping import Stoppable\n"
        "from reconciler.targets.store import target\n"
        "real, stop, stopped = target.write_car, Stoppable.stop, threading.Event()\n"
        "Stoppable.stop = lambda self: (stop(self), stopped.set())\n"
        "first = threading.Lock()\n"
        "def write(*arguments):\n"
        "    if first.acquire(blocking=False):\n"
        f"        os.kill(os.getpid(), {int(sign)})\n"
        "    stopped.wait(60)\n"
        "    return real(*arguments)\n"
        "target.write_car = write\n"
        "from reconciler.cli import main\n"
        "main()\n"
    )
    command = [RUN[0], "-c", script]
    done = subprocess.run(
        command, cwd=reconcile.root, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert not reconcile.cars()
    assert not list((reconcile.root / ".reconcile/store/tmp").iterdir())
    assert (reconcile.root / "releases/index.yaml").read_text() == INDEX
    assert reconcile().code == 0
    assert len(reconcile.cars()) == 2
    assert reconcile("plan", "--exit-code").code == 0


def test_a_second_interrupt_while_threads_end_ends_the_process_without_a_traceback(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, threading, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import reconciler.cli as cli\n"
        "def interrupted():\n"
        "    threading.Thread(target=time.sleep, args=(300,)).start()\n"
        "    again = lambda: (threading.main_thread().join(), os.kill(os.getpid(), signal.SIGINT))\n"
        "    threading.Thread(target=again, daemon=True).start()\n"
        "    raise KeyboardInterrupt\n"
        "cli._run = interrupted\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [RUN[0], "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr.splitlines() == ["error: interrupted", "hint: run again to finish"]


@pytest.mark.parametrize("flags", [("--json", "--format", "markdown"), ("--json", "--format", "matrix")])
def test_a_plan_is_printed_in_one_format(reconcile: CommandLine, flags: tuple[str, ...]) -> None:
    done = reconcile("plan", *flags)
    assert done.code == 2
    assert "choose one" in done.err + done.out


def test_json_is_short_for_format_json(reconcile: CommandLine) -> None:
    plan = reconcile("plan", "--json").out
    assert reconcile("plan", "--format", "json").out == plan
    assert reconcile("plan", "--json", "--format", "json").out == plan
    for flags in (["--format", "json"], ["--format=json"]):
        failed = reconcile("plan", *flags, "--only", "missing")
        assert failed.document["error"]["exit_code"] == 2


def test_a_lost_car_that_nobody_can_give_is_blocked(
    reconcile: CommandLine,
) -> None:
    import shutil

    assert reconcile().code == 0
    for car in reconcile.cars():
        car.unlink()
    shutil.rmtree(reconcile.root / "weights")
    done = reconcile("plan", "--json")
    assert {item["change"] for item in done.document["items"]} == {"blocked"}
    assert "no target holds the bytes" in done.out
