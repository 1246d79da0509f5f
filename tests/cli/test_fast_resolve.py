"""A plain `resolve` prints the same with and without the command-line library, and loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.fast_resolve import PlainResolve, plain_resolve
from tests.support.scratch import PROJECT

QUICK = "from reconciler.cli import main; main()"
ORDINARY = "import reconciler.cli.fast_resolve as q; q.plain_resolve = lambda _: None\n" + QUICK


@pytest.mark.parametrize(
    "arguments",
    [
        ["resolve"],
        ["resolve", "--help"],
        ["resolve", "a", "b"],
        ["resolve", "a", "--json", "--json"],
        ["resolve", "a", "--index", "x"],
        ["resolve", "a", "-C"],
        ["resolve", "-x"],
        ["--version"],
        ["-C", "d"],
        [],
    ],
)
def test_anything_else_goes_the_ordinary_way(arguments):
    assert plain_resolve(arguments) is None


def test_a_plain_call_is_understood():
    assert plain_resolve(["resolve", "m@^1"]) == PlainResolve("m@^1")
    before, behind = ["-C", "d", "resolve", "m", "--json"], ["resolve", "--json", "m", "-C", "d"]
    assert plain_resolve(before) == plain_resolve(behind) == PlainResolve("m", Path("d"), as_json=True)


@pytest.mark.parametrize(
    "ref", ["tiny-lm", "tiny-lm@~1.0", "tiny-lm@stable", "tiny-ml", "tiny-lm@9", "@", "tiny-lm@^"]
)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_both_ways_give_the_same_answer(ref, flags):
    arguments = ["resolve", ref, *flags, "-C", str(PROJECT)]
    quick, ordinary = (
        subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        for code in (QUICK, ORDINARY)
    )
    assert (quick.returncode, quick.stdout) == (ordinary.returncode, ordinary.stdout)
    assert quick.stderr == ordinary.stderr


@pytest.mark.parametrize("arguments", [["resolve", "tiny-lm", "-C", str(PROJECT)], ["--help"]])
def test_neither_resolve_nor_help_loads_what_it_does_not_need(arguments):
    code = (
        "import sys\nfrom reconciler.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'git', 'httpx', 'jsonschema', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    for _ in range(2):  # the first may be the one that validates the index
        ran = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
    assert ran.stderr.splitlines()[-1] == "[]"
