"""What an actor does inside its containers by way of the watcher: commands, attaching, files, falling ill."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import time
from typing import TYPE_CHECKING, Any

from runtime.kernel.procfs import start_time
from tests.support.asking import LAG, PATIENCE, Trouble

if TYPE_CHECKING:
    from tests.support.actor import Actor
    from tests.support.slot import Slot

# In the command line of what must not outlive whoever asked for it.
MARK = "chaos-command"
_SIZES = (0, 700, 20_000, 20_000, 1_500_000)  # bytes
_FAILS = (125, 126, 127)  # a command that could not be executed


class Inside:
    def __init__(self, actor: Actor, dice: random.Random) -> None:
        self._actor = actor
        self._asker = actor.asker
        self._dice = dice

    # -- commands -----------------------------------------------------------------------------

    def exec(self, slot: Slot) -> None:
        flavour = self._dice.choice(("plain", "input", "terminal", "user", "detached", "long"))
        if flavour == "detached":
            self._detached(slot)
        elif flavour == "long":
            self._long(slot)
        else:
            self._plain(slot, flavour)

    def _plain(self, slot: Slot, flavour: str) -> None:
        """Its output and its exit code are its own."""
        word, code = f"w{self._dice.randrange(10**9)}", self._dice.randrange(100)
        body: dict[str, Any] = {
            "command": ["sh", "-c", f"echo $WORD; echo other >&2; exit {code}"],
            "env": {"WORD": word},
        }
        if flavour == "input":
            body |= {"command": ["sh", "-c", f"cat; exit {code}"], "stdin": f"{word}\n"}
        elif flavour == "terminal":
            body["tty"] = True
        elif flavour == "user":
            body |= {"user": "65534", "workdir": "/tmp"}
        answer = self._asker.answer("POST", f"/containers/{slot.id}/exec", json=body)
        if answer is None:
            return
        result = answer.json()
        if self._failed(result):
            return
        said = (result["exit_code"], result["stdout"].split()[:1])
        if said != (code, [word]):
            raise Trouble(f"{slot.name}: a {flavour} command answers {result}, not {code}, {word}")

    def _failed(self, result: dict[str, Any]) -> bool:
        """It could not be executed, and says so; only calls that fail excuse that."""
        failed = result["exit_code"] in _FAILS and result["stderr"] and not result["stdout"]
        return bool(failed and self._actor.blows.faults)

    def _detached(self, slot: Slot) -> None:
        """It goes on by itself, and its exit code can be asked for."""
        code = self._dice.randrange(100)
        body = {"command": ["sh", "-c", f"sleep 0.2; exit {code}"], "detach": True}
        answer = self._asker.answer("POST", f"/containers/{slot.id}/exec", json=body)
        if answer is None:
            return
        begun = answer.json()
        if "id" not in begun and self._failed(begun):
            return
        path = f"/containers/{slot.id}/exec/{begun['id']}"
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self._asker.api.http.get(path) if not self._actor.blows.kills else None
            if found is None:
                return  # the watcher may have been killed, and has forgotten it
            row = found.json()
            if found.is_success and not row["running"]:
                break
            if not found.is_success or time.monotonic() > deadline:
                raise Trouble(f"{slot.name}: of a detached command is told: {row}")
            time.sleep(0.1)
        if row["exit_code"] != code:
            raise Trouble(f"{slot.name}: a detached command's end is {row}, not {code}")

    def _long(self, slot: Slot) -> None:
        """It is killed when its time is over, whoever dies meanwhile (`strangers` looks for it)."""
        command = ["sh", "-c", f": {MARK} {self._actor.config.name}; sleep 600"]
        body = {"command": command, "timeout": 0.4}
        answer = self._asker.timed_out("POST", f"/containers/{slot.id}/exec", json=body)
        if answer is not None and not self._failed(answer.json()):
            raise Trouble(f"{slot.name}: a command without an end has ended: {answer.text}")

    def resolve(self, slot: Slot) -> None:
        """Its name leads to it; one question may be lost, or several."""
        self._actor.until(lambda: self.named(slot), PATIENCE)

    def named(self, slot: Slot) -> list[str]:
        """What is wrong with the answer to its own name, which the resolver gives on networks of one's own."""
        if not slot.network or slot.status != "running":
            return []
        body = {"command": ["nslookup", slot.name]}
        answer = self._asker.answer("POST", f"/containers/{slot.id}/exec", json=body)
        end = slot.spec(self._actor)["endpoints"][0]
        if answer is None or end["address"] not in answer.json()["stdout"]:
            return [f"{slot.name} is not known by its name: {answer and answer.text}"]
        return []

    def attach(self, slot: Slot) -> None:
        """Its output is heard, and it hears what it is told."""
        body: dict[str, Any] = {"timeout": 1.0, "logs": 50}
        due = f"ready {slot.code}"
        if slot.kind == "echo":
            word = f"w{self._dice.randrange(10**9)}"
            body |= {"stdin": f"{word}\n", "end_of_input": False}
            due = f"got {word}"
        answer = self._asker.answer("POST", f"/containers/{slot.id}/attach", json=body)
        if answer is None:
            return
        result = answer.json()
        if result["exit_code"] is not None:
            raise Trouble(f"{slot.name}: it has ended while attached to: {result}")
        # A disk that takes no more costs lines of the log.
        if due not in result["stdout"] and (slot.kind == "echo" or not self._actor.blows.faults):
            raise Trouble(f"{slot.name}: {due!r} is not heard: {result}")

    # -- files --------------------------------------------------------------------------------

    def copy(self, slot: Slot) -> None:
        """A file goes in, and comes out as it was; it is whole or absent, whoever dies meanwhile."""
        directory = "/data" if slot.volume and self._dice.random() < 0.5 else "/root"
        # Others may have the same volume.
        path = f"{directory}/f{slot.id[:6]}-{self._dice.randrange(3)}"
        data = self._dice.randbytes(self._dice.choice(_SIZES))
        before = slot.files.get(path, {""})
        slot.files[path] = before | {digest(data)}
        url = f"/containers/{slot.id}/archive"
        query = {"path": directory}
        put = self._asker.answer("PUT", url, params=query, content=_packed(path, data))
        if put is None:
            return
        slot.files[path] = {digest(data)}
        if put.json() != {"members": 1, "bytes": len(data)}:
            raise Trouble(f"{slot.name}: {path} was written as {put.text}")
        got = self._asker.answer("GET", url, params={"path": path}, streams=True)
        if got is not None and unpacked(got.content) != data:
            raise Trouble(f"{slot.name}: {path} does not come out as it went in")
        told = self._asker.answer("GET", f"/containers/{slot.id}/changes")
        if told is not None and directory != "/data" and path not in _paths(told.json()):
            raise Trouble(f"{slot.name}: {path} is not among its changes")

    # -- the container's own process ------------------------------------------------------------

    def sicken(self, slot: Slot) -> None:
        """Fall ill, or recover; Slot.check sees what its health check says of it."""
        command = ["rm", "/ill"] if slot.is_ill(self._actor) else ["touch", "/ill"]
        self._asker.answer("POST", f"/containers/{slot.id}/exec", json={"command": command})

    def crash(self, slot: Slot) -> None:
        """Its process ends by itself; its policy starts it again, or leaves it."""
        was, began = (slot.pid, slot.born), time.time()
        body = {"command": ["kill", "-TERM", "1"]}
        # Its answer comes, or ends with it.
        told = self._asker.last_words("POST", f"/containers/{slot.id}/exec", json=body)
        deadline = time.monotonic() + LAG
        while start_time(was[0]) == was[1]:
            if time.monotonic() > deadline:
                if told is None:
                    return
                raise Trouble(f"{slot.name}: it goes on, although told to end: {told}")
            time.sleep(0.05)
        if not slot.policy:
            slot.status, slot.exit_code = "exited", slot.code
            slot.lives += 1
            return
        self._comes_back(slot, was, began)

    def _comes_back(self, slot: Slot, was: tuple[int, int], began: float) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            state = slot.state(self._actor)
            if state.get("status") == "running" and state["pid"] != was[0]:
                break
            if time.monotonic() > deadline:
                raise Trouble(f"{slot.name}: its policy does not start it again: {state}")
            time.sleep(0.05)
        slot.started(self._actor)
        slot.lives += 1
        if self._actor.blows.faults:  # a start by its policy that failed is an end of its own
            ends = [e for e in slot.exits(self._actor) if e["finished_at"] >= began]
            slot.unsure += sum(end["reason"] == "start_failed" for end in ends)


def digest(data: bytes | None) -> str:
    """Of a file's content; "" of one that is not there."""
    return "" if data is None else hashlib.sha256(data).hexdigest()


def _packed(path: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(path.rpartition("/")[2])
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def unpacked(content: bytes) -> bytes:
    """The one file of a tar."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        [member] = tar.getmembers()
        file = tar.extractfile(member)
        assert file is not None
        return file.read()


def _paths(changes: list[dict[str, str]]) -> set[str]:
    return {change["path"] for change in changes}
