"""JSON and code out of text that was written for people."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looopy import (
    AgentLoop,
    Extracted,
    ExtractionFailed,
    Output,
    OutputInvalid,
    extract_code_block,
    extract_json,
)
from looopy.testing import ScriptedModel, says

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("text", "value", "read"),
    [
        ('{"a": 1}', {"a": 1}, '{"a": 1}'),
        (" 42\n", 42, "42"),
        ("null", None, "null"),
        ('Sure! {"a": {"b": [1]}} Anything else?', {"a": {"b": [1]}}, '{"a": {"b": [1]}}'),
        ('```json\n{"a": 1}\n```', {"a": 1}, '{"a": 1}'),
        ("Here:\n~~~\n[1,\n 2]\n~~~\nSee?", [1, 2], "[1,\n 2]"),
        ('1. So:\n   ```JSON\n   {"a":\n   1}\n   ```', {"a": 1}, '{"a":\n1}'),
        ('The input {"x": [1, 2, 3, 4, 5]} gives\n```\n{"y": 1}\n```', {"y": 1}, '{"y": 1}'),
        ('```python\nx = {"no": 1}\n```\nand [true]', {"no": 1}, '{"no": 1}'),
        ('See [1], {name} and [a link](x): {"a": "}"}', {"a": "}"}, '{"a": "}"}'),
        ('First {"a": 1}, better {"a": 2}', {"a": 2}, '{"a": 2}'),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}, '{"a": "\\ud800"}'),
        ('{"a": 1}\n```\ncut', {"a": 1}, '{"a": 1}'),
    ],
)
def test_json_is_found_in_whatever_stands_around_it(text: str, value: object, read: str) -> None:
    assert extract_json(text) == Extracted(value, repaired=False, text=read)


@given(
    value=json_values,
    before=st.sampled_from(["", "Well: ", "```json\n", "a\n```\n"]),
    after=st.sampled_from(["", "\n```", "\n```\nso"]),
)
def test_whole_json_is_never_changed(value: Any, before: str, after: str) -> None:
    text = json.dumps({"answer": value})

    found = extract_json(f"{before}{text}{after}")

    assert (found.value, found.repaired) == ({"answer": value}, False)


@given(text=st.text(alphabet="{}[]\"':,a1 \n`~\\"))
def test_any_text_gives_json_or_a_failure(text: str) -> None:
    with suppress(ExtractionFailed):
        assert extract_json(text).text


@pytest.mark.parametrize("text", ["", "Sorry, I cannot.", "{name} is [a link](x) {", "[see below]"])
def test_a_text_without_json_is_a_failure(text: str) -> None:
    with pytest.raises(ExtractionFailed, match=r"^there is no JSON in the text$") as caught:
        extract_json(text)

    assert isinstance(caught.value, ValueError)
    assert caught.value.text == text


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "{" * 50_000, '{"a":' * 20_000, "['" * 20_000, '{"' * 20_000, "{'a'" * 20_000]
)
def test_a_text_of_nothing_but_brackets_takes_no_time(text: str) -> None:
    """The package that mends takes minutes for some of these."""
    with pytest.raises(ExtractionFailed):
        extract_json(text)


# ---------------------------------------------------------------------------------------------------------------- repair


@pytest.fixture
def repair(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package that mends; where it is not installed, the test is skipped."""
    pytest.importorskip("json_repair")


@pytest.fixture
def no_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package that mends were not installed."""
    monkeypatch.setitem(sys.modules, "json_repair", None)


BROKEN = [
    ("{'a': 1, 'b': [true,],}", {"a": 1, "b": [True]}, "{'a': 1, 'b': [true,],}"),
    ("So: {a: 'x', b: None} ok", {"a": "x", "b": None}, "{a: 'x', b: None}"),
    ("```json\n{'a': 'x}'}\n```\nand [1]", {"a": "x}"}, "{'a': 'x}'}"),
    ('{"a": 1 // one\n}', {"a": 1}, '{"a": 1 // one\n}'),
    ('{"a": [1, 2', {"a": [1, 2]}, '{"a": [1, 2'),
    (
        '{\'items\': [{"a": 1}, {"a": 2}],}',
        {"items": [{"a": 1}, {"a": 2}]},
        '{\'items\': [{"a": 1}, {"a": 2}],}',
    ),
    ("['a', 'b',]", ["a", "b"], "['a', 'b',]"),
    ('{"a": NaN}', {"a": "NaN"}, '{"a": NaN}'),
]


@pytest.mark.parametrize(("text", "value", "read"), BROKEN)
def test_broken_json_is_mended_and_marked(text: str, value: object, read: str, repair: None) -> None:
    assert extract_json(text) == Extracted(value, repaired=True, text=read)


@pytest.mark.parametrize("text", [text for text, _, _ in BROKEN])
def test_without_the_package_broken_json_is_a_failure_that_names_it(text: str, no_repair: None) -> None:
    with pytest.raises(ExtractionFailed, match=r"is broken \(.*\); pip install 'looopy\[repair\]'"):
        extract_json(text)


def test_clean_json_needs_no_package(no_repair: None) -> None:
    assert extract_json('ok {"a": 1}').value == {"a": 1}


def mending(made: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a package that always makes this were installed."""
    package = ModuleType("json_repair")

    def repair_json(text: str, **options: object) -> object:
        if isinstance(made, Exception):
            raise made
        return made

    package.repair_json = repair_json  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "json_repair", package)


def test_what_the_package_makes_of_an_object_is_taken_where_it_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mending({"a": 1}, monkeypatch)

    assert extract_json("{'a'; 1}") == Extracted({"a": 1}, repaired=True, text="{'a'; 1}")


def test_a_mended_answer_is_taken_and_marked_unless_it_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing at the end of a cut answer nobody knows."""
    mending({"result": 1}, monkeypatch)
    output = Output(int, mode="prompt", retries=0)
    broken = says("{'result'; 1}")

    result = AgentLoop(llm_provider=ScriptedModel(broken)).execute("go", output_type=output).result(5)
    with pytest.raises(OutputInvalid, match="it has no end"):
        AgentLoop(llm_provider=ScriptedModel(broken + says(finish_reason="length"))).execute(
            "go", output_type=output
        ).result(5)

    assert (result.output, result.repaired) == (1, True)


@pytest.mark.parametrize("made", [[], {}, "", None, ["a"], ValueError("no"), RecursionError()])
def test_a_mend_that_leaves_nothing_of_what_it_was_is_none(
    made: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package makes something of everything."""
    mending(made, monkeypatch)

    with pytest.raises(ExtractionFailed, match="too broken to mend"):
        extract_json("{'a'; 1}")


# ------------------------------------------------------------------------------------------------------------------ code


def test_a_block_of_code_is_what_stands_between_its_fences() -> None:
    text = "Run this:\n```python\nif x:\n    y()\n```\nor this:\n````sh\necho '```'\n````\n"

    assert extract_code_block(text) == "if x:\n    y()"
    assert extract_code_block(text, "python") == "if x:\n    y()"
    assert extract_code_block(text, "SH") == "echo '```'"


def test_a_block_that_is_cut_or_in_a_list_is_one_too() -> None:
    assert extract_code_block("~~~\na\nb") == "a\nb"
    assert extract_code_block("- so:\n  ```py title=x\n  if x:\n    y()\n  ```") == "if x:\n  y()"
    assert extract_code_block("```\n```") == ""


@pytest.mark.parametrize(
    ("text", "language", "message"),
    [
        ("no code", "", "there is no fenced block in the text"),
        ("no code", "python", "there is no block of 'python' in the text"),
        (
            "```sh\nls\n```\n```\nx\n```",
            "python",
            "there is no block of 'python' in the text, only of 'sh', ''",
        ),
    ],
)
def test_a_block_that_is_not_there_is_a_failure(text: str, language: str, message: str) -> None:
    with pytest.raises(ExtractionFailed) as caught:
        extract_code_block(text, language)

    assert str(caught.value) == message
