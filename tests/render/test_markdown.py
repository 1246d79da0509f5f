"""Markdown for pull requests, read by a Markdown parser: hostile names are rendered as text."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.content.cid import RAW, hash_block
from reconciler.loop.changes import Blocked, Outcome, OutcomeState, Plan, Publish, Refusal, Report, Unpin
from reconciler.loop.settings import RunOptions
from reconciler.render.markdown import (
    MAX_CHARACTERS,
    code,
    describe,
    escape,
    plan_markdown,
    report_markdown,
    templated,
)
from reconciler.render.words import plain

ROOT = hash_block(RAW, b"root")
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</details><script>",
    "[click](https://evil.example)",
    "![](https://evil.example/pixel.png)",
    "<https://evil.example>",
    "@everyone",
    "#1",
    "GH-1",
    "a | b",
    "a \\| <b>x</b>",
    "\\",
    "`", "``` x", "a`b``c",
    "**bold** _under_ ~~gone~~",
    "&lt;b&gt; &amp;",
    "# heading", "- item", "1. item", "> quote", "    indented",
    "two\n\nparagraphs", "\r\n| new | row |",
    "\u202ereversed",
    "$x$", ":smile:",
    "::error::x",
]  # fmt: skip


def text_of(html: str) -> str:
    """Return the text that a reader sees, without zero-width breaks."""
    return unescape(re.sub(r"<[^>]*>", "", html)).replace("\u200b", "")


def cells(markdown: str) -> list[list[str]]:
    """Return the rows of the only table in `markdown`, each cell as HTML."""
    html = PARSER.render(markdown)
    assert html.count("<table>") == 1
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]


def blocked(text: str) -> Blocked:
    return Blocked(model=text, version=text, target=text, root=ROOT, reason=text, hint=text)


def a_plan(*changes: Blocked | Publish | Unpin, **rest: tuple[str, ...] | tuple[Refusal, ...]) -> Plan:
    return Plan("acme", "0" * 64, "0" * 64, RunOptions(), changes, **rest)  # type: ignore[arg-type]


def seen(text: str) -> str:
    """Return how a hostile text must appear: visible, on one line, with blanks as in HTML."""
    return plain(text).strip()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_name_stays_in_its_cell_as_text(hostile: str) -> None:
    change = blocked(hostile)
    for markdown in (plan_markdown(a_plan(change)), report_markdown(report(change, hostile))):
        head, row = cells(markdown)
        assert len(row) == len(head) == 5
        for cell in row:
            assert set(re.findall(r"<(\w+)", cell)) <= {"code", "strong"}
        name = seen(f"{hostile}@{hostile}").replace("|", r"\x7c")
        assert text_of(row[1]).strip() == name
        assert seen(hostile) in text_of(row[4])


def report(change: Blocked, detail: str) -> Report:
    return Report(a_plan(change), (Outcome(change, OutcomeState.FAILED, detail, detail),))


@given(st.text(max_size=60))
@example("\\|")
@example("a\\")
def test_escaped_text_reads_as_itself(text: str) -> None:
    html = PARSER.renderInline(escape(text))
    assert "<" not in html
    assert text_of(html).strip() == seen(text)


@given(st.text(min_size=1, max_size=60))
@example("`a")
@example(" `")
@example("\\|`")
def test_code_is_one_span_in_one_cell(text: str) -> None:
    (_, row) = cells(f"| a | b |\n|---|---|\n| {code(text)} | end |")
    assert len(row) == 2
    assert text_of(row[1]) == "end"
    if seen(text):
        assert re.fullmatch(r"<code>[^<]*</code>", row[0])


@pytest.mark.parametrize("text", ["@someone", "see #12", "GH-12", "!7", "org/repo#3"])
def test_forges_link_nothing(text: str) -> None:
    """A forge searches the parser's output for mentions and numbers, so a backslash does not help."""
    shown = unescape(PARSER.renderInline(escape(text)))
    assert not re.search(r"@\w|#\d|(?i:GH-\d)|!\d", shown)


def test_refusals_and_notes_are_text_too() -> None:
    refusal = Refusal("frozen", "<b>x</b>\n# heading", "@all")
    html = PARSER.render(plan_markdown(a_plan(blocked("m"), notes=("</details> @all",), refusals=(refusal,))))
    assert "<b>" not in html
    assert "<h1>" not in html
    assert html.count("</details>") == 1
    assert "@all" not in html


@pytest.mark.parametrize("length", [1, 200, 5_000, 70_000])
def test_a_long_plan_is_cut_below_the_limit_and_says_so(length: int) -> None:
    changes = [blocked(f"{number}" + "|" * length) for number in range(2_000)]
    outcomes = tuple(Outcome(c, OutcomeState.BLOCKED, c.reason) for c in changes)
    for markdown in (
        plan_markdown(a_plan(*changes)),
        report_markdown(Report(a_plan(*changes), outcomes)),
    ):
        assert len(markdown) <= MAX_CHARACTERS < 65_536
        left_out = re.search(r"…and ([\d,]+) more, left out to fit\.", markdown)
        assert left_out
        shown = len(re.findall(r"^\| `!` \|", markdown, re.MULTILINE))
        assert shown + int(left_out[1].replace(",", "")) == 2_000


def test_long_notes_cannot_push_the_text_over_the_limit() -> None:
    plan = a_plan(blocked("m"), notes=("n" * 100_000,), refusals=(Refusal("frozen", "r" * 100_000),))
    assert len(plan_markdown(plan)) <= MAX_CHARACTERS


def test_a_plan_reads_like_a_plan() -> None:
    publish = Publish(
        model="llm", version="1.0.0", target="store", root=ROOT, label="reconciler/acme/llm@1.0.0",
        sources=("directory",), size=2048, reason="not there yet",
    )  # fmt: skip
    assert plan_markdown(a_plan(publish)) == (
        "**Plan:** 1 bundle to publish (2.0 KiB); 0 in sync.\n\n"
        "| | version | target | change | why |\n|---|---|---|---|---|\n"
        "| `+` | `llm@1.0.0` | `store` | publish 2.0 KiB from its directory | not there yet |\n"
    )


CIDS = [("llm@1.0.0", "bafybeia"), ("llm@1.1.0", "bafybeib")]


def test_without_a_template_it_is_ours() -> None:
    assert templated("", "")(CIDS, (), "records") == describe(CIDS, (), "records")


def test_only_our_words_are_replaced_and_once() -> None:
    title, body = describe(CIDS, (), "records")
    made = templated("chore(models): {versions} [{title}] {x}", "Hello {name}\n\n{body}")(CIDS, (), "records")
    assert made == (f"chore(models): llm@1.0.0, llm@1.1.0 [{title}] {{x}}", f"Hello {{name}}\n\n{body}")
    assert templated("{title}", "{body}")([("{body}@1.0.0", "b")], (), "r")[0] == "Resolve {body}@1.0.0"
