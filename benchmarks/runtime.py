"""The runtime alone: from a plan to a running process, and what its monitor takes. Needs root.

    python benchmarks/runtime.py [containers]

Beside it `unshare -fpmuin true`, the least that a C program needs for the same namespaces.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.launching import Launchpad


def milliseconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1000


def private_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def show(name: str, values: list[float], unit: str) -> None:
    p95 = statistics.quantiles(values, n=20)[-1]
    print(f"{name:32} median {statistics.median(values):8.2f}   p95 {p95:8.2f}   {unit}")


def main(count: int) -> None:
    with Launchpad("/dev/shm", "/dev/shm") as pad:
        plans = [pad.plan("sleep", "1000") for _ in range(count)]
        least: list[float] = []
        starts: list[float] = []
        shims: list[int] = []
        for plan in plans:
            command = ["unshare", "-fpmuin", "true"]
            least.append(milliseconds(lambda: subprocess.run(command, check=True)))  # noqa: B023
            begun = time.perf_counter()
            shims.append(pad.start(plan).shim_pid)
            starts.append((time.perf_counter() - begun) * 1000)
        memory = [float(private_kb(pid)) for pid in shims]
        execs = [milliseconds(lambda p=plan: pad.shim(p).exec(["true"]).wait()) for plan in plans]
        stops = [milliseconds(lambda p=plan: pad.shim(p).stop(9, 0)) for plan in plans]
    show("unshare -fpmuin true", least, "ms")
    show("start, plan to running process", starts, "ms")
    show("exec of true", execs, "ms")
    show("stop by SIGKILL", stops, "ms")
    show("private memory of a monitor", memory, "kB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
