"""`looopy run` and `looopy chat` record what they do, where the environment says where to."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from looopy.errors import ConfigurationError, MissingExtra
from looopy.observe.switches import destinations
from looopy.watcher import watcher


@contextmanager
def recorded(tell: Callable[[str], None]) -> Generator[None]:
    """Record the runs within, and have sent what is left at the end; unless nobody wants it, or the agent's own code does it.

    Args:
        tell: says why it cannot be done; the runs go on all the same.
    """
    wanted = destinations()
    if not wanted or watcher() is not None:
        yield
        return
    try:
        from looopy.observe import instrument  # noqa: PLC0415  the SDK takes its time

        recording = instrument()
    except ConfigurationError as error:
        though = f", though {wanted[0]} is set" if isinstance(error, MissingExtra) else ""
        tell(f"not recorded{though}: {error}")
        yield
        return
    with recording:
        try:
            yield
        finally:
            recording.hurry()  # the command ends with it
