"""Plugs for the tool socket, `looopy.ports.ToolProvider`: `function` makes tools of Python functions."""

from __future__ import annotations
