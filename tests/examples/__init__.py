"""The examples that are whole systems: what each does, seen from outside."""

from __future__ import annotations
