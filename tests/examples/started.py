"""An example as somebody starts it, in a process of its own, and as a module whose parts a test uses."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def module(name: str) -> ModuleType:
    """The example, imported; its names begin with a digit, so that `import` cannot."""
    spec = spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec
    assert spec.loader
    loaded = module_from_spec(spec)
    sys.modules[loaded.__name__] = loaded  # where its types are looked up by name
    spec.loader.exec_module(loaded)
    return loaded


def started(name: str, *arguments: str, **variables: str) -> tuple[str, str]:
    """What the example says, on stdout and on stderr; it must end well."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("LITELLM_", "LOOOPY_"))}
    ended = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / f"{name}.py", *arguments],
        env=own | {"PYTHONPATH": str(ROOT)} | variables, capture_output=True, text=True, timeout=25, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr
