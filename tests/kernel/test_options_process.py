"""Options of the process, in the kernel's own view of a container that runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest

from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.options import asked, started
from tests.support.waiting import wait_until


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def test_entrypoint_and_command_are_one_command_line(instance: Instance) -> None:
    seen = started(instance, entrypoint=["sh", "-c"], command=["sleep 1000; : $0", "x"], init=False)
    assert seen.words("cmdline") == ["sh", "-c", "sleep 1000; : $0", "x"]


def test_variables_of_a_file_and_of_the_request(instance: Instance) -> None:
    seen = started(instance, env_file="# x\nA=file\nB=file\n", env={"A": "mine", "EMPTY": ""})
    found = dict(word.split("=", 1) for word in seen.words("environ"))
    assert (found["A"], found["B"], found["EMPTY"]) == ("mine", "file", "")
    assert found["HOSTNAME"] == seen.spec.short_id


def test_user_groups_and_directory(instance: Instance) -> None:
    seen = started(
        instance, user="nobody:33", groups=["1234", "www-data"], working_dir="/srv/made/now"
    )
    assert seen.status("Uid").split() == ["65534"] * 4
    assert seen.status("Gid").split() == ["33"] * 4
    assert set(seen.status("Groups").split()) == {"33", "1234"}
    assert os.readlink(f"/proc/{seen.pid}/cwd") == "/srv/made/now"
    assert seen.status("CapEff") == "0" * 16


def test_the_umask_is_dockers_whoever_started_the_platform() -> None:
    before = os.umask(0o077)
    try:
        with Instance() as instance:
            seen = started(instance, user="nobody", working_dir="/srv/made/now")
            assert seen.status("Umask") == "0022"
            assert seen.run("sh", "-c", "umask") == "0022"
            for path in ("/srv/made", "/srv/made/now"):
                found = seen.file(path).stat()
                assert (found.st_mode & 0o7777, seen.inside(found.st_uid, "uid")) == (0o755, 0)
    finally:
        os.umask(before)


def test_a_terminal(instance: Instance) -> None:
    seen = started(instance, command=["sleep", "1000"], tty=True)
    inside = os.readlink(f"/proc/{seen.pid}/fd/0")
    assert inside.startswith("/dev/pts/")
    assert os.major(os.stat(f"/proc/{seen.pid}/fd/1").st_rdev) == 136
    # Its session leads the terminal: signals of the keyboard reach it.
    assert seen.proc("stat").rpartition(")")[2].split()[4] != "0"
    assert "TERM=xterm" in seen.words("environ")
    assert seen.mount("/dev/console").fstype == "devpts"
    seen.run("sh", "-c", "echo to the console > /dev/console")
    instance.wait_for_output(seen.spec, "to the console")
    assert not started(instance).file("/dev/console").exists()


def test_standard_input_is_kept_open_when_asked(instance: Instance) -> None:
    seen = started(instance, stdin=True)
    assert stat.S_ISFIFO(os.stat(f"/proc/{seen.pid}/fd/0").st_mode)
    closed = started(instance)
    assert os.readlink(f"/proc/{closed.pid}/fd/0") == "/dev/null"


def test_an_init_reaps_what_others_leave_behind(instance: Instance) -> None:
    seen = started(instance, command="sh -c 'sleep 1000; true'")
    assert seen.spec.process.init
    # Nothing of how the platform was started, and where.
    assert seen.run("cat", "/proc/1/cmdline").rstrip("\0") == "init"
    assert seen.run("cat", "/proc/1/comm") == "init"
    # An orphan that has ended would stay a zombie for as long as process 1 is a shell that waits.
    seen.run("sh", "-c", "(sleep 0.01 &)")
    wait_until(lambda: "Z" not in _states(seen.run("ps", "-o", "stat")))


def _states(text: str) -> str:
    return text.partition("\n")[2]


def test_a_line_of_a_shell_ends_at_its_stop_signal(instance: Instance) -> None:
    seen = started(instance, command="sh -c 'sleep 1000; true'", stop_timeout=60)
    record = instance.engine.stop(seen.spec.id)
    assert record is not None
    assert record.code == 143


def test_without_an_init_the_command_is_process_1(instance: Instance) -> None:
    seen = started(instance, command=["sh", "-c", "sleep 1000; true"], init=False)
    assert seen.words("cmdline")[0] == "sh"


def test_names_of_the_host(instance: Instance) -> None:
    seen = started(instance, hostname="box", domainname="example.org", on=instance.network())
    assert seen.run("hostname") == "box"
    assert seen.run("cat", "/proc/sys/kernel/domainname") == "example.org"
    assert seen.run("cat", "/etc/hostname") == "box"
    assert f"{seen.spec.endpoints[0].address}\tbox.example.org box" in seen.run("cat", "/etc/hosts")
    assert seen.namespace("uts") != os.readlink("/proc/self/ns/uts")


def test_with_the_hosts_network_it_has_the_hosts_name(instance: Instance) -> None:
    seen = started(instance, network="host")
    assert seen.run("hostname") == os.uname().nodename
    assert seen.run("cat", "/etc/hostname") == os.uname().nodename


def test_a_command_that_is_not_there_leaves_its_code(instance: Instance) -> None:
    spec = instance.create(asked(instance, command=["no-such-thing"]))
    with pytest.raises(Exception, match="no-such-thing"):
        instance.engine.start(spec.id)
    observed = instance.engine.observe(spec.id)
    assert observed.status == Status.EXITED
    assert observed.run is not None
    assert observed.run.exit is not None
    assert observed.run.exit.code == 127
