"""Spans as text that a test can compare whole: the tree, and under each span its kind, status and attributes."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from observe.receiver import Span

MEASURED = ("gen_ai.response.time_to_first_chunk", "langfuse.observation.completion_start_time")
"""Attributes that differ from run to run: shown as "…"."""

MARKS = ("langfuse.internal.is_app_root",)
"""What the `langfuse` package writes on every span of a provider that it was once attached to: not ours to show."""


def drawn(spans: Sequence[Span], *, common: dict[str, Any], leave_out: Collection[str] = ()) -> str:
    """The spans below each other. `common` is what every span must have, and is not shown again; so is what is left out."""
    known = {span.span_id for span in spans}
    below: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        assert {name: span.attributes.get(name) for name in common} == common, span
        assert span.start <= span.end, span
        below.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)

    def lines(parent: str, indent: str) -> list[str]:
        found: list[str] = []
        for span in below.get(parent, []):
            status = "" if span.status == "UNSET" else f" {span.status}: {span.message}"
            found.append(f"{indent}{span.name} [{span.kind}]{status}")
            for name, value in sorted(span.attributes.items()):
                if name not in common and name not in leave_out and name not in MARKS:
                    found.append(f"{indent}  . {name} = {'…' if name in MEASURED else _shown(value)}")
            found += lines(span.span_id, indent + "    ")
        return found

    return "\n".join(lines("", ""))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
