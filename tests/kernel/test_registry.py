"""Pulling from a real registry, and everything that can go wrong on the way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.errors import (
    AuthFailed,
    Cancelled,
    DigestMismatch,
    EngineError,
    NotFound,
    RegistryUnavailable,
)
from runtime.images import ImageStore
from runtime.model.image import Progress
from runtime.model.reference import Reference
from runtime.store.paths import Config
from tests.support.images import busybox_layer, layer
from tests.support.registry import RegistryServer

# "me" with the password "secret"; bcrypt, the one form the registry knows.
_USERS = "me:$2b$05$KXCijnq8i7smmwdWnWUXbej2iYmqSbLZ7T0yZnweeuEO9ns7ccHMi\n"


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture
def store(config: Config) -> ImageStore:
    return ImageStore(config)


def _reference(registry: RegistryServer, name: str) -> Reference:
    return Reference.parse(f"{registry.address}/{name}")


def _left(config: Config) -> list[Path]:
    return [
        p for d in (config.tmp, config.layers, config.images) if d.exists() for p in d.iterdir()
    ]


def test_an_image_arrives_with_its_layers_and_their_progress(
    registry: RegistryServer, store: ImageStore, config: Config
) -> None:
    base, top = busybox_layer(), layer({"hello": "world\n"})
    registry.push("test/app", "1", [base, top], config={"Cmd": ["sh"]})
    steps: list[Progress] = []
    record = store.pull(_reference(registry, "test/app:1"), plain_http=True, progress=steps.append)
    assert record.config.cmd == ("sh",)
    directories = store.layer_dirs(record.id)
    assert (directories[0] / "bin/sh").readlink() == Path("busybox")
    assert (directories[1] / "hello").read_text() == "world\n"
    assert {s.stage for s in steps} >= {"waiting", "downloading", "verifying", "unpacking", "done"}
    assert not list(config.tmp.iterdir())


def test_a_shared_layer_is_stored_and_fetched_once(
    registry: RegistryServer, store: ImageStore, config: Config
) -> None:
    base = layer({"base": "same\n"})
    registry.push("test/one", "1", [base, layer({"one": "1"})])
    registry.push("test/two", "1", [base, layer({"two": "2"})])
    one = store.pull(_reference(registry, "test/one:1"), plain_http=True)
    steps: list[Progress] = []
    two = store.pull(_reference(registry, "test/two:1"), plain_http=True, progress=steps.append)
    assert sum(s.stage == "exists" for s in steps) == 1
    assert len(list(config.layers.iterdir())) == 3
    store.remove(one.id)
    assert (store.layer_dirs(two.id)[0] / "base").exists()
    store.remove(two.id)
    assert _left(config) == []


def test_a_blob_with_other_bytes_is_refused(
    registry: RegistryServer, store: ImageStore, config: Config
) -> None:
    (digest,) = registry.push("test/bad", "1", [layer({"a": "original content"})])
    file = registry.blob_file(digest)
    data = file.read_bytes()
    file.write_bytes(data[:-20] + bytes(20))
    with pytest.raises(DigestMismatch):
        store.pull(_reference(registry, "test/bad:1"), plain_http=True)
    assert _left(config) == []


def test_an_unknown_tag_names_the_field(registry: RegistryServer, store: ImageStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.pull(_reference(registry, "test/nothing:1"), plain_http=True)
    assert caught.value.extra["field"] == "reference"


def test_credentials_are_checked(store: ImageStore) -> None:
    with RegistryServer(users=_USERS) as guarded:
        guarded.push("private", "1", [layer({"a": "1"})], auth=("me", "secret"))
        reference = _reference(guarded, "private:1")
        assert store.pull(reference, plain_http=True, credentials=("me", "secret")).layers
        for credentials in (None, ("me", "wrong")):
            with pytest.raises(AuthFailed) as caught:
                store.pull(reference, plain_http=True, credentials=credentials)
            assert caught.value.hint


def test_a_registry_that_hangs_is_given_up(
    store: ImageStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_REGISTRY_TIMEOUT", "0.3")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(RegistryUnavailable) as caught:
            store.pull(Reference.parse(f"127.0.0.1:{port}/a:1"), plain_http=True)
    assert caught.value.hint
    assert not caught.value.retryable
    assert _left(config) == []


def test_a_registry_that_hangs_in_the_middle_of_an_answer_is_given_up(
    store: ImageStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_REGISTRY_TIMEOUT", "0.3")
    begun = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    asked: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):  # the test is over
            while True:
                connection, _ = listener.accept()
                asked.append(connection)
                connection.sendall(begun)

    with socket.create_server(("127.0.0.1", 0)) as half:
        serving = threading.Thread(target=serve, args=(half,))
        serving.start()
        port = half.getsockname()[1]
        with pytest.raises(RegistryUnavailable) as caught:
            store.pull(Reference.parse(f"127.0.0.1:{port}/a:1"), plain_http=True)
        half.shutdown(socket.SHUT_RDWR)
        serving.join()
    for connection in asked:
        connection.close()
    assert asked
    assert caught.value.hint
    assert _left(config) == []


def test_plain_http_must_be_allowed(registry: RegistryServer, store: ImageStore) -> None:
    with pytest.raises(EngineError, match="TLS") as caught:
        store.pull(_reference(registry, "test/app:1"))
    assert "plain HTTP" in caught.value.hint


def test_a_cancelled_pull_leaves_nothing(
    registry: RegistryServer, store: ImageStore, config: Config
) -> None:
    registry.push("test/large", "1", [layer({"blob": bytes(5 << 20)})])
    stop = threading.Event()

    def see(step: Progress) -> None:
        if step.stage in ("downloading", "unpacking"):
            stop.set()

    with pytest.raises(Cancelled):
        store.pull(
            _reference(registry, "test/large:1"),
            plain_http=True,
            progress=see,
            cancelled=stop.is_set,
        )
    assert _left(config) == []
