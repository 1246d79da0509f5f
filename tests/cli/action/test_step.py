"""A step in the environment of a job: outputs, summary, annotations, comment and refusals."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from reconciler.cli.action.__main__ import main
from reconciler.cli.action.comment import concerns_weights
from reconciler.cli.action.inputs import Event
from reconciler.errors import ExitCode
from reconciler.forges.interface import PROPOSAL_BRANCH
from reconciler.index.load import load_index
from reconciler.index.locations import find_layout
from tests.cli.action.conftest import Jobs
from tests.forges.fake_github import Break, Refusal
from tests.support.command_line import INDEX, CommandLine
from tests.support.releases import assert_document

PULL = {"pull_request": {"number": 1, "base": {"sha": "0" * 40}}}


def git(jobs: Jobs, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", jobs.root, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(jobs: Jobs) -> str:
    git(jobs, "add", "--all")
    git(jobs, "commit", "--quiet", "--message", "x")
    return git(jobs, "rev-parse", "HEAD")


# -- plan ----------------------------------------------------------------------------------------------------


def test_a_plan_hands_over_everything_and_changes_nothing(jobs: Jobs) -> None:
    before = jobs.reconcile.files()
    step = jobs("push")
    assert (step.code, step.annotations) == (ExitCode.OK, [])
    assert (step.outputs["changed"], step.outputs["applied"], step.outputs["failed"]) == ("true", "0", "0")
    assert step.outputs["pending"] == "6"
    assert set(json.loads(step.outputs["resolved"])) == {"llm@1.0.0", "llm@1.1.0"}
    assert [one["only"] for one in json.loads(step.outputs["matrix"])["include"]] == [
        "llm@1.1.0",
        "llm@1.0.0",
    ]
    assert_document("plan", step.document)
    assert step.summary.startswith("## Model weights: plan\n\n**Plan:** 2 bundles to publish")
    assert jobs.reconcile.files() == before
    assert jobs.github.log == []


def test_the_plan_of_a_pull_request_is_one_comment_that_is_kept_up_to_date(jobs: Jobs) -> None:
    jobs("pull_request", PULL)
    (comment,) = jobs.comments()
    assert "**Plan:** 2 bundles to publish" in comment
    calls = jobs.github.calls
    jobs("pull_request", PULL)
    assert jobs.comments() == [comment]
    assert jobs.github.calls - calls == 2
    jobs.reconcile.write("releases/index.yaml", INDEX.partition('      "1.0.0"')[0].replace("1.0.0", "1.1.0"))
    jobs("pull_request", PULL)
    (comment,) = jobs.comments()
    assert "**Plan:** 1 bundle to publish" in comment


def test_two_steps_that_look_at_different_parts_have_a_comment_each(jobs: Jobs) -> None:
    jobs("pull_request", PULL, only="llm@1.0.0")
    jobs("pull_request", PULL, only="llm@1.1.0")
    one, other = jobs.comments()
    assert ("1.0.0" in one, "1.1.0" in one) == (True, False)
    assert ("1.0.0" in other, "1.1.0" in other) == (False, True)


def test_a_pull_request_that_touches_no_release_gets_no_comment(jobs: Jobs) -> None:
    base = commit(jobs)
    jobs.reconcile.write("README.md", "new\n")
    commit(jobs)
    jobs("pull_request", {"pull_request": {"number": 1, "base": {"sha": base}}})
    assert jobs.comments() == []
    jobs.reconcile.write("weights/llm/1.1.0/config.json", "{ }")
    commit(jobs)
    jobs("pull_request", {"pull_request": {"number": 1, "base": {"sha": base}}})
    assert len(jobs.comments()) == 1


def test_a_merge_commit_says_itself_what_the_pull_request_changes(jobs: Jobs) -> None:
    commit(jobs)
    git(jobs, "checkout", "--quiet", "-b", "feature")
    jobs.reconcile.write("README.md", "new\n")
    commit(jobs)
    git(jobs, "checkout", "--quiet", "-")
    jobs.reconcile.write("releases/index.yaml", INDEX + "# later\n")
    commit(jobs)
    git(jobs, "merge", "--quiet", "--no-edit", "feature")
    jobs("pull_request", PULL)
    assert jobs.comments() == []


def test_a_comment_that_has_nothing_left_to_say_says_so(jobs: Jobs) -> None:
    jobs("pull_request", PULL)
    jobs.reconcile()
    jobs("pull_request", PULL)
    (comment,) = jobs.comments()
    assert "Nothing left to do for this pull request." in comment


def test_nothing_to_do_makes_no_comment(jobs: Jobs) -> None:
    jobs.reconcile()
    jobs("pull_request", PULL)
    assert jobs.comments() == []


def test_an_invalid_index_is_annotated_on_its_line_and_updates_an_older_comment(
    jobs: Jobs,
) -> None:
    jobs("pull_request", PULL)
    jobs.reconcile.write("releases/index.yaml", INDEX.replace("format:", "fromat:"))
    step = jobs("pull_request", PULL)
    assert step.code is ExitCode.USAGE
    (one,) = step.annotations
    assert one.command().startswith("::error file=releases/index.yaml,title=reconcile,line=7::")
    assert_document("error", step.document)
    assert "## Model weights: error" in step.summary
    (comment,) = jobs.comments()
    assert "**No plan:**" in comment
    assert step.outputs["changed"] == "false"


def test_without_a_token_the_plan_is_in_the_summary(jobs: Jobs) -> None:
    step = jobs("pull_request", PULL, TOKEN="")
    assert step.code is ExitCode.OK
    (one,) = step.annotations
    assert (one.level, jobs.github.log) == ("notice", [])
    assert "the plan is in the step summary only" in step.summary
    assert "**Plan:** 2 bundles" in step.summary


def test_a_token_that_may_only_read_leaves_the_plan_in_the_summary(jobs: Jobs) -> None:
    jobs.github.breaks = [Break(2, Refusal(403, "Resource not accessible by integration"))]
    step = jobs("pull_request", PULL)
    assert step.code is ExitCode.OK
    (one,) = step.annotations
    assert one.level == "notice"
    assert "pull-requests: write" in one.message
    assert jobs.comments() == []


def test_a_pull_request_that_needs_no_comment_needs_no_token_either(jobs: Jobs) -> None:
    jobs.reconcile()
    assert jobs("pull_request", PULL, TOKEN="").annotations == []
    jobs.github.breaks = [Break(1, Refusal(403, "Resource not accessible by integration"))]
    assert jobs("pull_request", PULL).annotations == []


def test_a_comment_that_is_not_wanted_is_not_made(jobs: Jobs) -> None:
    jobs("pull_request", PULL, comment="false", summary="false")
    assert (jobs.github.log, jobs.ran[0].summary) == ([], "")


def test_what_is_blocked_is_annotated_on_the_line_of_its_version(jobs: Jobs) -> None:
    shutil.rmtree(jobs.root / "weights/llm/1.0.0")
    step = jobs("push")
    assert (step.code, step.outputs["failed"]) == (ExitCode.PARTIAL, "1")
    (one,) = step.annotations
    line = INDEX.splitlines().index('      "1.0.0":') + 1
    assert one.command().startswith(f"::error file=releases/index.yaml,title=llm@1.0.0,line={line}::")
    assert jobs("push", fail_on="refusal").code is ExitCode.OK
    assert jobs("push", fail_on="change").code is ExitCode.PARTIAL


def test_changes_fail_a_step_only_when_asked_to(jobs: Jobs) -> None:
    assert jobs("push", fail_on="change").code is ExitCode.PENDING
    assert jobs("push", fail_on="drift").code is ExitCode.OK


def test_globs_come_one_a_line(jobs: Jobs) -> None:
    step = jobs("push", only="llm@1.0.0\n  store\n")
    assert set(json.loads(step.outputs["resolved"])) == {"llm@1.0.0"}


# -- apply ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event", ["pull_request", "pull_request_target", "merge_group", "pull_request_review"]
)
def test_apply_refuses_unaccepted_contents_and_gives_the_reason(jobs: Jobs, event: str) -> None:
    before = jobs.reconcile.files()
    step = jobs(event, PULL, command="apply")
    assert step.code is ExitCode.REFUSED
    assert event in str(step.error)
    assert "pull_request" in (step.error.hint if step.error and step.error.hint else "")
    assert event in step.summary.replace("\\", "")
    assert (jobs.reconcile.files(), jobs.github.log) == (before, [])


def test_a_plan_for_pull_request_target_is_refused_before_a_file_is_read(jobs: Jobs) -> None:
    jobs.reconcile.write("releases/index.yaml", "not: an index")
    assert jobs("pull_request_target", PULL).code is ExitCode.REFUSED


def test_a_workflow_that_follows_one_of_a_pull_request_is_no_way_around(jobs: Jobs) -> None:
    assert jobs("workflow_run", {"workflow_run": {"event": "pull_request"}}).code is ExitCode.REFUSED
    assert jobs("workflow_run", {"workflow_run": {"event": "push"}}).code is ExitCode.OK


def test_drift_is_only_repaired_on_what_was_accepted(jobs: Jobs) -> None:
    assert jobs("pull_request", PULL, command="drift", drift="repair").code is ExitCode.REFUSED
    assert jobs("pull_request", PULL, command="drift").code is ExitCode.OK


def test_apply_publishes_and_says_what_it_resolved(jobs: Jobs) -> None:
    step = jobs("push", command="apply", propose="write")
    assert step.code is ExitCode.OK
    assert (step.outputs["changed"], step.outputs["applied"], step.outputs["failed"]) == ("true", "6", "0")
    assert set(json.loads(step.outputs["resolved"])) == {"llm@1.0.0", "llm@1.1.0"}
    assert_document("report", step.document)
    assert step.summary.startswith("## Model weights: result\n\n**Result:** 6 applied")
    assert len(jobs.reconcile.cars()) == 2
    again = jobs("push", command="apply", propose="write")
    assert (again.outputs["changed"], again.outputs["resolved"]) == ("false", "{}")


def test_a_reviewed_plan_is_carried_out_exactly_or_not_at_all(jobs: Jobs) -> None:
    plan = jobs("push", propose="write").outputs["plan-json"]
    jobs.reconcile.write("releases/index.yaml", INDEX + "# later\n")
    step = jobs("push", command="apply", propose="write", plan=plan)
    assert step.code is ExitCode.REFUSED
    assert jobs.reconcile.cars() == []
    jobs.reconcile.write("releases/index.yaml", INDEX)
    assert jobs("push", command="apply", propose="write", plan=plan).code is ExitCode.OK


def test_a_saved_plan_brings_its_options_along(jobs: Jobs) -> None:
    plan = jobs("push", propose="none", only="llm@1.0.*").outputs["plan-json"]
    step = jobs("push", command="apply", plan=plan)
    assert step.code is ExitCode.OK
    assert len(jobs.reconcile.cars()) == 1
    assert (jobs.reconcile.root / "releases/index.yaml").read_text() == INDEX


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("only", "llm@1.1.0\nstore", "'llm@1.1.0, store', and the saved plan was made with 'llm@1.0.*'"),
        ("exclude", "store", "'store', and the saved plan was made with none"),
        ("check", "full", "'full', and the saved plan was made with 'quick'"),
        ("drift", "ignore", "'ignore', and the saved plan was made with 'repair'"),
        ("propose", "branch", "'branch', and the saved plan was made with 'write'"),
        ("prune", "true", "true, and the saved plan was made with false"),
        ("allow_removals", "3", "'3', and the saved plan was made with none"),
        ("base", "HEAD~1", "'HEAD~1', and the saved plan was made with none"),
    ],
)
def test_an_input_that_asks_for_something_else_than_the_saved_plan_is_refused(
    jobs: Jobs, name: str, value: str, said: str
) -> None:
    given = {"propose": "write", "only": "llm@1.0.*"}
    plan = jobs("push", **given).outputs["plan-json"]
    step = jobs("push", command="apply", plan=plan, **given | {name: value})
    assert step.code is ExitCode.USAGE
    assert f"the input {name.replace('_', '-')!r} is {said}" in str(step.error)
    assert jobs.reconcile.cars() == []


def test_a_pull_request_needs_a_repository(jobs: Jobs) -> None:
    shutil.rmtree(jobs.root / ".git")
    step = jobs("push", command="apply")
    assert step.code is ExitCode.USAGE
    assert "working-directory" in (step.error.hint if step.error and step.error.hint else "")
    assert jobs.reconcile.cars() == []


def test_a_pull_request_from_a_directory_of_the_repository_edits_the_index_there(jobs: Jobs) -> None:
    git(jobs, "init", "--quiet", str(jobs.root.parent))
    shutil.rmtree(jobs.root / ".git")
    place = f"{jobs.root.name}/releases/index.yaml"
    jobs.github.push("main", {place: INDEX.encode()}, "Add the index")
    step = jobs("push", command="apply")
    assert step.code is ExitCode.OK
    (pull,) = [pull for pull in jobs.github.open_pulls() if pull["head"] == PROPOSAL_BRANCH]
    files = jobs.github.files(pull["head"])
    assert b"cid: bafy" in files[place]
    assert files["releases/index.yaml"] == jobs.github.files("main")["releases/index.yaml"]
    assert f"{jobs.root.name}/releases/records/llm/1.0.0.json" in files


# -- drift ---------------------------------------------------------------------------------------------------


def test_drift_reports_only_published_versions_and_repairs_them_on_request(jobs: Jobs) -> None:
    jobs.reconcile()
    clean = jobs("schedule", command="drift")
    assert (clean.code, clean.outputs["changed"]) == (ExitCode.OK, "false")
    jobs.reconcile.cars()[0].unlink()
    text = (jobs.root / "releases/index.yaml").read_text()
    new = '      "1.2.0":\n        path: weights/llm/1.2.0\n        created_at: "2026-05-08T00:00:00Z"\n'
    jobs.reconcile.write("releases/index.yaml", text + new)
    jobs.reconcile.write("weights/llm/1.2.0/model.safetensors", b"new")
    found = jobs("schedule", command="drift")
    assert (found.code, found.outputs["pending"]) == (ExitCode.PENDING, "1")
    assert [one.level for one in found.annotations] == ["notice", "error"]
    assert found.annotations[1].message == "1 change left to make, and fail-on is drift"
    repaired = jobs("schedule", command="drift", drift="repair")
    assert (repaired.code, repaired.outputs["applied"]) == (ExitCode.OK, "1")
    assert jobs("schedule", command="drift").code is ExitCode.OK
    assert "cid" not in (jobs.root / "releases/index.yaml").read_text().partition('"1.2.0"')[2]


def test_drift_reports_what_happened_to_sources_and_does_not_fail(jobs: Jobs) -> None:
    share = jobs.root.parent / "share"
    for name in ("config.json", "model.safetensors"):
        (share / "llm").mkdir(parents=True, exist_ok=True)
        (share / "llm" / name).write_text("{}")
    jobs.reconcile.write("releases/sources.yaml", f"sources: {{s: {{kind: directory, path: {share}}}}}\n")
    jobs.reconcile.write(
        "releases/index.yaml",
        'schema: 1\nid: acme\nmodels: {llm: {versions: {"1.0.0": {source: "s:llm"}}}}\n',
    )
    assert jobs.reconcile().code == 0
    assert jobs("schedule", command="drift").document["upstream"] == []
    (share / "llm/config.json").unlink()
    for drift in ("report", "repair"):
        found = jobs("schedule", command="drift", drift=drift)
        assert found.code is ExitCode.OK
        (finding,) = found.document["upstream"]
        assert (finding["code"], finding["source"]) == ("file-withdrawn", "s:llm")
        (annotation,) = found.annotations
        assert (annotation.level, annotation.message) == ("warning", "s:llm no longer has 'config.json'")
        assert annotation.where is not None
        assert "llm no longer has 'config.json'" in found.summary
    assert jobs("push").document["upstream"] == []


# -- inputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("command", "destroy"),
        ("prune", "yes"),
        ("fail_on", "never"),
        ("allow_removals", "²"),
        ("check", "deep"),
        ("plan", "x.json"),
        ("index", "no/such.yaml"),
        ("only", "nothing-like-it"),
    ],
)
def test_an_input_that_does_not_hold_is_named_and_nothing_is_done(jobs: Jobs, name: str, value: str) -> None:
    before = jobs.reconcile.files()
    step = jobs("push", **{name: value})
    assert step.code is ExitCode.USAGE
    assert value in str(step.error) or name in str(step.error)
    assert step.outputs["changed"] == "false"
    assert [one.level for one in step.annotations] == ["error"]
    assert jobs.reconcile.files() == before


def test_ignoring_drift_is_no_way_to_look_for_it(jobs: Jobs) -> None:
    assert jobs("push", command="drift", drift="ignore").code is ExitCode.USAGE


def test_a_payload_that_is_no_event_stops_nothing(jobs: Jobs) -> None:
    assert jobs("pull_request", {"pull_request": {"number": True, "base": []}}).code is ExitCode.OK
    assert jobs("pull_request", {"pull_request": "x"}).code is ExitCode.OK
    assert jobs.comments() == []


# -- the process ---------------------------------------------------------------------------------------------


def test_nothing_in_the_log_is_a_command_but_our_own_annotations(
    jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However the step ends, the runner interprets commands again before the annotations."""
    environ = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "folder"),
        "RUNNER_TEMP": str(tmp_path),
    }
    jobs.patch.chdir(jobs.root)
    for name, value in environ.items():
        jobs.patch.setenv(name, value)
    code = main()
    lines = capsys.readouterr().out.splitlines()
    word = lines[0].removeprefix("::stop-commands::")
    assert len(word) == 32
    assert lines[-2] == f"::{word}::"
    assert lines[-1].startswith("::error title=reconcile::the step failed with exit code 1")
    assert code == ExitCode.ERROR


def test_outside_of_a_job_it_says_so(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.patch.chdir(jobs.root)
    assert main() == ExitCode.USAGE
    assert "this step runs only in a job of GitHub Actions" in capsys.readouterr().err


def test_the_token_is_never_printed(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    """On success, on a refusal, and when the forge is down."""
    steps = [jobs("pull_request", PULL)]
    steps.append(jobs("pull_request", PULL, TOKEN="ghs_wrong+canary/="))
    jobs.api = "http://127.0.0.1:9"
    steps.append(jobs("pull_request", PULL, TOKEN="ghs_wrong+canary/="))
    said = capsys.readouterr()
    told = [f"{one.title} {one.message}" for step in steps for one in step.annotations]
    assert len(told) == 2
    kept = [path.read_bytes().decode() for path in jobs.root.parent.rglob("*") if path.is_file()]
    everything = "\n".join([said.out, said.err, *told, *kept, *jobs.comments()])
    for token in (jobs.github.token, "ghs_wrong+canary/="):
        for form in (token, base64.b64encode(token.encode()).decode().rstrip("="), quote(token, safe="")):
            assert form not in everything


def test_the_pull_request_carries_what_the_team_wants(jobs: Jobs) -> None:
    for name, value in {
        "LABELS": "models, cids\nbot",
        "REVIEWERS": "person",
        "DRAFT": "true",
        "TITLE": "chore: {versions}",
        "BODY": "Hello.\n\n{body}",
    }.items():
        jobs.patch.setenv(f"RECONCILE_PROPOSAL_{name}", value)
    jobs("push", command="apply")
    pull = jobs.github.pulls[-1]
    assert pull["title"].startswith("chore: llm@1.")
    assert pull["body"].startswith("Hello.\n")
    assert pull["draft"] is True
    assert set(pull["labels"]) == {"models", "cids", "bot"}
    jobs.patch.setenv("RECONCILE_PROPOSAL_DRAFT", "perhaps")
    assert "RECONCILE_PROPOSAL_DRAFT is 'perhaps'" in str(jobs("push", command="apply").error)


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
        return concerns_weights(event, layout, load_index(layout.index_file))


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
    """Also when the head itself was checked out instead of its merge."""
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
