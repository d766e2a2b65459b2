"""What every test stands on. No fixture here hides an act of looopy's; scripted models come from `looopy.testing`."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every `async def test_…` on asyncio: looopy's bridges are for it alone."""
    return "asyncio"


def pytest_configure() -> None:
    """Take from the machine what would decide whether tests pass."""
    # How long an example takes says more about what else runs here than about the code.
    settings.register_profile("looopy", deadline=None)
    settings.load_profile("looopy")
    # What a shell starts in the background ignores Ctrl-C, and so does what it starts in turn; some tests press it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First come the tests that need a real server: whoever shares the tests out takes from the end, so that each starts once."""
    items.sort(key=lambda item: not any(item.get_closest_marker(server) for server in ("phoenix", "proxy")))
