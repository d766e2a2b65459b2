"""`looopy run` and `looopy chat` record what they do, where the environment says where to."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec

from looopy.errors import ConfigurationError
from looopy.observe.switches import destinations
from looopy.watcher import watcher


@contextmanager
def recorded(tell: Callable[[str], None]) -> Generator[None]:
    """Record the runs within, and have sent what is left at the end; unless nobody wants it, the agent's own code does it, or the SDK is missing.

    Args:
        tell: says why it cannot be done; the runs go on all the same.
    """
    if not destinations() or watcher() is not None or find_spec("opentelemetry.sdk") is None:
        yield
        return
    from looopy.observe import instrument  # noqa: PLC0415  the SDK takes its time

    try:
        recording = instrument()
    except ConfigurationError as error:
        tell(f"not recorded: {error}")
        yield
        return
    with recording:
        yield
