"""nftables through libnftables (ctypes), in this process: commands as nft(8) writes them, answers as JSON.

One command adds an element in about 0.1 ms, where starting the `nft` program takes 3 ms. The library
works on one cache at a time, so one lock guards every call of the process.
Sources: libnftables(3), libnftables-json(5), include/uapi/linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import socket
import struct
import threading
from typing import Any, Literal

from runtime.errors import FirewallFailure, Unsupported

Reason = Literal["missing", "exists", "denied", "other"]

_OUTPUT_JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON of nftables/libnftables.h
_NETLINK_NETFILTER = 12
_GETGEN = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
_GEN_ID = 1  # NFTA_GEN_ID
_GETTABLE, _NEWTABLE = 10 << 8 | 1, 10 << 8  # NFT_MSG_GETTABLE, NFT_MSG_NEWTABLE
_TABLE_NAME = 1  # NFTA_TABLE_NAME
_INET = 1  # NFPROTO_INET
_lock = threading.Lock()
_REASONS: tuple[tuple[int, Reason], ...] = (
    (2, "missing"),  # ENOENT
    (17, "exists"),  # EEXIST
    (1, "denied"),  # EPERM
)


class Nftables:
    """The nftables of the network namespace this object was made in. Thread-safe; close it, or use `with`."""

    def __init__(self) -> None:
        self._library = _load()
        self._context: int | None = self._library.nft_ctx_new(0)
        if not self._context:
            raise FirewallFailure("libnftables gave no context.", hint="Is this process root?")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_output_set_flags(self._context, _OUTPUT_JSON)
        self._netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )

    def run(self, script: str) -> str:
        """Run `script` as one transaction: all of it happens, or nothing.

        Returns what nft prints. Raises FirewallFailure with nft's own message; `extra["reason"]` is
        "missing", "exists", "denied" or "other".
        """
        with _lock:
            if self._context is None:
                raise FirewallFailure("This handle on nftables is closed.")
            failed = self._library.nft_run_cmd_from_buffer(self._context, script.encode())
            # Both calls hand out the buffer once; reading it is what empties it.
            output = self._library.nft_ctx_get_output_buffer(self._context) or b""
            errors = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise _failure(errors.decode(errors="replace"), script)
        return str(output.decode())

    def objects(self, listing: str) -> list[dict[str, Any]]:
        """What a `list` command finds, each as {"table" | "set" | "rule" | …: {…}}, schema version 1."""
        output = self.run(listing)
        found = json.loads(output)["nftables"] if output else []
        return [item for item in found if "metainfo" not in item]

    def generation(self) -> int:
        """The number of the ruleset's state; every transaction of anybody raises it."""
        # struct nlmsghdr (request, no acknowledgement), struct nfgenmsg
        request = struct.pack("=IHHII", 20, _GETGEN, 1, 0, 0) + struct.pack("=BBH", 0, 0, 0)
        with _lock:
            self._netlink.send(request)
            answer = self._netlink.recv(4096)
        offset = 20
        while offset + 4 <= len(answer):
            length, kind = struct.unpack_from("=HH", answer, offset)
            if kind == _GEN_ID:
                return int(struct.unpack_from("!I", answer, offset + 4)[0])
            offset += max(4, (length + 3) & ~3)
        raise FirewallFailure("The kernel told no generation of its nftables rules.")

    def has_table(self, name: str) -> bool:
        """Whether there is a table `name` of the family inet. Takes the same time whatever it holds."""
        # struct nlmsghdr (request), struct nfgenmsg, the name: an answer is the table, or an error
        attribute = struct.pack("=HH", 5 + len(name), _TABLE_NAME) + name.encode() + b"\0"
        attribute += b"\0" * (-len(attribute) % 4)
        body = struct.pack("=BBH", _INET, 0, 0) + attribute
        request = struct.pack("=IHHII", 16 + len(body), _GETTABLE, 1, 0, 0) + body
        with _lock:
            self._netlink.send(request)
            answer = self._netlink.recv(4096)
        if struct.unpack_from("=H", answer, 4)[0] == _NEWTABLE:
            return True
        error = -struct.unpack_from("=i", answer, 16)[0]
        if error == errno.ENOENT:
            return False
        raise FirewallFailure(f"nftables: cannot look for table {name}: {os.strerror(error)}")

    def close(self) -> None:
        with _lock:
            if self._context is not None:
                self._library.nft_ctx_free(self._context)
                self._context = None
                self._netlink.close()

    def __enter__(self) -> Nftables:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        raise Unsupported(
            "Container networking",
            "the nftables library (libnftables.so.1)",
            hint="Install it: apt-get install libnftables1",
        ) from None
    context = ctypes.c_void_p
    library.nft_ctx_new.restype = context
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [context]
    library.nft_ctx_buffer_output.argtypes = [context]
    library.nft_ctx_buffer_error.argtypes = [context]
    library.nft_ctx_output_set_flags.argtypes = [context, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        function = getattr(library, name)
        function.restype = ctypes.c_char_p
        function.argtypes = [context]
    return library


def _failure(text: str, script: str) -> FirewallFailure:
    """nft's first error as an exception. A message has three lines: what, the command, a marker below it."""
    lines = [line for line in text.splitlines() if line.strip()] or ["no message"]
    said = re.sub(r"^.*?Error: ", "", lines[0])
    command = lines[1].strip() if len(lines) > 1 else script.strip().splitlines()[0]
    reason: Reason = "other"
    for number, name in _REASONS:
        if os.strerror(number) in said:
            reason = name
            break
    hint = "Changing firewall rules takes root with CAP_NET_ADMIN." if reason == "denied" else ""
    return FirewallFailure(f"nftables: {said}", hint=hint, reason=reason, command=command)
