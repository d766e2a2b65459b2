"""The commands: what each takes, and what it puts together.

Every command ends with an exit code: 0 completed, 1 failed, 2 wrong usage, 3 the task waits for input, 130 Ctrl-C, 143 SIGTERM, 141 its
reader has left.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from looopy.agent import AgentLoop
from looopy.cli.recording import recorded
from looopy.cli.show import Screen, Terminal, json_lines, plain
from looopy.cli.watch import FAILED, INTERRUPTED, PIPE_CLOSED, USAGE, Interruption, hush, watched
from looopy.errors import ConfigurationError, LooopyError
from looopy.events import Event, Failure, StatusUpdate
from looopy.observe.pictures.figures import counted
from looopy.run import Run
from looopy.watcher import watcher

if TYPE_CHECKING:
    from looopy.observe.pictures.nested import Kept

app = typer.Typer(
    name="looopy",
    help="Run agents, talk to them, and see every step as it happens.",
    epilog="Try it without a key: looopy demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_TOLD = 3  # lines of a record that cannot be read: of more, only the number is told

_Agent = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:AGENT",
        help="Where the agent is: app:agent for `agent` in app.py, or path/to/app.py:agent; a function that returns one also does.",
        show_default=False,
    ),
]
_Words = Annotated[
    list[str] | None, typer.Argument(metavar="PROMPT", help="What to ask.", show_default=False)
]
_Debug = Annotated[bool, typer.Option("--debug", help="Show errors with their traceback.")]


@app.callback(invoke_without_command=True)
def looopy(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    """Run agents, talk to them, and see every step as it happens."""
    _never_fail_to_encode()
    if show_version:
        sys.stdout.write(f"looopy {version('looopy')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit


@app.command(epilog='Example: looopy run app:agent "What is 15 * 23 + 47?"')
def run(
    agent: _Agent,
    prompt: _Words = None,
    json: Annotated[
        bool, typer.Option("--json", help="One event a line as JSON on stdout, and nothing else there.")
    ] = False,
    trace: Annotated[
        bool,
        typer.Option("--trace", help="Draw at the end where time and money went; with --json on stderr."),
    ] = False,
    debug: _Debug = False,
) -> None:
    """Run a task and show it live: text, thoughts, tools, and what it took.

    Without PROMPT, or with -, the prompt is read from stdin. Exit codes: 0 completed, 1 failed, 2 wrong usage, 3 waits for an answer,
    130 Ctrl-C, 143 SIGTERM.
    """

    def act() -> int:
        picture = Terminal(stderr=json) if trace else None
        show = json_lines(sys.stdout.buffer) if json else Screen(Terminal()).show
        # What the agent's own code prints must not stand between the events.
        with redirect_stdout(sys.stderr) if json else nullcontext():
            task = _load(agent).execute(_prompt(prompt))
            with recorded(_tell):
                return _follow(task, show, debug=debug, picture=picture)

    _end(act, debug=debug)


@app.command(
    epilog='Example: looopy run app:agent --json "What is 15 * 23 + 47?" > run.jsonl; looopy trace run.jsonl'
)
def trace(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Events, one a line, as `looopy run --json` writes them; - is stdin.",
            show_default=False,
        ),
    ],
    everything: Annotated[
        bool, typer.Option("--all", help="Show each span; else the middle of many like ones is left out.")
    ] = False,
    debug: _Debug = False,
) -> None:
    """Draw a recorded run: its tree of spans with a time bar for each, and where time and money went.

    Lines that cannot be read are named on stderr, and the exit code is then 1; the others are drawn all the same.
    """

    def act() -> int:
        if file == Path("-"):
            return _draw(sys.stdin.buffer, "stdin", everything=everything)
        try:
            lines = file.open("rb")
        except OSError as error:
            raise ConfigurationError(
                f"cannot read {str(file)!r}: {error.strerror}", argument="FILE"
            ) from error
        with lines:
            return _draw(lines, str(file), everything=everything)

    _end(act, debug=debug)


@app.command(epilog="Example: looopy chat app:agent")
def chat(agent: _Agent, debug: _Debug = False) -> None:
    """Talk to an agent, one line a turn.

    Ctrl-C cancels an answer and keeps the conversation; Ctrl-D or /quit ends it. Lines from a pipe are turns too.
    """
    from looopy.cli.chat import converse

    def act() -> int:
        partner = _load(agent)
        with recorded(_tell):
            return converse(partner, Terminal(), tell=_tell, complain=_complain)

    _end(act, debug=debug)


@app.command(
    epilog='Example: looopy demo "What is (2 + 3) * 4?"', context_settings={"ignore_unknown_options": True}
)
def demo(prompt: _Words = None, debug: _Debug = False) -> None:
    """Watch an agent call a tool and answer, every step an event; needs no key and no network.

    With LITELLM_URL set it asks that proxy, for the model in LOOOPY_MODEL.
    """
    from looopy.cli.demo import PROMPT, Journal
    from looopy.cli.demo import demo as ready

    out = Terminal()
    asked = " ".join(prompt or ()).strip() or PROMPT

    def show_it() -> int:
        with ready(watched=out.is_terminal) as about:
            journal = Journal(out)
            journal.open(about, asked)
            return _follow(about.agent.execute(asked), journal.show, debug=debug, told=True)

    _end(show_it, debug=debug)


@app.command(epilog="Example: looopy doctor --url http://localhost:4000 --model gpt-4o-mini")
def doctor(
    url: Annotated[
        str | None, typer.Option(help="The proxy; left out: LITELLM_URL.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model; left out: LOOOPY_MODEL.", show_default=False)
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The environment variable with the key; left out: LITELLM_API_KEY.",
            show_default=False,
        ),
    ] = None,
    tracing: Annotated[
        bool, typer.Option("--tracing", help="Check tracing alone; no model call is made.")
    ] = False,
    debug: _Debug = False,
) -> None:
    """Check the proxy, the key, the model, a streamed answer, a tool call, and tracing; say what to mend.

    Makes two small model calls. Shows no key.
    """
    from looopy.cli.doctor import Patient, diagnose

    patient = Patient(url, model, api_key_env)
    _end(lambda: asyncio.run(diagnose(patient, Terminal(), tracing=tracing)), debug=debug)


@app.command(epilog="Example: looopy proxy --model openai/gpt-4o-mini --model small=ollama_chat/llama3.1")
def proxy(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MODEL",
            help="A model as LiteLLM names it, and the name to ask for if that is another; may be repeated. Left out: all models of the "
            "makers whose keys are in the environment.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Where it listens, on 127.0.0.1; 0 is any free port.")] = 4000,
    debug: _Debug = False,
) -> None:
    """Run the real LiteLLM proxy until Ctrl-C, with the API keys in the environment; needs the extra `proxy`.

    On stdout are two lines for the shell that talks to it: LITELLM_URL and LITELLM_API_KEY, which is made anew each time.
    """
    from looopy.cli.proxy import serve

    _end(lambda: serve(model or (), port, _tell), debug=debug)


def _load(target: str) -> AgentLoop:
    from looopy.cli.load import load_agent

    return load_agent(target)


def _prompt(words: list[str] | None) -> str:
    """The prompt from the arguments, or from stdin."""
    given = " ".join(words or ())
    if given and given != "-":
        return given
    if not given and sys.stdin.isatty():
        raise ConfigurationError(
            'what shall the agent do? looopy run MODULE:AGENT "prompt", or - to type it', argument="prompt"
        )
    return sys.stdin.read()


def _follow(
    run: Run,
    show: Callable[[Event], None],
    *,
    debug: bool,
    told: bool = False,
    picture: Terminal | None = None,
) -> int:
    """Show a run to its end, and on stderr why it failed unless `show` has told; where wanted, draw it; the exit code."""

    def shown(event: Event) -> None:
        show(event)
        if isinstance(event, StatusUpdate) and event.final and not event.path:
            _explain(event, run, told=told)

    with Interruption(_tell) as interruption, _kept(picture) as seen:
        code = asyncio.run(watched(run, shown, interruption))
    if picture is not None and seen is not None and not _drawn():
        from looopy.observe.pictures.picture import Picture
        from looopy.observe.pictures.timeline import timeline

        picture.print()
        picture.print(Picture(timeline(seen.events, origins=seen.origins)))
    if debug and code == FAILED:
        run.result()
    return code


def _kept(picture: Terminal | None) -> AbstractContextManager[Kept | None]:
    """What is to be drawn, also of the agents that tools call."""
    if picture is None:
        return nullcontext()
    from looopy.observe.pictures.nested import kept

    return kept()


def _drawn() -> bool:
    """Whether the agent's own code has every run drawn: `instrument(console=True)`."""
    there = watcher()
    if there is None:
        return False
    from looopy.observe.instrumentation import Instrumentation

    return isinstance(there, Instrumentation) and there.options.console


def _draw(lines: Iterable[bytes], name: str, *, everything: bool) -> int:
    """Draw what can be read of a record, say what cannot; the exit code."""
    from looopy.cli.record import Record
    from looopy.observe.pictures.picture import Picture
    from looopy.observe.pictures.timeline import timeline

    record = Record(lines)
    spans = timeline(record)
    if spans:
        Terminal().print(Picture(spans, everything=everything))
    if record.unknown:
        kinds = ", ".join(sorted(record.unknown))
        count = counted(record.unknown.total(), "event")
        _tell(f"{name}: {count} of a kind that this version of looopy does not know: {kinds}; left out")
    for number, why in record.broken[:_TOLD]:
        _tell(f"{name}, line {number}: {why}")
    if len(record.broken) > _TOLD:
        _tell(f"{name}: {counted(len(record.broken) - _TOLD, 'more line')} that cannot be read")
    if not record.events and not record.broken:
        _tell(f"{name}: there is no event in it; `looopy run --json` writes one a line")
    return FAILED if record.broken or not record.events else 0


def _explain(event: StatusUpdate, run: Run, *, told: bool) -> None:
    if event.error is not None and event.status.state == "failed" and not told:
        _complain(event.error)
    if event.status.state == "input-required" and run.state is not None:
        inputs = ", ".join(f"{question.input_id!r}: …" for question in run.state.waiting)
        call = f"agent.resume({run.task_id!r}, inputs={{{inputs}}})"
        _tell(f"the task waits for an answer: {call}, on an agent with a task_state_store")


def _end(act: Callable[[], int], *, debug: bool) -> NoReturn:
    """Do it, and leave with its exit code; every error is one message, with `debug` its traceback too."""
    try:
        code = act()
    except BrokenPipeError:
        hush()
        code = PIPE_CLOSED
    except KeyboardInterrupt:
        _tell("interrupted")
        code = INTERRUPTED
    except LooopyError as error:
        _report(error, debug=debug)
        code = USAGE if isinstance(error, ConfigurationError) else FAILED
    except Exception as error:  # noqa: BLE001  whatever it is, people get a message
        _report(error, debug=debug)
        if not debug and not isinstance(error, OSError):
            _tell("this should not happen; --debug shows where it did")
        code = FAILED
    raise typer.Exit(code)


def _report(error: Exception, *, debug: bool) -> None:
    if debug:
        _tell("".join(traceback.format_exception(error)).rstrip())
    _complain(Failure.of(error))


def _complain(failure: Failure) -> None:
    out = Terminal(stderr=True)
    out.write(f"{failure.type}: ", "red")
    out.write_line(plain(failure.message))


def _tell(text: str) -> None:
    """A message to the person, on stderr."""
    Terminal(stderr=True).write_line(plain(text))


def _never_fail_to_encode() -> None:
    """A terminal that cannot show a sign shows a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
