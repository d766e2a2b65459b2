"""Ways to reach a model, and wrappers that are themselves such ways."""

from __future__ import annotations
