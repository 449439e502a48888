"""/etc/hosts and /etc/resolv.conf of a container that runs, when its networks change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engine.etc import change_etc_files, write_etc_files
from runtime.model.spec import ContainerSpec
from runtime.store.paths import Config
from tests.support.specs import container, endpoint

FRONT = endpoint()
BACK = endpoint(
    network_id="c" * 64, address="10.91.0.6", gateway="10.91.0.1", mac_address="02:42:0a:5b:00:06"
)


@pytest.fixture
def spec() -> ContainerSpec:
    return container(endpoints=(FRONT,), hostname="box")


@pytest.fixture
def files(spec: ContainerSpec, config: Config) -> Path:
    write_etc_files(spec, config)
    return config.container_run(spec.id)


def test_they_say_what_a_start_would_have_them_say(
    spec: ContainerSpec, files: Path, config: Config
) -> None:
    for endpoints in ((FRONT, BACK), (BACK,), (), (FRONT,)):
        changed = replace(spec, endpoints=endpoints)
        inode = (files / "hosts").stat().st_ino
        change_etc_files(files, spec, changed)
        told = [(files / name).read_text() for name in ("hosts", "resolv.conf")]
        assert (files / "hosts").stat().st_ino == inode, "it is bound into the container"
        write_etc_files(changed, config)
        assert told == [(files / name).read_text() for name in ("hosts", "resolv.conf")]
        spec = changed


def test_what_the_container_has_written_stays(spec: ContainerSpec, files: Path) -> None:
    with (files / "hosts").open("ab") as hosts:
        hosts.write(b"192.0.2.1\tmine \xff\n")
    (files / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    change_etc_files(files, spec, replace(spec, endpoints=(BACK,)))
    hosts_now = (files / "hosts").read_bytes()
    assert b"192.0.2.1\tmine \xff\n" in hosts_now
    assert b"10.91.0.6\tbox\n" in hosts_now
    assert b"10.90.0.5" not in hosts_now
    assert (files / "resolv.conf").read_text() == "nameserver 192.0.2.53\n"
