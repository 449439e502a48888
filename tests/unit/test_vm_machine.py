"""How a virtual machine that hangs is told from one that is slow, with a program in the emulator's place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.vm import image, machine
from tests.support.vm.protocol import ALIVE, PORT

Starts = Callable[[str], machine.Machine]

GUEST = """
import os, sys, time
report, alive = open({report}, "w"), open({alive}, "w")
def say(text, to=alive):
    print(text, file=to, flush=True)
{body}
"""
SOFT_LOCKUP = "[ 61.0] Kernel panic - not syncing: softlockup: hung tasks"
OOPS = "[ 61.0] Kernel panic - not syncing: Fatal exception"


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starts]:
    """Start a machine whose guest is this Python."""
    body = ""

    def command(self: machine.Machine, made: image.Image, ports: dict[str, int]) -> list[str]:
        text = GUEST.format(report=ports[PORT], alive=ports[ALIVE], body=body)
        return [sys.executable, "-c", text]

    monkeypatch.setattr(machine.Machine, "_command", command)
    monkeypatch.setattr(image, "base", lambda: image.Image(Path(), Path(), Path()))
    monkeypatch.setattr(image, "checkout", lambda target, files: None)
    monkeypatch.setattr(machine, "_SILENT_COMPUTING", 0.5)
    made: list[machine.Machine] = []

    def start(text: str) -> machine.Machine:
        nonlocal body
        body = text
        made.append(machine.Machine([]))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.stop()


def test_messages_come_whole_whatever_is_heard_between(starts: Starts) -> None:
    made = starts("""
report.write('{"event": '); report.flush(); say("")
say('"up"}', report); say('{"event": "end"}', report)
time.sleep(60)
""")
    assert made.receive(20) == {"event": "up"}
    assert made.receive(20) == {"event": "end"}


def test_one_that_computes_without_a_sign_of_life_hangs(starts: Starts) -> None:
    with pytest.raises(machine.MachineHung, match="no sign of life"):
        starts("say('')\nwhile True: pass").receive(100)


def test_booting_takes_longer(starts: Starts) -> None:
    busy = "while time.process_time() < 1.5: pass\n"
    assert starts(busy + """say('{"event": "up"}', report)""").receive(100) == {"event": "up"}


def test_one_that_does_nothing_at_all_hangs(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_SILENT", 1.5)
    with pytest.raises(machine.MachineHung, match="computed for 0 s"):
        starts("time.sleep(100)").receive(100)


def test_one_that_lives_and_reports_nothing_has_its_time(starts: Starts) -> None:
    with pytest.raises(machine.MachineDied, match=r"Nothing was heard for 2 s") as caught:
        starts("while True: time.sleep(0.2); say('')").receive(2)
    assert not isinstance(caught.value, machine.MachineHung)


@pytest.mark.parametrize(("last", "hung"), [(SOFT_LOCKUP, True), (OOPS, False)])
def test_a_panic_is_a_hang_when_a_processor_was_stuck(
    starts: Starts, last: str, hung: bool
) -> None:
    with pytest.raises(machine.MachineDied, match=r"went away \(qemu's exit code is 3\)") as caught:
        starts(f"print({last!r}, flush=True); sys.exit(3)").receive(20)
    assert isinstance(caught.value, machine.MachineHung) is hung
    assert last in str(caught.value)


def test_disks_that_cannot_be_made_are_said_in_the_tool_s_words(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> image.Image:
        raise AssertionError("mmdebstrap failed:\nE: no mirror")

    monkeypatch.setattr(image, "base", fails)
    with pytest.raises(machine.MachineDied, match="could not be made: mmdebstrap failed:\nE: no"):
        starts("")
