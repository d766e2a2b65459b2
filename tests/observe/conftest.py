"""What the tests of observing share, and the programs that they start (children.py) do not need."""

from __future__ import annotations

import logging
from typing import Any

import pytest


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """What looopy has said so far, one text for each warning."""
    caplog.set_level(logging.WARNING, "looopy.observe")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "looopy.observe"]
