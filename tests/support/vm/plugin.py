"""pytest's side of the virtual machine: chosen tests run in it, and come out as results like any other.

With `--vm` those in `tests/vm` and `tests/kernel` run there, and no others; with `--with-vm` those in `tests/vm`
do, beside everything else; with neither, those in `tests/vm` do not run. They are collected here
and once more in the guest; each report that the guest sends is handed to pytest as if the test had run here.

A machine that hangs is booted again, once, and goes on with the test that it was at: emulators are no part of what
is tested. That is said where it happens and at the end. A test that failed is never run again.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence

import pytest

from tests.support.vm.machine import Machine, MachineDied, MachineHung
from tests.support.vm.protocol import PATIENCE

_PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap"}
_BOOT = 600.0  # seconds for the guest to boot and to collect


class GuestTests:
    """A pytest plugin of the host."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._waiting: list[pytest.Item] = []
        self._machine: Machine | None = None
        self._up = False
        self._broken = ""  # why no machine can be had
        self._failed = False  # something of the test that runs
        self._hung = ""  # where the machine hung that was booted again, and the end of its console

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        here = config.rootpath / "tests"
        theirs = {"vm", "kernel"} if config.getoption("vm") else {"vm"}
        inside: list[pytest.Item] = []
        outside: list[pytest.Item] = []
        for item in items:
            fits = item.path.relative_to(here).parts[0] in theirs
            (inside if fits else outside).append(item)
        if config.getoption("vm"):
            config.hook.pytest_deselected(items=outside)
            items[:] = inside
        elif not config.getoption("with_vm"):
            config.hook.pytest_deselected(items=inside)
            items[:] = outside
            return
        self._waiting = inside
        reason = _lacking()
        if reason and config.getoption("vm"):
            raise pytest.UsageError(reason)
        for item in self._waiting:
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
            # Seconds are counted in the guest; here we only wait for it.
            item.user_properties.append(("allowance", _timeout(item)))
            item.add_marker(pytest.mark.timeout(0), append=False)
        if reason:
            self._waiting = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if item not in self._waiting:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        while True:
            self._failed = False
            try:
                self._follow(item)
            except MachineDied as error:
                self._stop()
                if self._boots_again(item, error):
                    continue
                self._report_death(item, str(error))
            break
        self._waiting.remove(item)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_sessionfinish(self) -> None:
        self._stop()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._hung:
            terminalreporter.section("the virtual machine hung and was booted again")
            terminalreporter.write_line(self._hung)

    def _boots_again(self, item: pytest.Item, error: MachineDied) -> bool:
        """Whether this death was the emulator's, the first one, and took no result with it."""
        if self._hung or self._failed or not isinstance(error, MachineHung):
            return False
        self._hung = f"At {item.nodeid}. {error}"
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(f"The virtual machine hung and is booted again: {self._hung}")
        return True

    def _follow(self, item: pytest.Item) -> None:
        """Hand on what the guest reports of this test, up to its end."""
        machine = self._machine or self._start()
        allowance = float(dict(item.user_properties)["allowance"]) * PATIENCE + 60  # type: ignore[arg-type]
        while True:
            message = machine.receive(allowance if self._up else _BOOT)
            event = message["event"]
            self._up = self._up or event == "start"
            if event == "report" and message["nodeid"] == item.nodeid:
                report = self._config.hook.pytest_report_from_serializable(
                    config=self._config, data=message["report"]
                )
                if isinstance(report.longrepr, list):
                    # Of a skip it is a tuple, which JSON has none of.
                    report.longrepr = tuple(report.longrepr)
                self._failed = self._failed or report.failed
                item.ihook.pytest_runtest_logreport(report=report)
            elif event == "finish" and message["nodeid"] == item.nodeid:
                return
            elif event == "error":
                raise MachineDied(f"The guest could not collect its tests.\n{message['text']}")
            elif event == "end":
                raise MachineDied(f"The guest has ended without this test.\n{machine.console()}")

    def _start(self) -> Machine:
        if self._broken:
            raise MachineDied(self._broken)
        arguments = [item.nodeid for item in self._waiting]
        if expression := self._config.getoption("markexpr"):
            arguments += ["-m", str(expression)]
        self._up = False
        self._machine = Machine(arguments)
        self._machine.start()
        return self._machine

    def _stop(self) -> None:
        if self._machine is not None:
            self._machine.stop()
            self._machine = None

    def _report_death(self, item: pytest.Item, text: str) -> None:
        if not self._up:
            # It will not boot for the next test either.
            self._broken = text
        report = pytest.TestReport(
            item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", text, "call"
        )
        item.ihook.pytest_runtest_logreport(report=report)


class Patience:
    """A pytest plugin of the guest: everything takes longer under emulation."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.add_marker(pytest.mark.timeout(_timeout(item) * PATIENCE), append=False)


def _timeout(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else item.config.getini("timeout"))


def _lacking() -> str:
    if platform.machine() != "x86_64":
        return "the virtual machine is one of x86_64"
    missing: Sequence[str] = [p for name, p in _PROGRAMS.items() if shutil.which(name) is None]
    return f"needs {' and '.join(missing)}: ./slipway test installs them" if missing else ""
