"""What `import looopy` costs a user: which packages it loads, which it installs, which names it gives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import requires
from types import ModuleType

import pytest

import looopy
import looopy.observe
from looopy import MissingExtra

OPTIONAL = (
    "a2a", "ag_ui", "aiohttp", "aiosqlite", "dbos", "genai_prices", "jinja2", "langfuse", "litellm", "mcp", "numpy", "openai", "opentelemetry.sdk",
    "psycopg", "pydantic_settings", "redis", "rich", "sqlalchemy", "sse_starlette", "starlette", "typer", "uvicorn",
)  # fmt: skip


def test_invariant_12_import_looopy_loads_no_optional_package_and_no_opentelemetry_sdk() -> None:
    program = "import json, sys, looopy; print(json.dumps(sorted(sys.modules)))"
    # -I: neither the caller's environment nor a sitecustomize of ours may load something first.
    shown = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=30, check=True
    )

    assert sorted(set(OPTIONAL) & set(json.loads(shown.stdout))) == []


@pytest.mark.parametrize(
    ("name", "module", "needs"),
    [
        ("instrument", "meters", "opentelemetry.sdk.metrics.export"),
        ("Instrumentation", "meters", "opentelemetry.sdk.metrics.export"),
        ("OTLPExporter", "sending.otlp", "opentelemetry.sdk.resources"),
    ],
)
def test_what_records_names_the_extra_where_the_sdk_is_not_installed(
    name: str, module: str, needs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    getattr(looopy.observe, name)
    for each in ("instrumentation", module):
        monkeypatch.delitem(sys.modules, f"looopy.observe.{each}")
    monkeypatch.setitem(sys.modules, needs, None)

    with pytest.raises(MissingExtra) as caught:
        getattr(looopy.observe, name)
    assert str(caught.value) == f"looopy.observe.{name} needs opentelemetry-sdk: pip install 'looopy[otel]'"


def test_scores_and_experiments_need_no_sdk() -> None:
    program = """
import sys
sys.modules["opentelemetry.sdk"] = None
from looopy.observe import score, task_of, trace_url
print(score.__name__)
"""
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert shown.stdout == "score\n"


def test_another_package_that_is_missing_is_not_taken_for_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looopy.observe.OTLPExporter
    monkeypatch.delitem(sys.modules, "looopy.observe.sending.otlp")
    monkeypatch.setitem(sys.modules, "httpx", None)

    with pytest.raises(ModuleNotFoundError, match="httpx") as caught:
        _ = looopy.observe.OTLPExporter
    assert not isinstance(caught.value, MissingExtra)


def test_pip_install_looopy_needs_at_most_16_packages() -> None:
    needed = {"looopy"}
    waiting = ["looopy"]
    while waiting:
        found = core_requirements(waiting.pop()) - needed
        needed |= found
        waiting += found

    assert len(needed) <= 16, sorted(needed)


def test_all_is_sorted_and_names_every_public_name_that_is_there() -> None:
    plumbing = {"annotations", "import_module", "TYPE_CHECKING"}
    for name in looopy.__all__:
        assert getattr(looopy, name) is not None  # some are loaded only now
    there = {
        name
        for name, value in {**vars(looopy), **{name: getattr(looopy, name) for name in dir(looopy)}}.items()
        if not name.startswith("_") and name not in plumbing and not isinstance(value, ModuleType)
    }

    assert list(looopy.__all__) == sorted(there)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = looopy.nonsense  # pyright: ignore[reportAttributeAccessIssue]


def core_requirements(package: str) -> set[str]:
    """The packages that `package` itself asks for on this Python: no extras, markers evaluated."""
    return {
        canonical(re.match(r"[\w.-]+", requirement)[0])
        for requirement in requires(package) or ()
        if applies(requirement.partition(";")[2])
    }


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def applies(marker: str) -> bool:
    """Whether a requirement's marker holds here with no extra chosen."""
    from packaging.markers import Marker

    return not marker.strip() or Marker(marker.strip()).evaluate({"extra": ""})
