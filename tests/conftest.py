"""What every test stands on. No fixture here hides an act of looopy's; scripted models come from `looopy.testing`."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every `async def test_…` on asyncio: looopy's bridges are for it alone."""
    return "asyncio"
