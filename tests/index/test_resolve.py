"""A reference resolves to one version, or to one clear error."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.cid import Cid
from reconciler.errors import UsageError
from reconciler.index.resolve import Channel, Exact, parse_ref, resolve
from reconciler.index.versions import parse_range, parse_version
from tests.index.samples import SAMPLE, index_of, some_cid, version_texts

INDEX = index_of(SAMPLE)


def resolved(text: str) -> str:
    version = resolve(INDEX, parse_ref(text)).version
    assert version is not None
    return version.ref


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        ("my-llm-7b@1.2.0", "1.2.0"),
        ("my-llm-7b@^1", "1.2.0"),
        ("my-llm-7b@^1.1", "1.2.0"),
        ("my-llm-7b@>=1.0 <2", "1.2.0"),
        ("my-llm-7b@stable", "1.2.0"),
        ("my-llm-7b@next", "2.0.0-rc.1"),
        ("my-llm-7b", "1.2.0"),
        ("my-llm-7b@>=2.0.0-alpha", "2.0.0-rc.1"),
        ("my-llm-7b@1.1.0", "1.1.0"),
        ("my-llm-7b@1.0.0", "1.0.0"),
    ],
)
def test_a_reference_means_one_version(ref: str, version: str) -> None:
    assert resolved(ref) == f"my-llm-7b@{version}"


def test_yanked_and_retired_resolve_exactly_with_a_warning() -> None:
    assert resolve(INDEX, parse_ref("my-llm-7b@1.1.0")).warnings == (
        "my-llm-7b@1.1.0 is yanked: wrong tokenizer",
    )
    assert "retired" in resolve(INDEX, parse_ref("my-llm-7b@1.0.0")).warnings[0]
    assert resolve(INDEX, parse_ref("my-llm-7b@1.2.0")).warnings == ()


def test_a_cid_means_itself_and_names_its_version() -> None:
    known = resolve(INDEX, parse_ref(str(some_cid("1.1.0"))))
    assert known.version is not None
    assert (known.version.ref, len(known.warnings)) == ("my-llm-7b@1.1.0", 1)
    foreign = resolve(INDEX, parse_ref(str(some_cid("foreign"))))
    assert (foreign.version, foreign.cid) == (None, some_cid("foreign"))


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("my-lm-7b", "unknown model 'my-lm-7b'", "did you mean 'my-llm-7b'?"),
        ("my-llm-7b@1.2.1", "no version '1.2.1'", "did you mean"),
        ("my-llm-7b@stabel", "no channel 'stabel'", "did you mean 'stable'?"),
        ("words@stable", "no channel 'stable'", "no channels"),
        ("my-llm-7b@^3", "has no version in '^3'", "it has 2.0.0-rc.1, 1.3.0"),
        ("my-llm-7b@1.3.0", "has no CID yet", "run reconcile"),
        ("my-llm-7b@~1.1", "1.1.0 is yanked", "name one version exactly"),
        ("my-llm-7b@~1.0", "1.0.0 is retired", "name one version exactly"),
        ("my-llm-7b@~1.3", "1.3.0 has no CID yet", "publish it first: run reconcile"),
        ("words", "0.1.0 has no CID yet", "publish it first: run reconcile"),
        ("my-llm-7b@", "has no version", "a reference is"),
        ("", "is not a model name", "a reference is"),
        ("@1.0.0", "is not a model name", "a reference is"),
        ("My-LLM-7B@1.0.0", "unknown model 'My-LLM-7B'", "did you mean 'my-llm-7b'?"),
        ("acme/my-llm-7b/x", "is not a model name", "did you mean 'acme/my-llm-7b-x'?"),
        ("my-llm-7b@1.0.0@x", "", ""),
        ("my-llm-7b@;id", "", ""),
        ("../x", "is not a model name", "a reference is"),
        ("a" * 600, "longer than 512", "a reference is"),
    ],
)
def test_a_bad_reference_gives_advice(ref: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(INDEX, parse_ref(ref))
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "\n" not in str(caught.value)


BLAKE3 = "bafyb4ifz7j6t3q64ddzrnsb7gvss4gutdwwfa7qfrdsglv6dtmwun34phm"


@pytest.mark.parametrize(
    "form", ["{}", "ipfs://{}", "/ipfs/{}", "https://gateway.example/ipfs/{}", "https://{}.ipfs.dweb.link/"]
)
@pytest.mark.parametrize("spelling", [str, lambda cid: str(cid).upper(), lambda cid: "f" + bytes(cid).hex()])
def test_every_spelling_of_a_cid_names_its_version(form: str, spelling: Callable[[Cid], str]) -> None:
    version = INDEX.models["my-llm-7b"].versions["1.2.0"]
    assert version.cid is not None
    found = resolve(INDEX, parse_ref(form.format(spelling(version.cid))))
    assert (found.cid, found.version) == (version.cid, version)


@pytest.mark.parametrize("form", ["{}", "ipfs://{}/a", "/ipfs/{}", "{}/config.json"])
def test_a_cid_of_another_hash_is_not_taken_for_a_model(form: str) -> None:
    with pytest.raises(UsageError, match=r"hash blake3 \(0x1e\); only sha2-256 is supported"):
        parse_ref(form.format(BLAKE3), with_path=True)


def test_a_path_below_a_cid_is_kept_where_it_can_be_used_and_refused_elsewhere() -> None:
    cid = INDEX.models["my-llm-7b"].versions["1.2.0"].cid
    found = resolve(INDEX, parse_ref(f"ipfs://{cid}/onnx/model.onnx", with_path=True))
    assert (found.cid, found.path) == (cid, "onnx/model.onnx")
    with pytest.raises(UsageError, match="names a path below a CID") as caught:
        parse_ref(f"{cid}/onnx")
    assert str(cid) in (caught.value.hint or "")


@pytest.mark.parametrize("cut", [58, 40, 30])
def test_a_cid_that_was_cut_off_is_recognized_when_no_model_has_its_name(cut: int) -> None:
    cid = str(INDEX.models["my-llm-7b"].versions["1.2.0"].cid)
    with pytest.raises(UsageError, match="unknown model") as caught:
        resolve(INDEX, parse_ref(cid[:cut]))
    assert "looks like a CID" in (caught.value.hint or "")


def test_parse_ref_distinguishes_the_kinds_of_references() -> None:
    assert parse_ref("m@1.2.0").selector == Exact("1.2.0")
    assert parse_ref("m@1.2.0-rc.1+b").selector == Exact("1.2.0-rc.1+b")
    assert parse_ref("m@1.2").selector == parse_range("1.2")
    assert parse_ref("m@stable").selector == Channel("stable")
    assert parse_ref("m").selector is None
    assert parse_ref(str(some_cid("x"))).cid == some_cid("x")


states = st.fixed_dictionaries({"cid": st.booleans(), "yanked": st.booleans(), "retired": st.booleans()})
worlds = st.dictionaries(version_texts, states, min_size=1, max_size=6)


def text_of(world: dict[str, dict[str, bool]], order: list[str]) -> str:
    lines = ["schema: 1", "id: acme", "models:", "  m:", "    versions:"]
    for version in order:
        state = world[version]
        keys = [f"path: w/{version}"]
        keys += [f"cid: {some_cid(version)}"] if state["cid"] else []
        keys += ['yanked: "bad"'] if state["yanked"] else []
        keys += ["retired: true"] if state["retired"] and state["cid"] else []
        lines.append(f'      "{version}": {{{", ".join(keys)}}}')
    return "\n".join(lines) + "\n"


@given(worlds, st.sampled_from(["", "^1", "~1.1", ">=0.1 <2", "1.x || 2", ">=1.0.0-beta", "*"]), st.randoms())
def test_resolve_equals_trying_every_version_in_any_order(
    world: dict[str, dict[str, bool]], selector: str, chance: random.Random
) -> None:
    order = list(world)
    chance.shuffle(order)
    index = index_of(text_of(world, order))
    wanted = parse_range(selector or "*")
    best = None
    for version, state in world.items():
        usable = state["cid"] and not state["yanked"] and not state["retired"]
        if (
            usable
            and wanted.contains(parse_version(version))
            and (best is None or parse_version(version) > parse_version(best))
        ):
            best = version
    ref = parse_ref(f"m@{selector}" if selector else "m")
    if best is None:
        with pytest.raises(UsageError):
            resolve(index, ref)
        return
    found = resolve(index, ref)
    assert found.version is not None
    assert (found.version.version, found.cid) == (best, some_cid(best))


def test_resolving_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, reconciler.index.resolve, reconciler.index.load, reconciler.index.history\n"
        "print(sorted({'git', 'jsonschema', 'httpx', 'rich', 'typer'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


BUILDS = f"""\
schema: 1
id: acme
models:
  llm:
    channels: {{stable: "1.0.0+cu118"}}
    versions:
      "1.1.0+cpu": {{cid: {some_cid("1.1.0+cpu")}, yanked: "slow"}}
      "1.1.0+cu121": {{path: w/new}}
      "1.0.0+cu118": {{cid: {some_cid("1.0.0+cu118")}}}
      "1.0.0+cu121": {{cid: {some_cid("1.0.0+cu121")}}}
      "1.0.0": {{cid: {some_cid("1.0.0")}}}
      "0.9.0+cpu": {{cid: {some_cid("0.9.0+cpu")}}}
"""


def build(ref: str, text: str = BUILDS) -> str:
    found = resolve(index_of(text), parse_ref(ref)).version
    assert found is not None
    return found.version


@pytest.mark.parametrize("prefix", ["", "v", "=", "=v", "= ", "= v", "V"])
@pytest.mark.parametrize("version", ["1.0.0+cu118", "1.0.0+cu121", "1.0.0", "0.9.0+cpu", "1.1.0+cpu"])
def test_an_exact_reference_never_answers_with_another_build(prefix: str, version: str) -> None:
    assert build(f"llm@{prefix}{version}") == version


@pytest.mark.parametrize("ref", ["llm@v1.0.0+cu12", "llm@=0.9.0", "llm@0.9.0+cu118", "llm@1.0.0+CU118"])
def test_a_build_that_does_not_exist_is_an_error_that_names_its_builds(ref: str) -> None:
    with pytest.raises(UsageError, match="has no version") as caught:
        build(ref)
    assert (caught.value.hint or "").startswith("name one of its builds: ")


@pytest.mark.parametrize(
    "ref", ["llm", "llm@^1", "llm@1.x", "llm@>=1.0.0+cu118 <2", "llm@1.0.0 || 0.9.0", "llm@~1.0"]
)
def test_a_range_over_builds_of_equal_precedence_lists_them(ref: str) -> None:
    with pytest.raises(
        UsageError, match=r"several builds: 1\.0\.0, 1\.0\.0\+cu118, 1\.0\.0\+cu121"
    ) as caught:
        build(ref)
    assert "name one, such as llm@1.0.0, or a channel" in (caught.value.hint or "")


@pytest.mark.parametrize(("preferred", "version"), [("cu121", "1.0.0+cu121"), ('""', "1.0.0"), ("cpu", None)])
def test_the_index_says_which_build_a_range_takes(preferred: str, version: str | None) -> None:
    text = BUILDS.replace("    channels", f"    build: {preferred}\n    channels")
    if version is None:
        with pytest.raises(UsageError, match="several builds"):
            build("llm@^1", text)
        return
    assert build("llm@^1", text) == build("llm", text) == version
    assert build("llm@1.0.0+cu118", text) == build("llm@stable", text) == "1.0.0+cu118"
    assert build("llm@^0.9", text) == "0.9.0+cpu", "a single build needs no preference"


def test_builds_that_a_range_must_not_pick_do_not_make_it_ambiguous() -> None:
    text = BUILDS.replace('"1.0.0+cu121": {', '"1.0.0+cu121": {retired: true, ')
    text = text.replace('"1.0.0": {', '"1.0.0": {yanked: "wrong", ')
    assert build("llm@^1", text) == "1.0.0+cu118"
