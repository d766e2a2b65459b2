"""What every test stands on: one event loop implementation, and the services a test may ask for.

No fixture here hides an act of looopy's; scripted models and servers come from `looopy.testing`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REQUIRED = os.environ.get("LOOOPY_REQUIRE_SERVICES") == "1"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every `async def test_…` on asyncio: looopy's bridges are for it alone."""
    return "asyncio"


@pytest.fixture(scope="session")
def proxy_python() -> str:
    """The interpreter that has `litellm[proxy]`: LOOOPY_PROXY_PYTHON, else `.venv-proxy` of this folder.

    Without one the test is skipped, and fails where LOOOPY_REQUIRE_SERVICES=1 promises that it is there.
    """
    named = os.environ.get("LOOOPY_PROXY_PYTHON") or str(ROOT / ".venv-proxy" / "bin" / "python")
    found = shutil.which(named)
    if found:
        return found
    mend = f"the real LiteLLM proxy is not installed ({named} does not run): ./run proxy-env installs it"
    if REQUIRED:
        pytest.fail(mend)
    pytest.skip(mend)
