"""The unprivileged processes are unprivileged, and see the checkout without being able to change it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from runtime.store.paths import Config
from workers.supervisor import confine, prepare
from workers.supervisor.instance import WEB_USER, Instance, account
from workers.supervisor.processes import Process

_PROBE = """
import json, os
def writable(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.strerror
    return "yes"
status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "cwd": os.getcwd(),
    "capabilities": [status[n].strip() for n in ("CapPrm", "CapEff")],
    "no_new_privs": status["NoNewPrivs"].strip(),
    "sees": sorted(os.listdir(".")), "mounts": os.readlink("/proc/self/ns/mnt"),
    "writable": writable("probe"), "setid": os.statvfs(".").f_flag & os.ST_NOSUID,
}))
"""


@pytest.fixture
def instance(config: Config) -> Instance:
    config.root.parent.chmod(0o755)
    made = Instance(config, "127.0.0.1", 8000, "", "")
    prepare.users()
    prepare.directories(made)
    return made


def _probe(instance: Instance) -> dict[str, Any]:
    process = Process(
        name="probe",
        colour="grey",
        argv=["/usr/bin/python3", "-c", _PROBE],
        env={},
        user=WEB_USER,
        sees_app=True,
        cwd=str(instance.app),
    )
    done = subprocess.run(
        process.argv,
        env=dict(process.env),
        preexec_fn=confine.preparation(process, instance),
        capture_output=True,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_web_has_no_privilege_and_gains_none(instance: Instance) -> None:
    seen = _probe(instance)
    user = account(WEB_USER)
    assert seen["uid"] == [user.pw_uid] * 3
    assert seen["gid"] == [user.pw_gid] * 3
    assert seen["groups"] == [user.pw_gid]
    assert {int(mask, 16) for mask in seen["capabilities"]} == {0}
    assert seen["no_new_privs"] == "1"


def test_web_sees_the_checkout_read_only_and_the_host_does_not_see_the_mount(
    instance: Instance,
) -> None:
    seen = _probe(instance)
    assert seen["cwd"] == str(instance.app)
    assert "manage.py" in seen["sees"]
    assert seen["writable"] in ("Read-only file system", "Permission denied")
    assert seen["setid"]
    assert seen["mounts"] != os.readlink("/proc/self/ns/mnt")
    assert os.listdir(instance.app) == []


def test_a_root_that_web_cannot_reach_is_refused_with_the_way_out(config: Config) -> None:
    made = Instance(config, "127.0.0.1", 8000, "", "")
    prepare.users()
    with pytest.raises(prepare.PrepareFailed, match="chmod o\\+x"):
        prepare.directories(made)


def test_keys_are_made_once_and_only_webs_group_reads_the_secret(instance: Instance) -> None:
    prepare.keys(instance)
    first = instance.secret_key.read_bytes(), instance.host_id.read_bytes()
    prepare.keys(instance)
    assert (instance.secret_key.read_bytes(), instance.host_id.read_bytes()) == first
    seen = instance.secret_key.stat()
    assert (seen.st_uid, seen.st_gid) == (0, account(WEB_USER).pw_gid)
    assert oct(seen.st_mode & 0o777) == "0o640"
