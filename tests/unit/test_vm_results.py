"""What becomes of tests that run in the virtual machine, and of those that it takes down with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = """
    def test_one(): raise RuntimeError("this ran on the host")
    def test_two(): raise RuntimeError("this ran on the host")
    def test_three(): raise RuntimeError("this ran on the host")
"""
CONFTEST = """
    import json
    import pytest
    from tests.support.vm import plugin
    from tests.support.vm.machine import MachineDied, MachineHung

    STORY = {story!r}

    class Told:
        '''Machines whose guests do as the story says: one list of words for each life.'''

        def __init__(self, arguments):
            self._waiting = [a for a in arguments if "::" in a]
            self._messages = self._tell()

        def start(self): pass
        def stop(self): pass
        def console(self): return "Kernel panic"
        def receive(self, timeout): return next(self._messages)

        def _tell(self):
            for word in STORY.pop(0):
                word, _, then = word.partition(", then ")
                if word == "dies":
                    raise MachineDied("It went away. Kernel panic")
                if word == "ends":
                    yield dict(event="end", code=4)
                nodeid = self._waiting.pop(0)
                yield dict(event="start", nodeid=nodeid)
                if word == "dies inside":
                    raise MachineDied("It went away. Kernel panic")
                if word == "hangs inside":
                    raise MachineHung("No sign of life. CPU stuck")
                why = ("x", 1, "it said so") if word == "skipped" else "it said so"
                report = pytest.TestReport(nodeid, ("x", 1, "x"), {{}}, word, why, "call")
                data = CONFIG.hook.pytest_report_to_serializable(config=CONFIG, report=report)
                yield dict(event="report", nodeid=nodeid, report=json.loads(json.dumps(data)))
                if then == "hangs":
                    raise MachineHung("No sign of life. CPU stuck")
                yield dict(event="finish", nodeid=nodeid)

    def pytest_addoption(parser):
        parser.addoption("--vm", action="store_true")
        parser.addoption("--with-vm", action="store_true")

    def pytest_configure(config):
        global CONFIG
        CONFIG = config
        plugin.Machine = Told
        plugin._lacking = lambda: ""
        config.pluginmanager.register(plugin.GuestTests(config))
"""


def told(directory: Path, *story: list[str], option: str = "--vm") -> str:
    """pytest's words about three tests in a machine whose lives go as `story` has them."""

    def write(name: str, text: str) -> None:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix("    ") for line in text.splitlines()))

    write("pytest.ini", "[pytest]\ntimeout = 60\n")
    write("conftest.py", CONFTEST.format(story=list(story)))
    write("tests/vm/test_it.py", TESTS)
    write("tests/unit/test_host.py", "def test_host(): pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:django", "-p", "no:cacheprovider", "-rA"]
    done = subprocess.run(
        [*command, option, "tests"], cwd=directory, env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_what_the_guest_reports_is_the_result(tmp_path: Path) -> None:
    text = told(tmp_path, ["passed", "failed", "passed"])
    assert "1 failed, 2 passed, 1 deselected" in text
    assert "it said so" in text
    assert "ran on the host" not in text


def test_a_skip_of_the_guest_has_its_reason(tmp_path: Path) -> None:
    text = told(tmp_path, ["passed", "skipped", "passed"])
    assert "2 passed, 1 skipped" in text
    assert "it said so" in text


def test_the_others_run_beside_them_when_asked_for(tmp_path: Path) -> None:
    assert "4 passed" in told(tmp_path, ["passed"] * 3, option="--with-vm")


def test_a_guest_that_dies_fails_its_test_and_the_next_one_boots_another(tmp_path: Path) -> None:
    text = told(tmp_path, ["passed", "dies inside"], ["passed"])
    assert "1 failed, 2 passed" in text
    assert "FAILED tests/vm/test_it.py::test_two" in text
    assert "Kernel panic" in text


@pytest.mark.parametrize("story", [["dies"], ["ends"]])
def test_a_guest_that_does_not_come_up_fails_all_at_once(tmp_path: Path, story: list[str]) -> None:
    text = told(tmp_path, story)
    assert "3 failed" in text
    assert text.count("Kernel panic") >= 3


def test_a_guest_that_hangs_is_booted_again_with_its_test_and_that_is_said(tmp_path: Path) -> None:
    text = told(tmp_path, ["passed", "hangs inside"], ["passed", "passed"])
    assert "3 passed" in text
    assert text.count("CPU stuck") == 2  # where it happened, and in the summary
    assert "the virtual machine hung and was booted again" in text
    assert "At tests/vm/test_it.py::test_two. No sign of life." in text


def test_one_that_hangs_again_fails_its_test(tmp_path: Path) -> None:
    text = told(tmp_path, ["hangs inside"], ["hangs inside"], ["passed", "passed"])
    assert "1 failed, 2 passed" in text
    assert "FAILED tests/vm/test_it.py::test_one" in text


def test_a_test_that_failed_before_its_guest_hung_is_not_run_again(tmp_path: Path) -> None:
    text = told(tmp_path, ["failed, then hangs"], ["passed", "passed"])
    assert "FAILED tests/vm/test_it.py::test_one" in text
    assert "2 passed" in text
    assert "booted again" not in text
