"""Inside the virtual machine: runs the tests that the host has listed and reports each as it goes.

Reports are lines of JSON on a virtio port: what happened, and for a report pytest's own form of it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests.support.vm.plugin import Patience
from tests.support.vm.protocol import ARGUMENTS, PORT


class Reporter:
    """A pytest plugin: everything that the host shows goes to the port."""

    def __init__(self, port: TextIO) -> None:
        self._port = port
        self._config: pytest.Config | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config

    def send(self, **message: Any) -> None:
        self._port.write(json.dumps(message) + "\n")
        self._port.flush()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.send(event="error", text=report.longreprtext)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.send(event="start", nodeid=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        assert self._config is not None
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self.send(event="report", nodeid=report.nodeid, report=data)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.send(event="finish", nodeid=nodeid)


def _port() -> Path:
    for name in Path("/sys/class/virtio-ports").iterdir():
        if (name / "name").read_text().strip() == PORT:
            return Path("/dev") / name.name
    raise FileNotFoundError(PORT)


def main() -> int:
    with _port().open("w", encoding="utf-8") as port:
        reporter = Reporter(port)
        reporter.send(event="up", kernel=os.uname().release)
        arguments: list[str] = json.loads(Path(ARGUMENTS).read_text())
        code = pytest.main(arguments, plugins=[reporter, Patience()])
        reporter.send(event="end", code=int(code))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
