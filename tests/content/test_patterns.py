"""Patterns select what `git check-ignore` ignores, in linear time, and are refused when they cannot match."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.content.patterns import FilePatterns, PatternList, parse_pattern
from reconciler.content.scan import scan
from reconciler.errors import DataError
from tests.support.plant import plant

_TOKENS = [*"ab.-é", "*", "**", "***", "?", "[ab]", "[!a]", "[^a]", "[]a]", "[a-b]", "[a-]", "[[:alpha:]]"]
_TOKENS += [
    "[!]a]",
    "[[:]",
    "[[:^a]",
    "[a/b]",
    "[+-b]",
    r"\a",
    r"\*",
    r"\[",
    r"\ ",
    r"[\]]",
    r"[\a-\b]",
    " ",
    "]",
]
_PATTERNS = st.builds(
    lambda sign, root, parts, end: sign + root + "/".join("".join(part) for part in parts) + end,
    st.sampled_from(["", "", "", "!", r"\!", r"\#"]),
    st.sampled_from(["", "", "/"]),
    st.lists(st.lists(st.sampled_from(_TOKENS), min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from(["", "", "/", "  "]),
)
_NAMES = st.sampled_from([*"ab *[]-é\\", "ab", "ba", "aab", "a b", "a ", "!a", "#a"])
_PATH = st.lists(_NAMES, min_size=1, max_size=4).map("/".join)
_PATHS = st.lists(_PATH, min_size=1, max_size=12, unique=True)
#: git compares the literal beginning first and then takes `**` for the beginning of the pattern, unlike its
#: manual: there `a**/b` is `a*/b`, as it is for us
_BEGINS_INSIDE = re.compile(r"!?/?[^*?\[\\]+\*\*+(/|$)")


def ignored(patterns: Sequence[str], path: str) -> bool:
    """Return whether the file at `path` or one of its directories is matched."""
    rules = PatternList(patterns)
    names = path.encode().split(b"/")
    for depth in range(1, len(names) + 1):
        found = rules.last_match(names[:depth], is_directory=depth < len(names))
        if found is not None and not found.negated:
            return True
    return False


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("patterns")
    subprocess.run(["git", "init", "--quiet", root], check=True)
    return root


def ignored_by_git(repository: Path, patterns: Sequence[str], paths: Sequence[str]) -> set[str]:
    (repository / ".gitignore").write_text("".join(f"{pattern}\n" for pattern in patterns))
    found = subprocess.run(
        ["git", "-C", repository, "check-ignore", "--no-index", "--stdin", "-z"],
        check=False,
        input="\0".join(paths),
        capture_output=True,
        text=True,
    )
    assert found.returncode in (0, 1), found.stderr
    return set(filter(None, found.stdout.split("\0")))


def is_valid(pattern: str) -> bool:
    try:
        parse_pattern(pattern)
    except DataError:
        return False
    return True


@settings(max_examples=60)
@given(st.lists(_PATTERNS, min_size=1, max_size=4), _PATHS)
def test_patterns_match_what_git_ignores(repository: Path, patterns: list[str], paths: list[str]) -> None:
    valid = [each for each in patterns if is_valid(each) and not _BEGINS_INSIDE.match(each)]
    mine = {path for path in paths if ignored(valid, path)}
    assert mine == ignored_by_git(repository, valid, paths)


@settings(max_examples=30)
@given(_PATTERNS, _PATHS)
def test_a_pattern_that_is_refused_matches_nothing_in_git(
    repository: Path, pattern: str, paths: list[str]
) -> None:
    if not is_valid(pattern):
        assert not ignored_by_git(repository, [pattern], paths)


@pytest.mark.parametrize(
    "name",
    ["alnum", "alpha", "blank", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"],
)
def test_every_class_has_the_characters_of_git(repository: Path, name: str) -> None:
    paths = [f"x{chr(value)}" for value in range(32, 127) if chr(value) != "/"]
    pattern = f"x[[:{name}:]]"
    mine = {path for path in paths if ignored([pattern], path)}
    assert mine == ignored_by_git(repository, [pattern], paths)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "matches nothing"),
        ("  ", "matches nothing"),
        ("/", "matches nothing"),
        ("!", "matches nothing"),
        ("a//b", "matches nothing"),
        ("./a", "matches nothing"),
        ("../a", "matches nothing"),
        ("# note", "is a comment"),
        ("[ab", "is not closed"),
        ("a[", "is not closed"),
        ("[]", "is not closed"),
        ("[a-", "is not closed"),
        ("a\\", "ends in a backslash"),
        ("dir\\/", "ends in a backslash"),
        ("[[:word:]]", "unknown class 'word'"),
        ("a\nb", "is not a pattern"),
        ("a" * 1025, "is not a pattern"),
        ("\ud800", "is not UTF-8"),
    ],
)
def test_a_pattern_that_cannot_match_is_refused_with_a_reason(pattern: str, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        parse_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["*a" * 100 + "b", "**/" * 300 + "b", "*" * 1000 + "b", "[ab]*" * 150 + "c"]
)
def test_a_hostile_pattern_takes_no_more_time_than_its_length(pattern: str) -> None:
    rule = parse_pattern(pattern)
    start = time.process_time()
    assert not rule.matches([b"a" * 255] * 32, is_directory=False)
    assert time.process_time() - start < 0.5


def test_the_patterns_that_matched_nothing_are_known() -> None:
    rules = PatternList(["*.bin", "!keep.bin", "*.log", "onnx/"])
    for path in ("a.bin", "keep.bin", "onnx"):
        rules.last_match([path.encode()], is_directory=False)
    assert list(rules.unused()) == ["*.log", "onnx/"]


@settings(max_examples=15)
@given(st.lists(_PATTERNS, min_size=1, max_size=3), _PATHS)
def test_a_scan_excludes_what_git_ignores(repository: Path, patterns: list[str], paths: list[str]) -> None:
    valid = [each for each in patterns if is_valid(each) and not _BEGINS_INSIDE.match(each)]
    parents = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
    with tempfile.TemporaryDirectory() as directory:
        files = sorted(path for path in paths if path not in parents)
        root = plant(Path(directory), dict.fromkeys(files, b""))
        listing = scan(root, include_hidden=False, patterns=FilePatterns(exclude=tuple(valid)))
    expected = set(files) - ignored_by_git(repository, valid, files)
    assert {file.path for file in listing.files} == expected
