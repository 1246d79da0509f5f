"""Templates for the title and body of a pull request."""

from __future__ import annotations

from reconciler.render.markdown import describe, templated

CIDS = [("llm@1.0.0", "bafybeia"), ("llm@1.1.0", "bafybeib")]


def test_without_a_template_it_is_ours() -> None:
    assert templated("", "")(CIDS, (), "records") == describe(CIDS, (), "records")


def test_only_our_words_are_replaced_and_once() -> None:
    title, body = describe(CIDS, (), "records")
    made = templated("chore(models): {versions} [{title}] {x}", "Hello {name}\n\n{body}")(CIDS, (), "records")
    assert made == (f"chore(models): llm@1.0.0, llm@1.1.0 [{title}] {{x}}", f"Hello {{name}}\n\n{body}")
    assert templated("{title}", "{body}")([("{body}@1.0.0", "b")], (), "r")[0] == "Resolve {body}@1.0.0"
