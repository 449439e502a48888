"""Random work on many containers while the platform's processes are killed; and what must be true of it.

Several actors ask over REST, each about things of its own, so that each knows what must be: who runs since
when, who ended with which code. The choices of an actor depend on the seed and on what it was answered.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from runtime.kernel.procfs import start_time
from tests.support.actor import Actor
from tests.support.asking import Blows, Failed, Trouble
from tests.support.inside import MARK
from tests.support.leaks import Account, leaks
from tests.support.platform import Api, Platform
from workers.supervisor.supervise import GOOD_RUN

PROCESSES = ("web", "worker", "watcher", "launcher", "resolver", "redis")
PAUSES = (0.1, 1.5)  # seconds between two kills, at least and at most
# What the platform may take to be whole, and to show the truth, after the last blow.
SETTLED = 60.0  # seconds


class Faults:
    """Has the platform's root processes meet errors at about one call in `1 / rate`, while in its context.

    To be made before the platform starts; `sites` are those of tests/support/faults.py, all unless named.
    """

    def __init__(self, platform: Platform, *, seed: int, rate: float, sites: str = "") -> None:
        self._switch = platform.base / "faults"
        self._switch.write_bytes(bytes(16))
        settings = f"seed={seed},rate={rate},switch={self._switch},sites={sites}"
        platform.env |= {"SLIPWAY_PRELOAD": "tests.support.faults", "SLIPWAY_FAULTS": settings}

    def __enter__(self) -> None:
        self._turn(b"\1")

    def __exit__(self, *_: object) -> None:
        self._turn(b"\0")

    def _turn(self, value: bytes) -> None:
        with self._switch.open("r+b") as file:  # the processes have it mapped: never another file
            file.write(value)

    @property
    def log(self) -> list[str]:
        """A line for each that happened."""
        log = self._switch.with_suffix(".log")
        return log.read_text().splitlines() if log.exists() else []


class Chaos:
    """`operations` in all, spread over `actors`, each with `slots` containers."""

    def __init__(
        self,
        platform: Platform,
        *,
        seed: int,
        operations: int,
        actors: int = 6,
        slots: int = 4,
        kills: bool = True,
        faults: Faults | None = None,
    ) -> None:

        self.platform = platform
        self.seed = seed
        self._kills = kills
        self._faults = faults
        self._over = threading.Event()
        self._began = time.monotonic()
        self.journal: list[str] = []
        self.killed: Counter[str] = Counter()  # name of a process -> how often
        self._token = platform.api().token
        self.actors = [
            Actor(
                Api(platform.url, self._token),
                platform.config,
                name=f"a{number}",
                dice=random.Random(f"{seed}/{number}"),
                operations=operations // actors,
                slots=slots,
                say=self.say,
                blows=Blows(kills=kills, faults=faults is not None),
            )
            for number in range(actors)
        ]

    def say(self, text: str) -> None:
        self.journal.append(f"{time.monotonic() - self._began:8.3f} {text}")

    # -- doing --------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Everything that was wrong, one line each."""
        began_with = self._pids()
        killer = threading.Thread(target=self._kill_now_and_then, name="killer")
        threads = [threading.Thread(target=a.run, name=a.name) for a in self.actors]
        with self._faults or nullcontext():
            for thread in (killer, *threads):
                thread.start()
            for thread in threads:
                thread.join()
            self._over.set()
            killer.join()
        troubles = [f"{a.name}: {t}" for a in self.actors for t in a.troubles]
        with closing(Api(self.platform.url, self._token)) as api:
            troubles += self._settle(api)
            for actor in self.actors:
                with _noted(troubles, actor.name):
                    actor.remove_dead()
            troubles += [line for actor in self.actors for line in self._verify(actor)]
            troubles += _eventually(self._strangers, 10.0)
            troubles += self._leaks(api, "while they are there")
            for actor in self.actors:
                with _noted(troubles, actor.name):
                    actor.remove_everything()
            troubles += self._settle(api)
            troubles += self._leaks(api, "after they are gone")
        if not self._kills:
            now = self._pids()
            troubles += [f"{name} has died" for name in began_with if now[name] != began_with[name]]
        for actor in self.actors:
            actor.asker.api.close()
        return troubles

    def _kill_now_and_then(self) -> None:
        if not self._kills:
            return
        dice = random.Random(f"{self.seed}/killer")
        deck: list[str] = []  # each comes up once before any does again
        while not self._over.wait(dice.uniform(*PAUSES)) or len(self.killed) < len(PROCESSES):
            if self._over.is_set():  # quick work, and yet each is to be killed
                time.sleep(PAUSES[0])
            if not deck:
                deck = dice.sample(PROCESSES, len(PROCESSES))
            # Mostly one; now and then several in the same moment.
            victims = deck[: dice.choice((1, 1, 1, 1, 3))]
            deck = deck[len(victims) :]
            # Mostly none that was killed and has not run for long since: one that dies again and again is
            # started later and later, by design, and nothing would ever be done.
            hasty = dice.random() < 0.1
            for process in self._processes():
                name, lived = process["name"], time.time() - process["since"]
                fair = hasty or not self.killed[name] or lived > GOOD_RUN
                if name in victims and process["pid"] and fair:
                    self.say(f"kill -9 {name} ({process['pid']})")
                    os.kill(process["pid"], signal.SIGKILL)
                    self.killed[name] += 1
                elif name in victims:
                    deck.append(name)

    def _processes(self) -> list[dict[str, Any]]:
        """As the supervisor has written them down."""
        text = (self.platform.run / "supervisor.json").read_text()
        processes: list[dict[str, Any]] = json.loads(text)["processes"]
        return processes

    def _pids(self) -> dict[str, int]:
        return {process["name"]: process["pid"] for process in self._processes()}

    # -- what must be true then -----------------------------------------------------------------

    def _settle(self, api: Api) -> list[str]:
        """Wait until every process runs and nothing is being worked on."""

        def settled() -> list[str]:
            down = [p["name"] for p in self._processes() if not start_time(p["pid"])]
            if down:
                return [f"{name} does not run" for name in down]
            live = [o for s in ("pending", "running") for o in api.get(f"/operations?status={s}")]
            return [f"{o['kind']} of {o['target_name']} is {o['status']} still" for o in live]

        return _eventually(settled, SETTLED)

    def _verify(self, actor: Actor) -> Iterator[str]:
        for slot in actor.slots:
            wrong = _eventually(slot.check(actor), 10.0)
            wrong += _eventually(partial(actor.inside.named, slot), 10.0)
            yield from (f"{actor.name}: {line}" for line in wrong)

    def _strangers(self) -> list[str]:
        """Commands in containers that nobody waits for any more: who asked, or who carried it, was killed."""
        mark = f"{MARK} {self.platform.config.name}".encode()
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if mark in command:
                found.append(f"a command runs on that was given up: {pid}")
        return found

    def _leaks(self, api: Api, when: str) -> list[str]:
        def look() -> list[str]:
            return leaks(self.platform.config, self._account(api))

        return [f"{line} ({when})" for line in _eventually(look, 15.0)]

    def _account(self, api: Api) -> Account:
        assert self.platform.process is not None
        account = Account(
            networks={n["id"]: n for n in api.get("/networks")},
            volumes={v["name"] for v in api.get("/volumes")},
            images={i["id"].removeprefix("sha256:") for i in api.get("/images")},
            platform={self.platform.process.pid, *(p["pid"] for p in self._processes())},
        )
        for row in api.get("/containers"):
            spec = api.get(f"/containers/{row['id']}/inspect")["spec"]
            account.containers[row["id"]] = spec
            if row["status"] in ("running", "paused", "restarting"):
                account.active[row["id"]] = spec
        return account


def _eventually(look: Callable[[], list[str]], seconds: float) -> list[str]:
    """What is wrong still after `seconds`; [] as soon as nothing is."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            wrong = look()
        except (httpx.HTTPError, AssertionError, OSError, ValueError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
        if not wrong or time.monotonic() > deadline:
            return wrong
        time.sleep(0.1)


@contextmanager
def _noted(troubles: list[str], name: str) -> Iterator[None]:
    try:
        yield
    except (Trouble, Failed) as trouble:
        troubles.append(f"{name}: {trouble}")
