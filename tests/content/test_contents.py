"""Two lists of files are compared by path and CID, and empty directories by path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import cid as cids
from reconciler.content.contents import (
    BundleContents,
    ContentChange,
    FileEntry,
    compare_contents,
    make_contents,
)

_PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


def entry(path: str, data: bytes = b"") -> FileEntry:
    return FileEntry(path, len(data), cids.hash_block(cids.RAW, data))


_CONTENTS = st.builds(
    lambda files, directories: make_contents([entry(*each) for each in files.items()], directories),
    st.dictionaries(_PATHS, st.sampled_from([b"1", b"2"]), max_size=5),
    st.lists(_PATHS, unique=True, max_size=3),
)
_MIRRORED = {
    ContentChange.NEW: ContentChange.GONE,
    ContentChange.GONE: ContentChange.NEW,
    ContentChange.CHANGED: ContentChange.CHANGED,
}


@given(_CONTENTS)
def test_nothing_differs_from_itself(contents: BundleContents) -> None:
    assert compare_contents(contents, contents) == ()


@given(_CONTENTS, _CONTENTS)
def test_a_comparison_the_other_way_round_is_its_mirror(one: BundleContents, two: BundleContents) -> None:
    there = [(each.path, each.is_directory, each.change) for each in compare_contents(one, two)]
    back = [(each.path, each.is_directory, _MIRRORED[each.change]) for each in compare_contents(two, one)]
    assert there == back


@given(_CONTENTS, _CONTENTS)
def test_contents_that_differ_in_a_file_are_not_equal(one: BundleContents, two: BundleContents) -> None:
    differing = {each.path for each in compare_contents(one, two) if not each.is_directory}
    assert differing == {file.path for file in set(one.files) ^ set(two.files)}


def test_a_directory_that_is_filled_is_no_difference_of_its_own() -> None:
    one = make_contents([entry("a")], ["d", "e"])
    two = make_contents([entry("a"), entry("d/x")], ["d"])
    assert one.empty_directories == ("d", "e")
    found = [(each.path, each.change.value, each.is_directory) for each in compare_contents(one, two)]
    assert found == [("d/x", "new", False), ("e", "gone", True)]
