"""The resolver's loop hears signals that come at any moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# While Python went from one event to its next select(), a signal was slept through some times in a thousand.
SCRIPT = """
import os, random, signal, sys, time
from runtime.network.resolver.loop import READ, Loop

def serve(asked, ready):
    def stop(_number, _frame):
        os._exit(0)

    signal.alarm(20)  # ends who has slept through the other one
    try:
        loop = Loop()
        loop.hear_signals()
        signal.signal(signal.SIGTERM, stop)
        loop.watch(asked, READ, lambda: os.read(asked, 1))
        os.write(ready, b"x")
        loop.run()
    finally:
        os._exit(1)

dice = random.Random(int(sys.argv[1]))
for _ in range(1500):
    reader, writer = os.pipe()
    asked, asks = os.pipe()
    pid = os.fork()
    if pid == 0:
        serve(asked, writer)
    os.read(reader, 1)
    time.sleep(0.0005)
    os.write(asks, b"x")
    soon = time.perf_counter() + dice.random() * 2e-4
    while time.perf_counter() < soon:
        pass
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (reader, writer, asked, asks):
        os.close(fd)
"""


def test_a_signal_comes_right_after_a_question_and_is_heard() -> None:
    command = [sys.executable, "-c", SCRIPT, "1"]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
