"""`python -m looopy` and the command `looopy`.

Says what to install where the extra `cli` is missing; otherwise `cli/app.py` does the rest.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.util import find_spec

from looopy.errors import MissingExtra


def main() -> int:
    """Run the command line; the exit code, unless a command exits by itself."""
    if sys.argv[1:] == ["--version"]:
        print(f"looopy {version('looopy')}")  # noqa: T201  it is what was asked for, and needs no extra
        return 0
    if find_spec("typer") is None or find_spec("rich") is None:
        missing = MissingExtra("looopy's command line", needs="typer and rich", extra="cli")
        sys.stderr.write(f"{missing}\n")
        return 2
    from looopy.cli.app import app

    app(prog_name="looopy")
    return 0


if __name__ == "__main__":
    sys.exit(main())
