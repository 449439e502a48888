"""Logs and samples over the watcher's socket, asked for as the web process asks."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.model.stats import HostSample, StatsSample
from runtime.store.logs import STDERR, STDOUT, LogLine, LogWriter
from runtime.store.paths import Config
from tests.support.streams import Nobody, NoFiles, NoImages, no_exec
from webui.live import stream_client
from webui.live.stream_client import StreamRefused, StreamUnavailable
from workers.watcher import stream_server
from workers.watcher.history import History
from workers.watcher.stats import Sampler
from workers.watcher.stream_server import StreamServer

A, B = "a" * 64, "b" * 64


ended: set[str] = set()  # containers that have


class Source:
    """An engine in which A runs and is busy."""

    def __init__(self) -> None:
        self.reads = 0

    def stats_of(self, ids: Collection[str]) -> list[StatsSample]:
        return [self.stats()] if A in ids else []

    def stats(self) -> StatsSample:
        self.reads += 1
        return StatsSample(id=A, time=1000.0 + self.reads, cpu_usage=self.reads * 10**9)

    def host_sample(self) -> HostSample:
        return HostSample(1000.0, 1.0, 2.0, 2, 1000, 600, 100, 50, 0, 0, 0.5)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def history() -> History:
    return History(clock=lambda: 1000.0)


@pytest.fixture
async def server(
    config: Config, source: Source, history: History, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    monkeypatch.setenv("SLIPWAY_ROOT", str(config.root))
    monkeypatch.setenv("SLIPWAY_RUN", str(config.run))
    monkeypatch.setattr(stream_server, "INTERVAL", 0.05)
    (config.bundle(A) / "logs").mkdir(parents=True)
    with ThreadPoolExecutor(1) as executor:
        task = asyncio.create_task(
            StreamServer(
                path=config.stream_socket,
                history=history,
                sampler=Sampler(source, clock=lambda: 1000.0),
                executor=executor,
                running=lambda: [A],
                logs_dir=lambda i: config.bundle(i) / "logs",
                run_dir=config.container_run,
                ended=ended.__contains__,
                begin_exec=no_exec,
                attaching=Nobody(),
                top=lambda _: [],
                files=NoFiles(),
                images=NoImages(),
            ).serve()
        )
        while not config.stream_socket.exists():
            await asyncio.sleep(0.005)
        yield config.stream_socket
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert not config.stream_socket.exists()


def line(number: int, stream: str = "stdout") -> LogLine:
    return LogLine(
        time=1000.0 + number, stream=stream, data=f"line {number}".encode(), partial=False
    )


def log_of(
    monkeypatch: pytest.MonkeyPatch, name: str, lines: Callable[..., Iterator[LogLine]]
) -> list[dict[str, Any]]:
    """Replace the reader of logs; returns the options that it was called with."""
    asked: list[dict[str, Any]] = []

    def read(directory: Path, **options: Any) -> Iterator[LogLine]:
        asked.append(options)
        return lines(**options)

    monkeypatch.setattr(stream_server, name, read)
    return asked


def test_the_socket_is_for_its_directorys_group_alone(server: Path) -> None:
    mode = stat.S_IMODE(server.stat().st_mode)
    assert mode == 0o660
    assert server.stat().st_gid == server.parent.stat().st_gid


async def test_samples_of_all_running_containers_come_again_and_again(server: Path) -> None:
    async with aclosing(stream_client.stats("all")) as samples:
        first = await anext(samples)
        second = await anext(samples)
    assert list(first) == [A]
    assert second[A]["cpu_percent"] == 100.0


async def test_samples_of_one_are_read_once_for_two_readers(server: Path, source: Source) -> None:
    async with aclosing(stream_client.stats([A])) as one, aclosing(stream_client.stats([A])) as two:
        pairs = [(await anext(one), await anext(two)) for _ in range(5)]
    assert source.reads <= 5 + 2
    assert pairs[-1][0][A]["cpu_percent"] == 100.0


async def test_nothing_is_read_while_nobody_watches(server: Path, source: Source) -> None:
    async with aclosing(stream_client.stats("all")) as samples:
        await anext(samples)
    await asyncio.sleep(0.1)
    reads = source.reads
    await asyncio.sleep(0.2)
    assert source.reads == reads


async def test_one_sample_has_rates(server: Path) -> None:
    sample = await stream_client.stats_once(A)
    assert sample is not None
    assert sample["cpu_percent"] == 100.0


async def test_a_container_that_does_not_run_has_no_sample(server: Path) -> None:
    assert await stream_client.stats_once(B) is None


async def test_the_host_has_a_sample(server: Path) -> None:
    sample = await stream_client.host_once()
    assert sample is not None
    assert sample["memory_percent"] == 40.0


async def test_the_past_is_told_of_one_of_all_and_of_the_host(
    server: Path, source: Source, history: History
) -> None:
    for second in (0, 10):
        history.look(A, source.stats())
        history.look_at_host(replace(source.host_sample(), time=1000.0 + second))
    assert [one["time"] for one in json.loads(await stream_client.history(A))] == [1002.0]
    assert list(json.loads(await stream_client.history("all"))) == [A]
    assert json.loads(await stream_client.history("host"))[0]["cores"] == 2
    assert await stream_client.history(B) == "[]"
    with pytest.raises(StreamRefused):
        await stream_client.history("../x")


async def test_raw_samples_are_the_same_data(server: Path) -> None:
    async with aclosing(stream_client.raw_samples({"op": "stats", "ids": "all"})) as raw:
        data = json.loads(await anext(raw))
    assert list(data) == [A]


async def test_logs_come_in_batches(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = log_of(monkeypatch, "read_logs", lambda **_: (line(n) for n in range(1200)))
    batches = [batch async for batch in stream_client.logs(A, tail=1200, streams=["stdout"])]
    lines = [one for batch in batches for one in batch]
    assert [one["text"] for one in lines] == [f"line {n}" for n in range(1200)]
    assert lines[0] == {"time": "1970-01-01T00:16:40.000000Z", "stream": "stdout", "text": "line 0"}
    assert len(batches) < 100
    assert asked == [{"tail": 1200, "streams": frozenset({"stdout"})}]


async def test_followed_logs_come_as_they_are_written(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = threading.Event()

    def lines(stop: threading.Event, **_: Any) -> Iterator[LogLine]:
        yield line(1)
        more.wait(5)
        yield line(2)
        stop.wait(5)

    log_of(monkeypatch, "follow_logs", lines)
    async with aclosing(stream_client.logs(A, follow=True)) as batches:
        assert await anext(batches) == []
        assert (await anext(batches))[0]["text"] == "line 1"
        more.set()
        assert (await anext(batches))[0]["text"] == "line 2"


async def test_the_reader_of_a_log_stops_when_its_reader_leaves(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()

    def lines(stop: threading.Event, **_: Any) -> Iterator[LogLine]:
        yield line(1)
        if stop.wait(5):
            stopped.set()

    log_of(monkeypatch, "follow_logs", lines)
    async with aclosing(stream_client.logs(A, follow=True)) as batches:
        assert await anext(batches) == []
        await anext(batches)
    assert await asyncio.to_thread(stopped.wait, 5)


async def test_a_reader_that_takes_nothing_stops_the_log_not_the_memory(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def lines(stop: threading.Event, **_: Any) -> Iterator[LogLine]:
        nonlocal written
        while not stop.is_set():
            written += 1
            yield LogLine(time=1.0, stream="stdout", data=b"x" * 1000, partial=False)

    log_of(monkeypatch, "follow_logs", lines)
    monkeypatch.setattr(stream_server, "STALL_LIMIT", 0.5)
    reader, writer = await asyncio.open_unix_connection(server, limit=1024)
    writer.write(json.dumps({"op": "logs", "id": A, "follow": True}).encode() + b"\n")
    await asyncio.sleep(0.4)
    before = written
    assert before < 5000
    await asyncio.sleep(0.4)
    assert written == before
    # In the end it is dropped.
    async with asyncio.timeout(5):
        with suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass
    writer.close()


async def test_a_containers_log_is_followed_through_rotation(server: Path, config: Config) -> None:
    writer = LogWriter(str(config.bundle(A) / "logs"), max_size=4096, max_files=10)
    writer.write(STDOUT, b"before\n")
    got: list[str] = []
    async with aclosing(stream_client.logs(A, follow=True)) as batches:
        assert await anext(batches) == []
        got += [one["text"] for one in await anext(batches)]
        for number in range(300):
            writer.write(STDERR if number % 2 else STDOUT, b"%d %s\n" % (number, b"x" * 30))
            if number % 50 == 0:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            while not got[-1].startswith("299 "):
                got += [one["text"] for one in await anext(batches)]
    writer.close()
    assert got[0] == "before"
    assert [int(text.split()[0]) for text in got[1:]] == list(range(300))


async def test_what_has_no_newline_comes_after_a_moment_of_silence(
    server: Path, config: Config
) -> None:
    writer = LogWriter(str(config.bundle(A) / "logs"), max_size=4096, max_files=3)
    writer.write(STDOUT, b"Password: ")
    async with aclosing(stream_client.logs(A, follow=True)) as batches:
        assert await anext(batches) == []
        async with asyncio.timeout(5):
            prompt = (await anext(batches))[0]
            writer.write(STDOUT, b"accepted\n")
            rest = (await anext(batches))[0]
    writer.close()
    assert (prompt["text"], prompt["partial"]) == ("Password: ", True)
    assert (rest["text"], rest.get("partial")) == ("accepted", None)


async def test_a_log_followed_to_the_end_has_its_last_words(server: Path, config: Config) -> None:
    config.container_run(A).mkdir(parents=True)
    writer = LogWriter(str(config.bundle(A) / "logs"), max_size=4096, max_files=3)
    async with aclosing(stream_client.logs(A, follow=True, until_end=True)) as batches:
        assert await anext(batches) == []
        writer.write(STDOUT, b"first\n")
        assert [one["text"] for one in await anext(batches)] == ["first"]
        writer.write(STDOUT, b"last, with no newline")
        writer.close()
        ended.add(A)
        try:
            (config.container_run(A) / "new").touch()
            os.rename(config.container_run(A) / "new", config.container_run(A) / "state.json")
            async with asyncio.timeout(5):
                rest = [one["text"] async for batch in batches for one in batch]
        finally:
            ended.clear()
    assert rest == ["last, with no newline"]


async def test_a_container_that_never_started_has_an_empty_log(
    server: Path, config: Config
) -> None:
    config.bundle(B).mkdir(parents=True)
    assert [batch async for batch in stream_client.logs(B)] == []


async def test_logs_of_an_unknown_container_are_refused(server: Path) -> None:
    with pytest.raises(StreamRefused) as caught:
        async for _ in stream_client.logs(B):
            pass
    assert caught.value.code == "not_found"


@pytest.mark.parametrize(
    "request_line",
    [
        b"not json\n",
        b"[]\n",
        b'{"op": "rm"}\n',
        b'{"op": "logs", "id": "../../../etc"}\n',
        b'{"op": "logs", "id": "%s", "tail": "many"}\n' % A.encode(),
        b'{"op": "logs", "id": "%s", "streams": ["stdin"]}\n' % A.encode(),
    ],
)
async def test_a_bad_request_gets_an_error(server: Path, request_line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(server)
    writer.write(request_line)
    answer = json.loads(await reader.readline())
    writer.close()
    assert answer["type"] == "error"
    assert answer["data"]["code"] == "spec_invalid"


async def test_without_a_watcher_there_is_a_clear_error(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_RUN", str(config.run))
    with pytest.raises(StreamUnavailable):
        await stream_client.stats_once(A)


async def test_a_socket_left_by_a_killed_watcher_is_replaced(config: Config) -> None:
    config.stream_socket.parent.mkdir(parents=True)
    os.mknod(config.stream_socket, 0o600 | stat.S_IFSOCK)
    with ThreadPoolExecutor(1) as executor:
        task = asyncio.create_task(
            StreamServer(
                path=config.stream_socket,
                history=History(),
                sampler=Sampler(Source()),
                executor=executor,
                running=list,
                logs_dir=config.bundle,
                run_dir=config.container_run,
                ended=ended.__contains__,
                begin_exec=no_exec,
                attaching=Nobody(),
                top=lambda _: [],
                files=NoFiles(),
                images=NoImages(),
            ).serve()
        )
        async with asyncio.timeout(5):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_unix_connection(config.stream_socket)
                    writer.close()
                    break
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
