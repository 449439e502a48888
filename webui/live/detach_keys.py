"""The keys that end an attachment without ending the container, as `docker attach --detach-keys` has them."""

from __future__ import annotations

from runtime.errors import SpecInvalid

DEFAULT = "ctrl-p,ctrl-q"
_CTRL = {chr(c): c & 0x1F for c in range(ord("a"), ord("z") + 1)} | {
    c: ord(c) & 0x1F for c in "@[\\]^_"
}
_HINT = 'As "ctrl-p,ctrl-q": single characters, del, or ctrl- with a letter or one of @ [ \\ ] ^ _.'


def parse_detach_keys(text: str) -> bytes:
    """The bytes that those keys send; Docker's default for "". Raises SpecInvalid."""
    return bytes(_key(part, text) for part in (text or DEFAULT).split(","))


def _key(part: str, text: str) -> int:
    if part.lower() == "del":
        return 0x7F
    control = part.lower().removeprefix("ctrl-")
    if control != part.lower() and control in _CTRL:
        return _CTRL[control]
    if len(part) == 1 and part.isascii():
        return ord(part)
    raise SpecInvalid("detach_keys", f"{part!r} in {text!r} is not a key.", hint=_HINT)


class DetachKeys:
    """Takes what is typed apart: what goes on, and whether the keys have come.

    The beginning of the sequence is held back until it is clear that it is none.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""  # how far the keys have come

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes to the process, and whether to detach; nothing after the keys goes on."""
        passed = bytearray()
        for byte in data:
            self._held += bytes((byte,))
            while not self._keys.startswith(self._held):
                # It was none; but a later part may begin one.
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                self._held = b""
                return bytes(passed), True
        return bytes(passed), False
