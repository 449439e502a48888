"""What is measured: one function per bar. Each takes the engines and answers {engine's name: value}."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import cpu_seconds, median, pss
from benchmarks.peers import Docker, Peer, Slipway
from tests.support.launching import Launchpad
from tests.support.live import Live

PORTS = 21000
_MEMORY = "/dev/shm"
WARM_UP = 3  # rounds that do not count
# Of looking on, for processor time: what the watcher does every ten seconds happens as often with and without somebody
# who watches.
_SECONDS = 20
_HEEDS = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
_LINES = "yes 'a line of a log, as long as many are, with a number at its end 12345' | head -c {}"

Found = dict[str, float]


def busybox(directory: Path) -> Path:
    """A root file system with busybox and its applets, as a tar: the same for all."""
    root = directory / "rootfs"
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    program = root / "bin" / "busybox"
    program.write_bytes(Path("/bin/busybox").read_bytes())
    program.chmod(0o755)
    for applet in ("sh", "sleep", "true", "echo", "yes", "head"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    archive = directory / "busybox.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    return archive


def milliseconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1000


def alternate(
    peers: list[Peer], rounds: int, once: Callable[[Peer, int], float]
) -> Mapping[str, list[float]]:
    """What each round took, by peer; they take turns, so that a busy moment of the machine meets all."""
    taken: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(WARM_UP + rounds):
        turn = number % len(peers)
        for peer in peers[turn:] + peers[:turn]:
            value = once(peer, number)
            if number >= WARM_UP:
                taken[peer.name].append(value)
    return taken


def _medians(peers: list[Peer], rounds: int, once: Callable[[Peer, int], float]) -> Found:
    return {name: median(values) for name, values in alternate(peers, rounds, once).items()}


def timed_start(peer: Peer, number: int) -> float:
    """Milliseconds from the request until the process runs: bridge network, one published port."""
    started: list[str] = []
    taken = milliseconds(lambda: started.append(peer.start_container(PORTS + number)))
    peer.remove(started[0])
    return taken


def start(peers: list[Peer], rounds: int) -> Found:
    return _medians(peers, rounds, timed_start)


def crowded(peers: list[Peer], rounds: int, many: int) -> Found:
    """How many times as long a start takes beside `many` running containers as on an empty host."""
    found: Found = {}
    for peer in peers:
        empty = median([timed_start(peer, n) for n in range(WARM_UP + rounds)][WARM_UP:])
        others = [peer.start_container(PORTS + 1000 + n) for n in range(many)]
        time.sleep(3)  # let what so many starts leave behind settle
        full = median([timed_start(peer, n) for n in range(WARM_UP + rounds)][WARM_UP:])
        found[peer.name] = full / empty
        for container in others:
            peer.remove(container)
    return found


def stop(peers: list[Peer], rounds: int) -> Found:
    """Milliseconds to stop a shell that ends when it is asked to."""

    def once(peer: Peer, _number: int) -> float:
        container = peer.run(_HEEDS)
        time.sleep(0.1)  # until the shell has set its trap
        taken = milliseconds(lambda: peer.stop(container))
        peer.remove(container)
        return taken

    return _medians(peers, rounds, once)


def execute(peers: list[Peer], rounds: int) -> Found:
    """Milliseconds to run `true` in a container that runs, and have its exit code."""
    containers = {peer.name: peer.run("sleep 1000") for peer in peers}
    found = _medians(
        peers, rounds, lambda peer, _: milliseconds(lambda: peer.execute(containers[peer.name]))
    )
    for peer in peers:
        peer.remove(containers[peer.name])
    return found


def memory(peers: list[Peer], count: int) -> Found:
    """Megabytes that the engine takes for each running container with one port, the container's own aside."""
    found: Found = {}
    for peer in peers:
        time.sleep(2)  # let what was before settle
        before = pss(peer.pids())
        containers = [peer.start_container(PORTS + 500 + number) for number in range(count)]
        time.sleep(2)
        found[peer.name] = (pss(peer.pids()) - before) / count / 1e6
        for container in containers:
            peer.remove(container)
    return found


def logs(peers: list[Peer], megabytes: int) -> Found:
    """MB/s of one container that writes lines as fast as it can, until it ends; what is kept is capped alike."""

    def once(peer: Peer) -> float:
        begun = time.perf_counter()
        container = peer.run(_LINES.format(megabytes * 1_000_000))
        peer.await_end(container)
        seconds = time.perf_counter() - begun
        peer.remove(container)
        return megabytes / seconds

    return {peer.name: median([once(peer) for _ in range(3)]) for peer in peers}


def stats(peers: list[Peer], count: int) -> Found:
    """Percent of a core that live stats of `count` containers take at 1 Hz, all of the engine together."""
    found: Found = {}
    for peer in peers:
        containers = [peer.run("sleep 1000") for _ in range(count)]
        time.sleep(10)  # what so many starts leave to be done would count as idle
        idle = _cpu_share(peer, lambda: time.sleep(_SECONDS))
        with _watching(peer, containers) as listen:
            listen(3)  # what the beginning takes does not count
            found[peer.name] = _cpu_share(peer, lambda: listen(_SECONDS)) - idle
        for container in containers:
            peer.remove(container)
    return found


def _cpu_share(peer: Peer, during: Callable[[], object]) -> float:
    pids = peer.pids()
    before, begun = cpu_seconds(pids), time.perf_counter()
    during()
    return (cpu_seconds(pids) - before) / (time.perf_counter() - begun) * 100


@contextmanager
def _watching(peer: Peer, containers: list[str]) -> Iterator[Callable[[float], None]]:
    """Ask for live stats as a page does. Yields what takes them for a number of seconds."""
    if isinstance(peer, Slipway):
        with Live(peer.platform.browser_session(), peer.platform.url) as live:
            live.subscribe("stats")

            def take(seconds: float) -> None:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    live.wait_for(lambda message: message["topic"] == "stats")

            yield take
        return
    assert isinstance(peer, Docker)
    streams = [peer.stats_stream(container) for container in containers]
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)

        def drain(seconds: float) -> None:
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    os.read(key.fd, 1 << 16)

        yield drain
    for stream in streams:
        stream.close()


def alone(image: Path, rounds: int) -> Found:
    """Milliseconds from a plan to a running process without network: the runtime by itself, and runc.

    Both on a file system in memory: how long a disk takes to make the directories of a layer is no matter of either.
    """
    ours, runc = [], []
    with (
        Launchpad(_MEMORY, _MEMORY) as pad,
        _bundle(image, _MEMORY) as bundle,
        tempfile.TemporaryDirectory(dir=_MEMORY) as state,
    ):
        for number in range(WARM_UP + rounds):
            plan = pad.plan("sleep", "1000")
            time.sleep(0.05)
            ours.append(milliseconds(lambda: pad.start(plan)))  # noqa: B023
            name = f"slw-bench-{os.getpid()}-{number}"
            command = ["runc", "--root", state, "run", "--detach", "--bundle", str(bundle), name]
            runc.append(milliseconds(lambda: _quietly(command)))  # noqa: B023
            subprocess.run(["runc", "--root", state, "delete", "--force", name], check=True)
    return {Slipway.name: median(ours[WARM_UP:]), "runc": median(runc[WARM_UP:])}


def _quietly(command: list[str]) -> None:
    null = subprocess.DEVNULL
    subprocess.run(command, check=True, stdin=null, stdout=null, stderr=null)


def runc_version() -> str:
    told = subprocess.run(["runc", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[2]


@contextmanager
def _bundle(image: Path, place: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=place) as directory:
        bundle = Path(directory)
        (bundle / "rootfs").mkdir()
        subprocess.run(["tar", "-C", str(bundle / "rootfs"), "-xf", str(image)], check=True)
        subprocess.run(["runc", "spec"], cwd=bundle, check=True)
        config: dict[str, Any] = json.loads((bundle / "config.json").read_text())
        config["process"] |= {"terminal": False, "args": ["sleep", "1000"], "rlimits": []}
        (bundle / "config.json").write_text(json.dumps(config))
        yield bundle
