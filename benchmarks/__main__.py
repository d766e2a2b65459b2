"""`python -m benchmarks [NAME…] [--quick] [--json FILE]`: measure, print; a missed target fails nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from benchmarks.measure import Row, table
from benchmarks.server import allow_many_sockets, server
from benchmarks.workloads import WORKLOADS, measured


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Looopy beside hand-written loops."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; all when left out"
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples: under a minute, wider spread")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every sample there")
    options = parser.parse_args()
    if unknown := set(options.names) - set(WORKLOADS):
        parser.error(f"no workload is called {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    allow_many_sockets()
    rows: list[Row] = []
    for name in options.names or WORKLOADS:
        start = time.perf_counter()
        with server() as url:
            rows += asyncio.run(measured(WORKLOADS[name], url=url, quick=options.quick))
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(table(rows))
    if options.json:
        records = [row.record() for row in rows]
        options.json.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
