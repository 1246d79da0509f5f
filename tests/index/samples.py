"""A sample index, and strategies that generate others."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.index.load import parse_index
from reconciler.index.model import Index


def some_cid(seed: str) -> Cid:
    return cids.hash_block(cids.DAG_PB, seed.encode())


SAMPLE = f"""\
# yaml-language-server: $schema=../schemas/index.schema.json
schema: 1
id: acme-models            # chosen once
defaults: {{targets: [node, filecoin]}}
models:
  my-llm-7b:
    kind: model            # model | dataset | artifact
    format: safetensors
    license: Apache-2.0
    channels: {{stable: "1.2.0", next: "2.0.0-rc.1"}}
    versions:
      # the next one
      "2.0.0-rc.1":
        path: weights/my-llm-7b/2.0.0-rc.1
        cid: {some_cid("2.0.0-rc.1")}
      "1.3.0":
        path: weights/my-llm-7b/1.3.0   # not published yet
        created_at: "2026-05-08T00:00:00Z"  # its birthday
      "1.2.0":
        path: weights/my-llm-7b/1.2.0
        created_at: "2026-05-07T00:00:00Z"
        cid: {some_cid("1.2.0")}
        targets: [node]
        protect: true
      "1.1.0": {{cid: {some_cid("1.1.0")}, yanked: "wrong tokenizer"}}   # exact requests still resolve
      '1.0.0': {{cid: {some_cid("1.0.0")}, retired: true}}
  words:
    kind: dataset
    targets: [node]
    versions:
      "0.1.0": {{path: data/words, hidden: include}}
"""


def index_of(text: str) -> Index:
    return parse_index(text, Path("releases/index.yaml"))


small = st.integers(0, 2).map(str)
version_texts = st.builds(
    lambda a, b, c, p: f"{a}.{b}.{c}{p}", small, small, small, st.sampled_from(["", "", "-rc.1", "-beta"])
)


@st.composite
def index_texts(draw: st.DrawFn) -> str:
    """Generate an index in a mixture of styles: widths, quotes, flow and block, comments, line ends."""
    step = draw(st.sampled_from([1, 2, 3, 4]))
    comment = st.sampled_from(["", "", "  # why", "  # ünïcödé 𝄞: {}"])
    lines = ["schema: 1", "id: acme" + draw(comment), "models:" + draw(comment)]
    for model in draw(
        st.lists(st.sampled_from(["alpha", "beta", "g.amma", "de-lta"]), min_size=1, max_size=3, unique=True)
    ):
        name = draw(st.sampled_from([model, f'"{model}"', f"'{model}'"]))
        texts = draw(st.lists(version_texts, min_size=1, max_size=4, unique=True))
        if draw(st.booleans()) and draw(st.booleans()):
            entries = ", ".join(f'"{text}": {{path: w/{model}/{text}}}' for text in texts)
            lines.append(" " * step + f"{name}: {{versions: {{{entries}}}}}" + draw(comment))
            continue
        lines.append(" " * step + f"{name}:" + draw(comment))
        lines.append(" " * 2 * step + "versions:" + draw(comment))
        for text in texts:
            key = draw(st.sampled_from([f'"{text}"', f"'{text}'", text]))
            path = f"w/{model}/{text}"
            if draw(st.booleans()):
                lines.append(" " * 3 * step + "# about " + text)
            if draw(st.booleans()):
                spaces = draw(st.sampled_from(["", " "]))
                flow = f"{{{spaces}path: {path}{spaces}}}"
                lines.append(" " * 3 * step + f"{key}: {flow}" + draw(comment))
                continue
            lines.append(" " * 3 * step + f"{key}:" + draw(comment))
            quoted = draw(st.sampled_from([path, f'"{path}"', f"'{path}'"]))
            lines.append(" " * 4 * step + f"path: {quoted}" + draw(comment))
            if draw(st.booleans()):
                lines.append(" " * 4 * step + "targets:")
                lines.append(" " * 4 * step + draw(st.sampled_from(["- node", "  - node"])) + draw(comment))
            if draw(st.booleans()):
                lines.append("")
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join(lines) + draw(st.sampled_from(["", end, end + end, end + "# the end" + end]))
