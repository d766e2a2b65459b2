"""OBSERVABILITY.md lists what is emitted: no more and no less than the code has."""

from __future__ import annotations

import re
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider

from looopy.observe import attributes, sayings
from looopy.observe.metrics import Instruments

PAGE = (Path(__file__).parents[2] / "OBSERVABILITY.md").read_text()


def names_in(heading: str, *, column: int = 1) -> list[str]:
    """What stands in backticks in a column of the last table under a heading."""
    section = PAGE.split(f"### {heading}\n")[1].split("\n### ")[0].split("\n## ")[0]
    table = section.strip().split("\n\n| ")[-1]
    rows = [row for row in table.splitlines()[2:] if row.startswith("|")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[column])]


def test_the_table_of_attributes_names_each_one_once() -> None:
    in_code = {
        value
        for name, value in vars(attributes).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    } | set(sayings.PARAMETERS.values())

    listed = names_in("Spans")
    assert sorted(listed) == sorted(in_code)


def test_the_table_of_metrics_names_each_instrument_with_its_unit() -> None:
    in_code = {(each.name, each.unit) for each in vars(Instruments(MeterProvider())).values()}

    assert set(zip(names_in("Metrics"), units(), strict=True)) == in_code


def units() -> list[str]:
    rows = [
        row
        for row in PAGE.split("### Metrics\n")[1].split("### Logs")[0].splitlines()
        if row.startswith("| `")
    ]
    return [row.split("|")[3].strip() for row in rows]
