"""The launcher hears signals that come at any moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# While Python returned from one signal's handler to accept(), a second was slept through some times in a thousand.
SCRIPT = """
import os, random, signal, socket, sys, time
from runtime.launcher.server import _Door, _reap, _stop

def serve(listener, ready):
    signal.signal(signal.SIGCHLD, _reap)
    signal.signal(signal.SIGTERM, _stop)
    try:
        door = _Door(listener)
        os.write(ready, b"x")
        door.knocked(None)
    except KeyboardInterrupt:
        os._exit(0)
    finally:
        os._exit(1)

dice = random.Random(int(sys.argv[1]))
for _ in range(400):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")
    listener.listen()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        serve(listener, writer)
    os.read(reader, 1)
    time.sleep(0.0005)
    os.kill(pid, signal.SIGCHLD)
    soon = time.perf_counter() + dice.random() * 1e-4
    while time.perf_counter() < soon:
        pass
    os.kill(pid, signal.SIGTERM)
    signal.alarm(20)
    assert os.waitpid(pid, 0)[1] == 0
    listener.close()
    os.close(reader)
    os.close(writer)
"""


def test_the_end_comes_right_after_a_child_s_and_is_heard() -> None:
    command = [sys.executable, "-c", SCRIPT, "1"]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
