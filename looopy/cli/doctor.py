"""`looopy doctor`: is everything there that a run needs? One line for each check, with the mend.

It asks the proxy as an agent would, through `LiteLLMProvider` and `AgentLoop`, so what works here works there. Two small model calls are
made, which may cost a fraction of a cent, and a test trace is sent to where traces go (`tracing.py`). No key is ever shown.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import textwrap
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib.metadata import version

from looopy.agent import AgentLoop
from looopy.arguments import STAND_IN, stand_in_wanted
from looopy.cli.calculator import calculate
from looopy.cli.demo import DEFAULT_MODEL
from looopy.cli.finding import Finding
from looopy.cli.show import Terminal, one_line, plain
from looopy.cli.tracing import examine_tracing
from looopy.cli.watch import FAILED
from looopy.errors import AuthenticationFailed, ConfigurationError, ModelError
from looopy.events import ContentDelta, Event, Failure, LLMResponse, StatusUpdate, ToolComplete
from looopy.messages import JSON
from looopy.observe.pictures.figures import duration
from looopy.providers.calls import as_list, as_object, as_text
from looopy.providers.litellm import LiteLLMProvider
from looopy.setup import Limits

_SECONDS = 60.0  # for each of the two runs
_NAMES = 8  # models that are listed

_STOOD_IN = f"{STAND_IN}=1, so looopy's stand-in answers in place of each model that is given by its name; unset it for real ones"
_SIGNS = {"good": ("✔", "green"), "broken": ("✘", "red"), "note": ("–", "yellow")}
_ABILITIES = {
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel tools",
    "supports_vision": "images",
    "supports_reasoning": "reasoning",
}


@dataclass(frozen=True, slots=True)
class Patient:
    """What is to be examined; None where it is not said.

    Attributes:
        url: the proxy's.
        model: a model's name.
        key_variable: the environment variable with the key.
    """

    url: str | None = None
    model: str | None = None
    key_variable: str | None = None

    @property
    def has_url(self) -> bool:
        """Whether somebody said where a proxy is."""
        names = ("LITELLM_URL", "OPENAI_BASE_URL")
        return bool(self.url) or any(os.environ.get(name, "").strip() for name in names)

    @property
    def url_from(self) -> str:
        """Where the URL comes from."""
        if self.url:
            return "--url"
        return "LITELLM_URL" if os.environ.get("LITELLM_URL", "").strip() else "OPENAI_BASE_URL"

    @property
    def key_from(self) -> str:
        """The variable that the key comes from; empty where there is no key."""
        names = (self.key_variable,) if self.key_variable else ("LITELLM_API_KEY", "OPENAI_API_KEY")
        if not self.key_variable and self.url_from != "OPENAI_BASE_URL":
            names = names[:1]
        return next((name for name in names if name and os.environ.get(name, "").strip()), "")

    def provider(self) -> LiteLLMProvider:
        """The provider that an agent would have.

        Raises:
            ConfigurationError: the URL or the key cannot work, or there is none.
        """
        if self.key_variable and not self.key_from:
            raise ConfigurationError(
                f"--api-key-env {self.key_variable}: this variable is not set; it should hold the key (the key itself is never an argument)",
                argument="--api-key-env",
            )
        key = (
            os.environ[self.key_from] if self.key_variable else ""
        )  # left out, the provider finds it and says where
        return LiteLLMProvider(self.url, self.named or DEFAULT_MODEL, key)

    @property
    def named(self) -> str:
        """The model that somebody named: here, or in the environment."""
        return self.model or os.environ.get("LOOOPY_MODEL") or ""


async def diagnose(patient: Patient, out: Terminal, *, tracing: bool = False) -> int:
    """Show what is found, line by line.

    Args:
        patient: what to examine.
        out: where to.
        tracing: examine tracing, and nothing else.

    Returns:
        The exit code: 1 if something is broken, else 0.
    """
    verdicts: set[str] = set()
    async with aclosing(_tracing() if tracing else examine(patient)) as findings:
        async for finding in findings:
            sign, style = _SIGNS[finding.verdict]
            out.write(f"{sign} ", style)
            out.write_line(f"{finding.about:<10} {_wrapped(plain(finding.text), out)}")
            verdicts.add(finding.verdict)
    out.write_line()
    out.write_line(_summary(verdicts, tracing=tracing))
    return FAILED if "broken" in verdicts else 0


def _summary(verdicts: set[str], *, tracing: bool) -> str:
    if "broken" in verdicts:
        return "mend what is marked ✘, then ask again"
    if not tracing:
        return "everything that a run needs is there"
    return "everything that tracing needs is there" if "good" in verdicts else "tracing is off"


def _wrapped(text: str, out: Terminal) -> str:
    """Text in its column of the diagnosis; where nobody looks on, long lines stay whole for grep."""
    width = max(40, out.width - 14) if out.is_terminal else sys.maxsize
    lines = [
        piece
        for line in text.splitlines()
        for piece in textwrap.wrap(line.strip(), width, break_on_hyphens=False)
    ]
    return ("\n" + " " * 13).join(lines)


async def examine(patient: Patient) -> AsyncGenerator[Finding]:
    """Check one thing after the other; what stands on something broken is not checked."""
    yield Finding("good", "looopy", f"{version('looopy')} on Python {platform.python_version()}")
    stood_in = _stood_in()
    if stood_in is not None:
        yield stood_in
    if stood_in is None or patient.has_url:
        async for finding in _proxy(patient):
            yield finding
    async for finding in _tracing():
        yield finding


async def _tracing() -> AsyncGenerator[Finding]:
    for finding in await asyncio.to_thread(lambda: list(examine_tracing())):
        yield finding


def _stood_in() -> Finding | None:
    """What to know when the environment wants the stand-in."""
    try:
        return Finding("note", "stand-in", _STOOD_IN) if stand_in_wanted() else None
    except ConfigurationError as error:
        return Finding("broken", "stand-in", str(error))


async def _proxy(patient: Patient) -> AsyncGenerator[Finding]:
    try:
        provider = patient.provider()
    except ConfigurationError as error:
        yield Finding("broken", "proxy" if error.argument == "base_url" else "key", str(error))
        return
    try:
        alive = await provider.alive()
        offered: tuple[str, ...] = await provider.models()
        refused: ModelError | None = None
    except ModelError as error:
        alive, offered, refused = await provider.alive(), (), error
    yield _reached(patient, provider, alive=alive, refused=refused)
    if refused is not None and not (alive or refused.status):
        return
    yield _key(patient, refused)
    if isinstance(refused, AuthenticationFailed):
        return
    async for finding in _model(patient, provider, offered):
        yield finding


def _reached(
    patient: Patient, provider: LiteLLMProvider, *, alive: bool, refused: ModelError | None
) -> Finding:
    where = f"{provider.base_url} (from {patient.url_from})"
    if alive:
        return Finding("good", "proxy", f"{where} is alive")
    if refused is not None and not refused.status:
        return Finding("broken", "proxy", str(refused))
    return Finding(
        "note",
        "proxy",
        f"{where} answers, but not at /health/liveliness: is it a LiteLLM proxy? Going on all the same",
    )


def _key(patient: Patient, refused: ModelError | None) -> Finding:
    if isinstance(refused, AuthenticationFailed):
        return Finding("broken", "key", str(refused))
    if refused is not None:
        return Finding(
            "note", "key", f"the list of models cannot be read, so the key is not checked: {refused}"
        )
    if patient.key_from:
        return Finding("good", "key", f"accepted (from {patient.key_from})")
    return Finding("good", "key", "none is set, and none is asked for")


async def _model(
    patient: Patient, provider: LiteLLMProvider, offered: Sequence[str]
) -> AsyncGenerator[Finding]:
    finding = _chosen(patient, provider, offered)
    yield finding
    if finding.verdict == "broken":
        return
    yield await _abilities(provider)
    for check in (_streams, _calls_a_tool):
        finding = await check(provider)
        yield finding
        if finding.verdict == "broken":
            return


def _chosen(patient: Patient, provider: LiteLLMProvider, offered: Sequence[str]) -> Finding:
    """Whether the model is offered; where nobody named one, the default or the first that is."""
    name = provider.model
    if not offered:
        return Finding("note", "model", f"{name}: the server lists no models, so this name is not checked")
    listed = ", ".join(offered[:_NAMES]) + (f" … ({len(offered)} in all)" if len(offered) > _NAMES else "")
    if any(fnmatchcase(name, pattern) for pattern in offered):
        return Finding("good", "model", f"{name} is one of {len(offered)} on offer: {listed}")
    if not patient.named:
        provider.update_config(model=offered[0])
        return Finding(
            "note", "model", f"trying {offered[0]}; choose with --model or LOOOPY_MODEL from: {listed}"
        )
    close = get_close_matches(name, offered, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return Finding("broken", "model", f"{name!r} is not offered; there is: {listed}.{meant}")


async def _abilities(provider: LiteLLMProvider) -> Finding:
    try:
        info = as_list(as_object(await provider.model_group_info()).get("data"))
    except ModelError as error:
        return Finding("note", "abilities", f"the server does not tell: {one_line(str(error), 200)}")
    rows = [as_object(row) for row in info]
    row = next((row for row in rows if as_text(row.get("model_group")) == provider.model), None)
    if row is None:
        return Finding("note", "abilities", "the server does not tell what this model can do")
    able = [word for name, word in _ABILITIES.items() if row.get(name)]
    without = [word for name, word in _ABILITIES.items() if row.get(name) is False]
    said = [
        f"can: {', '.join(able) or 'text only'}",
        f"cannot: {', '.join(without)}" if without else "",
        _window(row),
        "takes no temperature" if _no_temperature(row) else "",
    ]
    return Finding("good", "abilities", "; ".join(filter(None, said)))


def _window(row: dict[str, JSON]) -> str:
    reads, writes = row.get("max_input_tokens"), row.get("max_output_tokens")
    shown = [f"{reads:,} tokens in" if isinstance(reads, int | float) else ""]
    shown += [f"{writes:,} out" if isinstance(writes, int | float) else ""]
    return ", ".join(filter(None, shown))


def _no_temperature(row: dict[str, JSON]) -> bool:
    parameters = as_list(row.get("supported_openai_params"))
    return bool(parameters) and "temperature" not in parameters


async def _streams(provider: LiteLLMProvider) -> Finding:
    agent = AgentLoop(agent_id="doctor", llm_provider=provider, limits=Limits(run_seconds=_SECONDS))
    events = [event async for event in agent.execute("Say hello in one short sentence.")]
    pieces = [event for event in events if isinstance(event, ContentDelta)]
    answers = [event for event in events if isinstance(event, LLMResponse)]
    if failure := _failure(events):
        return Finding("broken", "answer", f"{failure.type}: {failure.message}")
    if not answers or not answers[0].message.text:
        return Finding("broken", "answer", f"{provider.model} answered nothing: does it chat?")
    first = answers[0]
    took = f"first piece after {duration(first.first_token or 0.0)}, whole after {duration(first.seconds)}"
    if len(pieces) == 1 and len(first.message.text) > 80:
        return Finding("note", "answer", f"came in one piece, so something on the way holds it back ({took})")
    return Finding(
        "good", "answer", f"streamed in {len(pieces)} pieces by {first.model or provider.model}: {took}"
    )


async def _calls_a_tool(provider: LiteLLMProvider) -> Finding:
    agent = AgentLoop(
        agent_id="doctor",
        llm_provider=provider,
        tools=[calculate],
        system_prompt="Work out every calculation with the tool `calculate`.",
        limits=Limits(run_seconds=_SECONDS),
    )
    events = [event async for event in agent.execute("Calculate 15 * 23 + 47")]
    done = [event for event in events if isinstance(event, ToolComplete)]
    if failure := _failure(events):
        return Finding("broken", "tools", f"{failure.type}: {failure.message}")
    if not done:
        return Finding(
            "broken", "tools", f"{provider.model} answered without calling the tool: choose a model that can"
        )
    if wrong := done[-1].error:
        return Finding(
            "broken", "tools", f"{provider.model} called the tool wrongly: {one_line(wrong.message, 300)}"
        )
    return Finding(
        "good", "tools", f"{provider.model} called calculate, read {done[-1].result}, and answered"
    )


def _failure(events: Sequence[Event]) -> Failure | None:
    last = events[-1] if events else None
    return last.error if isinstance(last, StatusUpdate) else None
