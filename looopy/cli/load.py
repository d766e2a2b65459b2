"""`MODULE:AGENT`, as uvicorn writes it, to the AgentLoop that it names.

The module comes from the working directory or from what is installed, or is the path of a `.py` file. Every way in which this fails
is said in one message with what is there instead.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import cast

from looopy.agent import AgentLoop
from looopy.errors import ConfigurationError, LooopyError

EXAMPLE = 'for example `looopy run app:agent "Hi"` for `agent = AgentLoop(…)` in app.py'


def load_agent(target: str) -> AgentLoop:
    """The agent of that name.

    Args:
        target: `MODULE:AGENT`. MODULE is a dotted name or the path of a `.py` file; AGENT is an attribute, with dots for those within; a
            function without arguments is called for it.

    Raises:
        ConfigurationError: there is no such agent; the message says what there is. Of an error within the module it is the cause.
    """
    name, colon, attribute = target.rpartition(":")
    if not colon:
        name = target
    if not name:
        raise ConfigurationError(
            f"{target!r} names no module: write MODULE:AGENT, {EXAMPLE}", argument="agent"
        )
    module = _import(name)
    if not attribute or not colon:
        there = [f"{name}:{agent}" for agent in agents_in(module)]
        raise ConfigurationError(
            f"{target!r} names no agent: write MODULE:AGENT, {_or(there) or EXAMPLE}", argument="agent"
        )
    return _agent(_attribute(module, name, attribute), target)


def agents_in(module: ModuleType) -> list[str]:
    """The names of a module's AgentLoops."""
    return [name for name, value in vars(module).items() if isinstance(value, AgentLoop)]


def _import(name: str) -> ModuleType:
    root, dotted = _place(name)
    if str(root) not in sys.path[:1]:
        sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name and (dotted == error.name or dotted.startswith(f"{error.name}.")):
            raise ConfigurationError(_no_module(name, error.name, root), argument="agent") from None
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error
    _check_file(module, name)
    return module


def _place(name: str) -> tuple[Path, str]:
    """Where to look for a module, and its dotted name there: for a file, above the packages that it is in."""
    if not name.endswith(".py"):
        return Path.cwd(), name
    file = Path(name).resolve()
    if not file.is_file():
        raise ConfigurationError(_no_file(name, file), argument="agent")
    parts = [file.stem] if file.stem != "__init__" else []
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _check_file(module: ModuleType, name: str) -> None:
    """A file may have the name of a module that is loaded already, such as `random.py`."""
    if name.endswith(".py") and Path(module.__file__ or "").resolve() != Path(name).resolve():
        raise ConfigurationError(
            f"{name} has the name of another module, {module.__file__ or module.__name__}: rename the file",
            argument="agent",
        )


def _no_file(name: str, file: Path) -> str:
    if not file.parent.is_dir():
        return f"there is no folder {str(file.parent)!r} for {name!r}"
    there = sorted(other.name for other in file.parent.glob("*.py"))
    return (
        f"there is no file {name!r}; in {file.parent} {_listed('there is', there)}{_meant(file.name, there)}"
    )


def _no_module(name: str, missing: str, root: Path) -> str:
    dots = missing.count(".")
    folder = root.joinpath(*missing.split(".")[:dots])
    there = sorted(
        {
            path.stem
            for path in folder.glob("*.py")
            if path.stem.isidentifier() and not path.stem.startswith("__")
        }
        | {path.parent.name for path in folder.glob("*/__init__.py")}
    )
    if "/" in name or "\\" in name:
        return f"{name!r} is no module: for a file write its path with .py, for example {name}.py:agent"
    return (
        f"there is no module {missing!r}, neither installed nor in {folder}, where {_listed('there is', there)}"
        f"{_meant(missing.rpartition('.')[2], there)}"
    )


def _broken(name: str, error: BaseException) -> ConfigurationError:
    what = str(error) if isinstance(error, LooopyError) else f"{type(error).__name__}: {error}"
    mend = ""
    if isinstance(error, ModuleNotFoundError) and not isinstance(error, LooopyError):
        mend = f"; is {error.name!r} installed in {sys.prefix}?"
    return ConfigurationError(
        f"{name!r} cannot be imported ({_where(error)}): {what}{mend}", argument="agent"
    )


def _where(error: BaseException) -> str:
    """File and line of the innermost place that is the user's own, or of the syntax error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = (str(Path(__file__).parent.parent), "<", sys.prefix)
    own = [frame for frame in frames if not frame.filename.startswith(ours)] or frames
    return f"{_short(own[-1].filename)}:{own[-1].lineno}"


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _attribute(module: ModuleType, name: str, path: str) -> object:
    try:
        return reduce(getattr, path.split("."), cast("object", module))
    except AttributeError:
        there = agents_in(module)
        public = [other for other in vars(module) if not other.startswith("_")]
        raise ConfigurationError(
            f"{name!r} has no {path!r}; {_listed('its agents are', there)}{_meant(path, there or public)}",
            argument="agent",
        ) from None


def _agent(found: object, target: str) -> AgentLoop:
    if isinstance(found, AgentLoop):
        return found
    if isinstance(found, type) or not callable(found):
        raise ConfigurationError(
            f"{target!r} is {_a(found)}, not an AgentLoop: name one, or a function that returns one",
            argument="agent",
        )
    made = _called(found, target)
    if isinstance(made, AgentLoop):
        return made
    if inspect.iscoroutine(made):
        made.close()
        raise ConfigurationError(
            f"{target!r} is a coroutine function: make it a plain `def` that returns an AgentLoop",
            argument="agent",
        )
    raise ConfigurationError(f"{target!r} returned {_a(made)}, not an AgentLoop", argument="agent")


def _called(function: Callable[..., object], target: str) -> object:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{target!r} is called for an AgentLoop, without arguments, but {error}: give each a default",
            argument="agent",
        ) from None
    try:
        return function()
    except Exception as error:
        what = str(error) if isinstance(error, LooopyError) else f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"{target!r} failed ({_where(error)}): {what}", argument="agent") from error


def _a(value: object) -> str:
    return (
        f"the class {value.__name__}"
        if isinstance(value, type)
        else f"a value of type {type(value).__name__}"
    )


def _or(names: list[str]) -> str:
    return " or ".join(names)


def _listed(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    return f"{what} {shown or 'none'}"


def _meant(name: str, there: list[str]) -> str:
    close = get_close_matches(name, there, n=1)
    return f". Did you mean {close[0]!r}?" if close else ""
