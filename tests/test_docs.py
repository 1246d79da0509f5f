"""Every command in the README and the pages under docs/ runs as printed, in a scratch clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.index import guarded_yaml, schemas
from tests.support.documents import Block, Command, blocks, commands, matches
from tests.support.hub_server import HubRepository, hub_server
from tests.support.safetensors import safetensors
from tests.support.scratch import PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
SHELL = 'trap \'pwd >"$1"\' EXIT; eval "$2"'  # records the directory for the next command

NOT_RUN = [
    pytest.param(page, block, id=f"{page.relative_to(PROJECT)}:{block.line}")
    for page in PAGES
    for block in blocks(page)
    if block.not_run is not None
]


#: pages with commands that ask a Hugging Face hub
HUB_PAGES = frozenset({"mirror-hugging-face.md"})
HUB_MODEL = "HuggingFaceTB/SmolLM2-135M"


@contextmanager
def hub_of(page: Path) -> Iterator[dict[str, str]]:
    """Yield the variables for the commands of `page`: those of a hub with HUB_MODEL, where it needs one."""
    if page.name not in HUB_PAGES:
        yield {}
        return
    files = {
        ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        "README.md": b"# SmolLM2\n",
        "config.json": b'{"model_type": "llama"}\n',
        "model.safetensors": safetensors(bytes(300_000)),
        "tokenizer.json": b"{}",
    }
    with hub_server() as hub:
        hub.add(HubRepository.make(HUB_MODEL, files, cardData={"license": "apache-2.0"}))
        yield {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_TOKEN": ""}


def run(command: Command, folder: Path, note: Path, environment: Mapping[str, str] = {}) -> tuple[int, str]:
    """Run one command in `folder`; return its exit code and what a terminal would have shown."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", SHELL, "bash", note, command.text],
        cwd=folder,
        env=os.environ | {"PATH": path, "COLUMNS": "110", "NO_COLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout


SHOWING = [page for page in PAGES if any(block.not_run is None for block in blocks(page))]


#: pages whose commands need a real peer, or whose text is compared in another way too
MARKS = {
    "sealed-weights.md": pytest.mark.age_cli,
    "commands.md": pytest.mark.slow,  # lint compares it with the program in every run
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=str(page.relative_to(PROJECT)), marks=MARKS.get(page.name, ()))
        for page in SHOWING
    ],
)
def test_the_commands_of_a_page_print_what_it_shows(page: Path, scratch_clone: Path, tmp_path: Path) -> None:
    folder, note = scratch_clone, tmp_path / "folder"
    with hub_of(page) as environment:
        for block in blocks(page):
            for command in block.commands if block.not_run is None else ():
                exit_code, printed = run(command, folder, note, environment)
                place = f"{page.name}:{command.line}: $ {command.text}"
                assert exit_code == command.exit_code, f"{place}\nexit {exit_code}\n{printed}"
                assert not command.shown or matches(command.shown, printed), f"{place}\nprinted:\n{printed}"
                folder = Path(note.read_text().strip())


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(PROJECT))) for page in PAGES])
def test_commands_are_in_console_blocks(page: Path) -> None:
    for block in blocks(page):
        assert block.language == "console", f"{page.name}:{block.line}: write ```console, commands after `$ `"
        assert block.commands, f"{page.name}:{block.line}: a console block without a command"


@pytest.mark.parametrize(("page", "block"), NOT_RUN)
def test_blocks_that_are_not_run_have_a_reason(page: Path, block: Block) -> None:
    """`pytest -rs tests/test_docs.py` lists every block that is not run, with its reason."""
    pytest.skip(f"not run: {block.not_run}")


def test_a_page_is_parsed_by_the_rules(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```yaml\n$ not a command\n```\n"
        "```console\n$ one\nshown\n\n$ two \\\n> more  # exit 3\n```\n"
        "<!-- not run: needs a peer -->\n```console\n$ three\n```\n"
    )
    first, second = blocks(page)
    assert first == Block(
        4, "console", (Command(5, "one", 0, "shown"), Command(8, "two \\\nmore", 3, "")), None
    )
    assert second.not_run == "needs a peer"


def test_output_without_a_command_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 7: output without a command: 'stray'"):
        commands(["stray", "$ command"], 7)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a\nb\nc\n", False),
        ("took … s", "took 0.3 s\n", True),
        ("took … s", "took 0.3\ns\n", False),
        ("first\n…\nlast", "first\nx\ny\nlast\n", True),
        ("first\n…\nlast", "first\nlast\n", True),
        ("first\n…", "first\n", True),
        ("a.b", "axb\n", False),
    ],
)
def test_an_ellipsis_matches_anything_and_other_text_itself(shown: str, printed: str, same: bool) -> None:
    assert matches(shown, printed) is same


def test_a_change_of_directory_affects_the_next_command(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    note = tmp_path / "note"
    assert run(Command(1, "cd sub && false", 0, ""), tmp_path, note)[0] == 1
    assert note.read_text().strip() == str(tmp_path / "sub")


YAML = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = [
    pytest.param(text, id=f"{page.name}:{number}")
    for page in PAGES
    for number, text in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
    if text.startswith(("schema:", "targets:", "sources:", "trust:"))
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_index_and_targets_files_on_pages_are_valid(text: str, tmp_path: Path) -> None:
    tree = guarded_yaml.parse(text, "example.yaml")
    kind = text.partition(":")[0]
    schema = {"schema": "index", "trust": "config"}.get(kind, kind)
    assert schemas.problems(schema, tree) == []


VARIABLE = re.compile(
    r"\b(?:RECONCILE_[A-Z_]+[A-Z]|XDG_[A-Z_]+|NO_COLOR|GITHUB_[A-Z_]+|STORACHA_[A-Z_]+|SSL_CERT_[A-Z]+|HF_[A-Z_]+[A-Z])\b"
)


def test_the_page_of_environment_variables_lists_those_that_the_package_reads() -> None:
    code = [file.read_text() for file in (PROJECT / "reconciler").rglob("*.py")]
    read = {name for text in code for name in VARIABLE.findall(text)}
    page = set(VARIABLE.findall((PROJECT / "docs/environment.md").read_text()))
    internal = {"RECONCILE_INPUT", "RECONCILE_PROPOSAL"}  # prefixes
    assert read - page - internal == set()
    assert page - read - internal == set()


def test_every_file_that_the_architecture_names_exists() -> None:
    page = (PROJECT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`((?:[a-z_]+/)*[\w.]+\.(?:py|json)|(?:tests|schemas)(?:/\w+)*/?)`", page))
    assert len(named) > 40
    places = (PROJECT, PROJECT / "reconciler")
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


def test_every_message_of_the_troubleshooting_page_is_one_of_the_program() -> None:
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    code = "".join(file.read_text() for file in sorted((PROJECT / "reconciler").rglob("*.py")))
    assert len(messages) > 20
    assert [message for message in messages if message not in code] == []


def test_every_class_that_the_glossary_names_exists() -> None:
    page = (PROJECT / "docs/glossary.md").read_text()
    for module, name in re.findall(r"`((?:[a-z_]+\.)+)([A-Z]\w+)", page):
        file = PROJECT / "reconciler" / f"{module.strip('.').replace('.', '/')}.py"
        assert f"class {name}" in file.read_text(), (module, name)
    for module in re.findall(r"`((?:[a-z_]+\.)+[a-z_]+)`(?=[ ,]|$)", page.replace("|\n", "\n")):
        path = PROJECT / "reconciler" / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or path.is_dir(), module


LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(PROJECT))) for page in PAGES])
def test_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.finditer(page.read_text()):
        target = page.parent / link["file"] if link["file"] else page
        assert target.exists(), link[0]
        if link["anchor"] is not None:
            assert link["anchor"] in anchors(target), link[0]
