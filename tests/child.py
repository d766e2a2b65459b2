"""A server as a child process: ready before the first test that asks for it, gone with the last of the folder.

Each has a virtual environment of its own (`./run NAME-env` makes `.venv-NAME`; `LOOOPY_NAME_PYTHON` names another
python), because it brings a hundred packages that looopy does not want. Without it the tests that need the server
are skipped, and fail under `LOOOPY_REQUIRE_SERVICES=1`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

T = TypeVar("T")

# The child ends when its standard input does: the kernel closes the other end of that pipe however pytest dies.
_LAUNCH = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Child:
    """A server that was started; what it says goes to a file, whose end is shown when waiting for it was in vain."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def until(self, look: Callable[[], T | None], what: str, *, seconds: float) -> T:
        """Look until there is something. A server that cannot be reached has nothing; one that dies is noticed at once."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if (found := look()) is not None:
                    return found
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.1)  # between two looks
        ended = self.process.returncode
        state = f"exited with {ended}" if ended is not None else f"did not {what} in {seconds} s"
        said = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        pytest.fail(f"{self.name} ({sys.platform}) {state}; the end of its log:\n{said}")


@contextmanager
def started(
    name: str, python: str, module: str, *arguments: str, folder: Path, environment: Mapping[str, str]
) -> Iterator[Child]:
    """Run a module in a folder, with no setting of this machine but the PATH."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-c", _LAUNCH, module, *arguments],
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(folder),
                "NO_PROXY": "127.0.0.1",
                **environment,
            },
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Child(name, process, log)
    finally:
        process.kill()
        process.communicate(timeout=10)


def python_of(level: str, name: str) -> str:
    """The python that has the server; skips the test, or fails it where services are required."""
    here = Path(__file__).resolve().parents[1] / f".venv-{level}" / "bin" / "python"
    variable = f"LOOOPY_{level.upper()}_PYTHON"
    python = Path(os.environ.get(variable, here))
    if not python.exists():
        missing = f"no {name} at {python}: run `./run {level}-env`, or name a python in {variable}"
        if os.environ.get("LOOOPY_REQUIRE_SERVICES") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return str(python)


def free_ports(count: int) -> Sequence[int]:
    """Ports of the loopback that nobody listens on."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
