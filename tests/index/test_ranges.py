"""Ranges follow npm's rules; the oracle is semantic_version.NpmSpec, where it follows them itself."""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import semantic_version
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import UsageError
from reconciler.index.versions import MAX_RANGE_LENGTH, newest_first, parse_range, parse_version

small = st.integers(0, 3).map(str)
identifiers = st.lists(
    st.sampled_from(["alpha", "beta", "rc", "0", "1", "10", "x-y"]), min_size=1, max_size=2
)
prereleases = st.one_of(st.just(""), identifiers.map(lambda parts: "-" + ".".join(parts)))
versions = st.builds(lambda a, b, c, p: f"{a}.{b}.{c}{p}", small, small, small, prereleases)
releases = st.builds(lambda a, b, c: f"{a}.{b}.{c}", small, small, small)
wild = st.sampled_from(["x", "X", "*"])


@st.composite
def partials(draw: st.DrawFn) -> str:
    shape = draw(st.integers(0, 5))
    if shape == 0:
        return draw(wild)
    if shape == 1:
        return draw(small)
    if shape == 2:
        return draw(small) + "." + draw(st.one_of(small, wild))
    if shape == 3:
        return draw(small) + "." + draw(small) + "." + draw(wild)
    return draw(releases)


comparators = st.builds(
    lambda op, p: op + p, st.sampled_from(["", "=", "^", "~", ">", ">=", "<", "<="]), partials()
)
sets = st.one_of(
    st.lists(comparators, min_size=1, max_size=3).map(" ".join),
    st.builds(lambda low, high: f"{low} - {high}", partials(), partials()),
)
ranges = st.lists(sets, min_size=1, max_size=3).map(" || ".join)


def contains(text: str, version: str) -> bool:
    return parse_range(text).contains(parse_version(version))


@given(ranges, releases)
def test_releases_agree_with_the_oracle(text: str, version: str) -> None:
    try:
        oracle = semantic_version.NpmSpec(text)
    except (ValueError, TypeError, AttributeError):  # it fails on some wildcards
        parse_range(text)
        return
    if any(f"{sign}{letter}" in text for sign in "<>" for letter in "xX*"):
        return  # nothing to npm, anything to the oracle
    assert contains(text, version) == oracle.match(semantic_version.Version(version))


@given(versions, versions)
def test_prereleases_agree_with_the_oracle_for_single_comparators(base: str, version: str) -> None:
    # The oracle errs between pre-releases and releases ("=1.0.0-rc" takes in 1.0.0), and with "<1.0.0-rc".
    if ("-" in base) != ("-" in version):
        return
    for operator in ("^", "~", ">=", ">", "<=", "="):
        if operator == "<=" and "-" in base:
            continue  # "<=1.0.0-a" takes in 1.0.0-a.b
        expected = semantic_version.NpmSpec(operator + base).match(semantic_version.Version(version))
        assert contains(operator + base, version) == expected, operator


@pytest.mark.node
def test_ranges_agree_with_npm_itself() -> None:
    """The range library in npm gives the same 4,000 random answers, pre-releases included."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None and npm is not None
    library = Path(npm).resolve().parent.parent / "node_modules" / "semver"
    if not library.is_dir():
        pytest.skip("this npm does not carry its semver library beside it")
    chance = random.Random(7)

    def partial() -> str:
        count = chance.choice([0, 1, 2, 3, 3, 3, 3, 3])  # of numbers in front of the wildcards
        numbers = [chance.choice("0123") if place < count else chance.choice("xX*") for place in range(3)]
        text = ".".join(numbers[: chance.choice([1, 2, 3, 3, 3])])
        return (
            text + chance.choice(["-rc.1", "-beta", "-0"])
            if re.fullmatch(r"\d\.\d\.\d", text) and chance.random() < 0.4
            else text
        )

    def one_set() -> str:
        if chance.random() < 0.2:
            return f"{partial()} - {partial()}"
        operators = ["", "=", "^", "~", "~>", ">", ">=", "<", "<="]
        return " ".join(chance.choice(operators) + partial() for _ in range(chance.choice([1, 1, 2])))

    questions = []
    for _ in range(4000):
        text = " || ".join(one_set() for _ in range(chance.choice([1, 1, 2])))
        version = ".".join(chance.choice("01234") for _ in range(3)) + chance.choice(
            ["", "", "-rc.1", "-beta", "-0", "-rc.2"]
        )
        questions.append((text, version))
    program = (
        "const s = require(process.argv[1]); const q = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "console.log(JSON.stringify(q.map(([r, v]) => s.satisfies(v, r))))"
    )
    command = [node, "-e", program, str(library)]
    done = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout)
    wrong = [
        (*asked, answer)
        for asked, answer in zip(questions, answers, strict=True)
        if contains(*asked) != answer
    ]
    assert wrong == []
    assert 200 < sum(answers) < 3800, "the questions have both answers"


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("^1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0", "2.0.0-rc.1", "1.3.0-rc.1"]),
        ("^1.2", ["1.2.0", "1.10.0"], ["1.1.9", "1.10.0-rc.1", "2.0.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^0.0", ["0.0.9"], ["0.1.0"]),
        ("^0.x", ["0.9.9"], ["1.0.0"]),
        ("~1.2.3", ["1.2.9"], ["1.3.0"]),
        ("~>1.2", ["1.2.9"], ["1.3.0"]),
        ("~1", ["1.9.9"], ["2.0.0"]),
        (">1.2", ["1.3.0"], ["1.2.9", "1.3.0-rc.1"]),
        ("<=1.2", ["1.2.9"], ["1.3.0"]),
        ("<1.2", ["1.1.9"], ["1.2.0"]),
        ("<1.2", [], ["1.2.0-rc.1"]),
        (">=1.2,<2", ["1.2.0", "1.9.9"], ["2.0.0", "1.1.0"]),
        (">= 1.2 , < 2", ["1.2.0"], ["2.0.0"]),
        ("1.2 - 2.3", ["2.3.9"], ["2.4.0"]),
        ("1.2.3 - 2", ["2.9.9"], ["3.0.0"]),
        ("1.x || >=2.5.0 || 5.0.0 - 7.2.3", ["1.4.0", "2.5.0", "9.0.0"], ["2.0.0"]),
        (">=1.2.3-beta.2", ["1.2.3-beta.2", "1.2.3-rc", "1.2.3", "3.0.0"], ["1.2.4-beta.3", "1.2.3-beta.1"]),
        ("^1.2.3-beta.2 >=2.0.0-alpha", [], ["2.0.0-alpha", "2.0.0"]),
        ("*", ["0.0.0", "9.9.9"], ["1.0.0-rc.1"]),
        ("<*", [], ["0.0.0", "1.0.0"]),
        ("=1.2.3", ["1.2.3", "1.2.3+build.5"], ["1.2.4"]),
        ("v1.2.3+ignored", ["1.2.3"], ["1.2.4"]),
    ],
)
def test_ranges_of_npm(text: str, inside: list[str], outside: list[str]) -> None:
    assert [version for version in inside if not contains(text, version)] == []
    assert [version for version in outside if contains(text, version)] == []


@pytest.mark.parametrize(
    "text",
    ["", " ", "||", "1 ||", "|| 1", "a", "^", "1,,2", "1,", ",1", "1.2-beta", "1.x-a", "1.2.x-a", "1.x.3",
    "x.2", "01.2", ">>1", "1.2.3.4",
     "1 - 2 - 3", ">1 - 2", "1.2.3-01", "1-2", "1.2.3 -2", "^1;id", "1\n", "١", "1.2.3-",
     "99999999999999999999.0.0"],
)  # fmt: skip
def test_a_malformed_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_range(text)


@pytest.mark.parametrize(
    "piece", [" ", "1", "1.", "||", "^", "~>", "-", " - ", "1 ", "x", ",", "1-a.", "=v", "1||"]
)
def test_hostile_ranges_take_linear_time(piece: str) -> None:
    """This includes the maximum length; longer text is not parsed."""
    for length in (MAX_RANGE_LENGTH, 1_000_000):
        begin = time.process_time()
        with contextlib.suppress(UsageError):
            parse_range((piece * length)[:length])
        assert time.process_time() - begin < 0.2


@given(st.text(alphabet="0123456789.xX*^~<>=|-, vab+", max_size=40))
def test_any_text_is_a_range_or_a_usage_error(text: str) -> None:
    try:
        parsed = parse_range(text)
    except UsageError:
        return
    parsed.contains(parse_version("1.2.3"))


@given(st.lists(versions, max_size=8))
def test_newest_first_is_semver_precedence(texts: list[str]) -> None:
    expected = sorted(texts, key=lambda text: (semantic_version.Version(text), text), reverse=True)
    assert newest_first(texts) == expected


@pytest.mark.parametrize(
    "text", ["1.2", "v1.2.3", "1.2.3-01", "01.2.3", "1.2.3\n", "", "1.0.0-" + "a" * 80, "١.0.0"]
)
def test_a_malformed_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a SemVer"):
        parse_version(text)
