"""Bundles are whole or absent, locks exclude, and records survive what a crash does to files."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from runtime.errors import AlreadyExists, EngineError, LockTimeout, NotFound
from runtime.model.spec import Limits, Mount, PortMapping
from runtime.model.state import ExitRecord, HealthState, RunState, Status
from runtime.store.bundles import KEPT_EXITS, BundleStore
from runtime.store.files import write_atomic
from runtime.store.locks import discard, locked
from runtime.store.paths import Config
from tests.support.specs import container, endpoint


@pytest.fixture
def store(config: Config) -> BundleStore:
    return BundleStore(config)


def test_threads_that_write_one_file_at_once_do_not_meet(config: Config) -> None:
    path = config.root / "file"
    failed: list[OSError] = []

    def write(text: bytes) -> None:
        try:
            for _ in range(200):
                write_atomic(path, text, durable=False)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(c * 4096,)) for c in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert path.read_bytes() in (b"a" * 4096, b"b" * 4096)


def test_a_spec_comes_back_as_it_was_written(store: BundleStore) -> None:
    spec = container(
        limits=Limits(memory=2**30, cpus=1.5, device_read_bps={"/dev/sda": 5}),
        mounts=(Mount("volume", "/data", "data"),),
        ports=(PortMapping(80, 8080),),
        endpoints=(endpoint(aliases=("db",)),),
        labels={"a": "b"},
    )
    store.create(spec)
    assert store.spec(spec.id) == spec
    assert store.ids() == [spec.id]
    assert oct((store._config.bundle(spec.id) / "spec.json").stat().st_mode & 0o777) == "0o600"


def test_a_bundle_is_made_once_and_removed_idempotently(store: BundleStore) -> None:
    spec = container()
    store.create(spec)
    with pytest.raises(AlreadyExists):
        store.create(spec)
    store.remove(spec.id)
    store.remove(spec.id)
    assert store.ids() == []
    with pytest.raises(NotFound):
        store.spec(spec.id)
    assert os.listdir(store._config.tmp) == []


def test_a_corrupt_or_newer_spec_is_an_error_that_says_so(store: BundleStore) -> None:
    spec = container()
    path = store.create(spec) / "spec.json"
    for content in ("\0" * 100, "{", "[]", '{"version": 99}'):
        path.write_text(content)
        with pytest.raises(EngineError) as caught:
            store.spec(spec.id)
        assert spec.short_id in caught.value.message


def test_state_comes_back_with_its_exit_and_health(store: BundleStore) -> None:
    record = ExitRecord(137, "oom_killed", 1.0, 2.0, signal=9, oom_killed=True)
    state = RunState(
        Status.EXITED,
        "boot",
        exit=record,
        health=HealthState("unhealthy", 3, ({"start": 1.5, "exit_code": 1, "output": "x"},)),
    )
    spec = container()
    assert store.state(spec.id) is None
    store.write_state(spec.id, state)
    assert store.state(spec.id) == state
    store.drop_run(spec.id)
    store.drop_run(spec.id)
    assert store.state(spec.id) is None


def test_a_line_cut_short_costs_only_itself(store: BundleStore) -> None:
    spec = container()
    bundle = store.create(spec)
    assert store.exits(spec.id) == []
    first = ExitRecord(0, "exited", 1.0, 2.0)
    store.append_exit(spec.id, first)
    with open(bundle / "exits.jsonl", "a", encoding="utf-8") as file:
        file.write('{"code": 1, "rea\n')
    second = ExitRecord(None, "reboot", 3.0, 4.0)
    store.append_exit(spec.id, second)
    assert store.exits(spec.id) == [first, second]


def test_old_exits_are_forgotten(store: BundleStore) -> None:
    spec = container()
    path = store.create(spec) / "exits.jsonl"
    store.append_exit(spec.id, ExitRecord(0, "exited", 1.0, 2.0))
    line = path.read_bytes()
    path.write_bytes(line * 5000)
    store.append_exit(spec.id, ExitRecord(9, "exited", 3.0, 4.0))
    store.trim_exits(spec.id)
    exits = store.exits(spec.id)
    assert len(path.read_bytes().splitlines()) == len(exits) == KEPT_EXITS
    assert exits[-1].code == 9
    store.trim_exits(container().id)


# -- locks --------------------------------------------------------------------------------------


def test_a_lock_excludes_threads_and_gives_up(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "one.lock"
    with locked(path):
        with pytest.raises(LockTimeout) as caught, locked(path, timeout=0.05):
            pass
        assert caught.value.retryable
    with locked(path, timeout=0.05):
        pass


def test_shared_locks_share(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    with locked(path, shared=True), locked(path, shared=True, timeout=0.05):
        with pytest.raises(LockTimeout), locked(path, timeout=0.05):
            pass


def test_a_discarded_lock_guards_nothing(tmp_path: Path) -> None:
    """Who waited for a lock that its holder discarded must not share it with a newcomer."""
    path = tmp_path / "one.lock"
    inside: list[str] = []
    overlap: list[str] = []

    def work(name: str) -> None:
        with locked(path, timeout=5):
            overlap.extend(inside)
            inside.append(name)
            time.sleep(0.002)
            inside.remove(name)
            discard(path)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlap == []


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(OSError):
            write_atomic(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_write_that_fails_is_tidied_up_when_that_fails_once_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink
    calls = iter([OSError(errno.EBUSY, "")])

    def refuse_once(path: str) -> None:
        for error in calls:
            raise error
        unlink(path)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "the cause")

    monkeypatch.setattr(os, "rename", fail)
    monkeypatch.setattr(os, "unlink", refuse_once)
    with pytest.raises(OSError, match="the cause"):
        write_atomic(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_just_after_the_rename_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def interrupted(*names: str) -> None:
        rename(*names)
        raise KeyboardInterrupt  # as a handler of SIGTERM does

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_lock_that_cannot_be_deleted_at_once_costs_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config.locks / "gone.lock"
    unlink = os.unlink
    calls = iter([OSError(errno.EIO, "")])

    def refuse_once(*args: object, **kwargs: object) -> None:
        for error in calls:
            raise error
        unlink(*args, **kwargs)  # type: ignore[arg-type]

    with locked(path):
        monkeypatch.setattr(os, "unlink", refuse_once)
        discard(path)
    assert not path.exists()
