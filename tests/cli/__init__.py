"""The command line, as the process that people start."""

from __future__ import annotations
