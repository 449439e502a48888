"""Instructions of a Dockerfile that change an image's config: what `docker commit --change` takes.

Grammar: https://docs.docker.com/reference/dockerfile/. Standard library only; webui uses it too.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from runtime.errors import SpecInvalid
from runtime.model.image import ImageChanges
from runtime.model.parse import parse_duration, parse_signal
from runtime.model.parse_ports import parse_ports

_SHELL = ("/bin/sh", "-c")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})", re.ASCII)
_TIMES = {
    "--interval": "Interval",
    "--timeout": "Timeout",
    "--start-period": "StartPeriod",
    "--start-interval": "StartInterval",
}
_NOT_LATER = frozenset(("ONBUILD", "FROM", "MAINTAINER"))


def parse_image_changes(
    lines: str | Iterable[str],
    base: ImageChanges,
    config: Mapping[str, Any],
    field: str = "changes",
) -> ImageChanges:
    """`base` and the instructions over it, in their order; `config` is the image's, an ImageConfig as JSON.

    A text has one instruction in each line, a backslash at its end continues it. Raises SpecInvalid with the
    field, "changes[1]" for the second instruction.
    """
    changing = _Changing(base, config)
    for index, line in enumerate(_lines(lines)):
        changing.field = f"{field}[{index}]"
        word, _, rest = line.strip().partition(" ")
        step = _STEPS.get(word.upper())
        if step is None or "\0" in line:
            raise SpecInvalid(
                changing.field,
                f"{changing.field}: {line.strip()[:80]!r} is not an instruction that changes an image's config.",
                hint=f"Use {', '.join(_STEPS)}, as in a Dockerfile.",
            )
        if not rest.strip():
            raise changing.wrong(f"{word} has nothing behind it")
        step(changing, rest.strip())
    return changing.made()


def _lines(lines: str | Iterable[str]) -> list[str]:
    if not isinstance(lines, str):
        return [line.replace("\t", " ", 1) for line in lines]
    whole = re.sub(r"\\[ \t]*\r?\n", "", lines)
    found = (line.strip() for line in whole.splitlines())
    return [line.replace("\t", " ", 1) for line in found if line and not line.startswith("#")]


class _Changing:
    """The changes so far."""

    def __init__(self, base: ImageChanges, config: Mapping[str, Any]) -> None:
        self.field = ""
        self._changes = base
        self._config = config
        self._cmd_given = False

    def made(self) -> ImageChanges:
        return self._changes

    def wrong(self, why: str, hint: str = "") -> SpecInvalid:
        return SpecInvalid(self.field, f"{self.field}: {why}.", hint=hint)

    # -- one instruction each ---------------------------------------------------------------------

    def cmd(self, rest: str) -> None:
        self._cmd_given = True
        self._changes = replace(self._changes, cmd=self._command(rest))

    def entrypoint(self, rest: str) -> None:
        """A new one drops the command, unless that is given as well."""
        cmd = self._changes.cmd if self._cmd_given else None
        self._changes = replace(self._changes, entrypoint=self._command(rest), cmd=cmd)

    def shell(self, rest: str) -> None:
        words = self._list(rest)
        if not words:
            raise self.wrong("SHELL takes a list of texts", 'Write SHELL ["/bin/bash", "-c"].')
        self._changes = replace(self._changes, shell=words)

    def env(self, rest: str) -> None:
        added = tuple(f"{name}={value}" for name, value in self._pairs(rest))
        self._changes = replace(self._changes, env=(*self._changes.env, *added))

    def label(self, rest: str) -> None:
        labels = {**self._changes.labels, **dict(self._pairs(rest))}
        self._changes = replace(self._changes, labels=labels)

    def expose(self, rest: str) -> None:
        words = self._words(rest)
        try:
            if any(":" in word for word in words):
                raise SpecInvalid(self.field, "ports of the host")
            ports = parse_ports(words, self.field)
        except SpecInvalid:
            hint = "Write EXPOSE 80 53/udp 8000-8002."
            raise self.wrong(f"{rest!r} is not a list of ports", hint) from None
        texts = [f"{port.container_port}/{port.protocol}" for port in ports]
        known = self._changes.exposed_ports
        self._changes = replace(self._changes, exposed_ports=tuple(dict.fromkeys([*known, *texts])))

    def volume(self, rest: str) -> None:
        paths = self._list(rest) if rest.startswith("[") else tuple(self._words(rest))
        for path in paths:
            if not path.startswith("/") or posixpath.normpath(path) == "/":
                raise self.wrong(
                    f"{path!r} is not a path for a volume", "Write an absolute path below /."
                )
        known = self._changes.volumes
        self._changes = replace(self._changes, volumes=tuple(dict.fromkeys([*known, *paths])))

    def user(self, rest: str) -> None:
        words = self._words(rest)
        if len(words) != 1:
            raise self.wrong(f"{rest!r} is not a user", "Write a name or a number: USER app:app.")
        self._changes = replace(self._changes, user=words[0])

    def workdir(self, rest: str) -> None:
        """A relative one goes on from what holds so far."""
        path = self._word(rest)
        before = self._changes.working_dir
        if before is None:
            before = str(self._config.get("working_dir") or "")
        whole = posixpath.normpath(posixpath.join("/", before, path))
        self._changes = replace(self._changes, working_dir=whole)

    def stopsignal(self, rest: str) -> None:
        text = self._word(rest)
        try:
            parse_signal(text, self.field)
        except SpecInvalid as error:
            raise self.wrong(f"{text!r} is not a signal", error.hint) from None
        self._changes = replace(self._changes, stop_signal=text)

    def onbuild(self, rest: str) -> None:
        """Kept for who builds from the image; nothing here carries it out."""
        if rest.split()[0].upper() in _NOT_LATER:
            raise self.wrong(f"ONBUILD does not take {rest.split()[0]}")
        self._changes = replace(self._changes, onbuild=(*self._changes.onbuild, rest))

    def healthcheck(self, rest: str) -> None:
        check: dict[str, Any] = {}
        while rest.startswith("--"):
            option, _, rest = rest.partition(" ")
            rest = rest.strip()
            name, _, value = option.partition("=")
            if name in _TIMES:
                check[_TIMES[name]] = round(parse_duration(value, self.field) * 1e9)
            elif name == "--retries" and re.fullmatch(r"\d{1,6}", value, re.ASCII):
                check["Retries"] = int(value)
            else:
                raise self.wrong(
                    f"{option!r} is not an option of HEALTHCHECK",
                    f"{', '.join(_TIMES)}, --retries.",
                )
        kind, _, command = rest.partition(" ")
        if kind.upper() == "NONE" and not command and not check:
            check["Test"] = ["NONE"]
        elif kind.upper() == "CMD" and command.strip():
            line = command.strip()
            words = self._list(line) if _is_list(line) else None
            check["Test"] = ["CMD-SHELL", line] if words is None else ["CMD", *words]
        else:
            raise self.wrong("HEALTHCHECK takes NONE, or options and CMD with a command")
        self._changes = replace(self._changes, healthcheck=check)

    # -- their parts ------------------------------------------------------------------------------

    def _command(self, text: str) -> tuple[str, ...]:
        """The words of a JSON list; any other text is a line for the shell."""
        if _is_list(text):
            return self._list(text)
        shell = self._changes.shell or tuple(self._config.get("shell") or _SHELL)
        return (*shell, text)

    def _list(self, text: str) -> tuple[str, ...]:
        try:
            words = json.loads(text)
        except (ValueError, RecursionError):
            words = None
        if not isinstance(words, list) or not all(
            isinstance(word, str) and "\0" not in word for word in words
        ):
            raise self.wrong(f"{text[:80]!r} is not a list of texts", 'Write ["sleep", "10"].')
        return tuple(words)

    def _pairs(self, text: str) -> list[tuple[str, str]]:
        """`A=1 B="two words"`, or in the old way one name, a space and its value."""
        first = text.split(maxsplit=1)
        if "=" not in first[0]:
            if len(first) < 2:
                raise self.wrong(f"{text!r} has no value", "Write NAME=value.")
            return [(first[0], self._word(first[1]))]
        pairs = [word.partition("=") for word in self._words(text)]
        for name, equals, _ in pairs:
            if not name or not equals:
                raise self.wrong(f"{name!r} has no name or no value", "Write NAME=value.")
        return [(name, value) for name, _, value in pairs]

    def _word(self, text: str) -> str:
        return _split(text, self._variables(), self.wrong, apart=False)[0]

    def _words(self, text: str) -> list[str]:
        return _split(text, self._variables(), self.wrong)

    def _variables(self) -> dict[str, str]:
        """What holds so far: an instruction does not see its own."""
        known = (*(self._config.get("env") or ()), *self._changes.env)
        return {name: value for name, _, value in (item.partition("=") for item in known)}


def _is_list(text: str) -> bool:
    return text.startswith("[") and text.endswith("]")


def _split(
    text: str,
    variables: Mapping[str, str],
    wrong: Callable[[str], SpecInvalid],
    *,
    apart: bool = True,
) -> list[str]:
    """Words with quotes and backslashes taken away, $NAME, ${NAME}, ${NAME:-else} and ${NAME:+other} replaced.

    Not `apart`: all of it is one word. What a variable holds is not split again.
    """
    words: list[str] = []
    word: str | None = None
    quote, at = "", 0
    while at < len(text):
        char = text[at]
        at += 1
        if not quote and char.isspace() and apart:
            if word is not None:
                words.append(word)
            word = None
            continue
        word = word or ""
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == "\\" and quote != "'" and at < len(text):
            if quote and text[at] not in '"$\\':
                word += char
            word += text[at]
            at += 1
        elif char == "$" and quote != "'" and (found := _VARIABLE.match(text, at - 1)):
            word += _value(found, variables)
            at = found.end()
        else:
            word += char
    if quote:
        raise wrong(f"a quote is not closed in {text[:80]!r}")
    return words if word is None else [*words, word]


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    value = variables.get(found[1] or found[2], "")
    if found[3] == "-":
        return value or found[4]
    if found[3] == "+":
        return found[4] if value else ""
    return value


_STEPS: dict[str, Callable[[_Changing, str], None]] = {
    "CMD": _Changing.cmd,
    "ENTRYPOINT": _Changing.entrypoint,
    "ENV": _Changing.env,
    "EXPOSE": _Changing.expose,
    "HEALTHCHECK": _Changing.healthcheck,
    "LABEL": _Changing.label,
    "ONBUILD": _Changing.onbuild,
    "SHELL": _Changing.shell,
    "STOPSIGNAL": _Changing.stopsignal,
    "USER": _Changing.user,
    "VOLUME": _Changing.volume,
    "WORKDIR": _Changing.workdir,
}
