"""What `instrument(console=True)` draws: each run that is over, with no more of the conversation than spans may show."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from looopy import ToolFailed
from looopy.observe import instrument
from looopy.testing import calls, says
from observe.watched import agent


def lookup(key: str) -> str:
    """Look something up."""
    raise LookupError(f"no entry for {key}")


def drawn_of(capsys: pytest.CaptureFixture[str], options: dict[str, Any], **of_agent: Any) -> str:
    """The picture of a run whose tool fails."""
    with instrument(exporters=(), console=True, **options):
        run = agent(calls("lookup", key="ada"), says("sorry"), tools=[lookup], **of_agent).execute("ada?")
        with suppress(ToolFailed):
            run.result(5)
    return capsys.readouterr().err


@pytest.mark.parametrize("of_agent", [{}, {"on_tool_error": "raise"}])
def test_what_a_tool_says_of_its_failure_is_drawn_only_with_content(
    capsys: pytest.CaptureFixture[str], of_agent: dict[str, Any]
) -> None:
    bare = drawn_of(capsys, {}, **of_agent)
    assert "LookupError\n" in bare
    assert "no entry" not in bare
    assert "LookupError: no entry for ada" in drawn_of(capsys, {"capture_content": True}, **of_agent)


def test_what_is_drawn_has_been_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    def hide(said: str, where: str) -> str:
        return said.replace("ada", f"[{where}]")

    shown = drawn_of(capsys, {"capture_content": True, "redact": hide})
    assert "LookupError: no entry for [tool-result]" in shown
