"""Each rule of the advisor: when it speaks, when it is silent, what it offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.web import Site
from webui.advisor.rules import RULE_IDS, advice_for
from webui.containers.models import Container
from webui.containers.selectors import containers

MIB = 1024**2
LIMITED = {"memory": "256m", "cpus": 1}


def advice(container: Container, **facts: Any) -> dict[str, Mapping[str, Any]]:
    Container.objects.filter(pk=container.pk).update(**facts)
    found = advice_for(containers().get(pk=container.pk))
    assert {each["rule"] for each in found} <= RULE_IDS
    for each in found:
        assert each["title"]
        assert each["text"].endswith((".", "!"))
        assert each["severity"] in ("critical", "warning", "info")
    return {each["rule"]: each for each in found}


def test_a_container_in_good_order_gets_none(site: Site) -> None:
    container = site.make(limits=LIMITED, volumes=["data:/data"], ports=["8080:80"])
    assert advice(container, usage={"writable_paths": [["/tmp", 10**9], ["/etc/x", 10]]}) == {}


def test_missing_limits_come_with_a_fix_that_rest_takes(site: Site) -> None:
    found = advice(site.make("web"), usage={"memory_peak": 700 * MIB})
    assert set(found) == {"no-memory-limit", "no-cpu-limit"}
    fix = found["no-memory-limit"]["fix"]
    assert fix["body"]["limits"]["memory"] >= 1000 * MIB
    for each in found.values():
        path = each["fix"]["url"].removeprefix("/api/v1/")
        site.api().call(each["fix"]["method"], path, each["fix"]["body"], expect=202)


def test_data_in_no_volume_is_named_with_its_size(site: Site) -> None:
    usage = {"writable_paths": [["/var/lib/db", 50 * MIB], ["/tmp/x", 10**9]]}
    found = advice(site.make(limits=LIMITED), usage=usage)["data-outside-volume"]
    assert found["severity"] == "critical"
    assert "50 MiB" in found["text"]
    assert "/var/lib/db" in found["text"]
    assert found["evidence"] == {"bytes": 50 * MIB, "paths": [["/var/lib/db", 50 * MIB]]}
    assert found["fix"]["url"].startswith("/containers/new/?from=")


def test_a_kill_for_memory_offers_twice_the_limit(site: Site) -> None:
    found = advice(site.make(limits=LIMITED), oom_killed=True)["oom-killed"]
    assert found["fix"]["body"] == {"limits": {"memory": 512 * MIB}}
    unlimited = advice(site.make(), oom_killed=True)["oom-killed"]
    assert unlimited["fix"] is None


@pytest.mark.parametrize(("share", "said"), [(0.1, False), (0.11, True)])
def test_throttling_over_a_tenth_is_said(site: Site, share: float, said: bool) -> None:
    found = advice(site.make(limits=LIMITED), usage={"throttled_share": share})
    assert ("throttled" in found) is said


def test_a_restart_loop_offers_to_stop(site: Site) -> None:
    facts = {"status": "restarting", "restart_count": 5, "exit_code": 1}
    found = advice(site.make(limits=LIMITED), **facts)["restart-loop"]
    assert found["fix"]["url"].endswith("/stop")
    assert "restart-loop" not in advice(site.make(limits=LIMITED), **{**facts, "restart_count": 1})


def test_dangerous_settings_are_critical(site: Site) -> None:
    assert "privileged" in advice(site.make(limits=LIMITED, privileged=True))
    for source in ("/", "/etc", "/var/run/docker.sock"):
        mounts = [{"type": "bind", "source": source, "target": "/host"}]
        found = advice(site.make(limits=LIMITED, mounts=mounts))
        assert found["dangerous-mount"]["severity"] == "critical"


def test_a_database_open_to_every_address_is_said(site: Site) -> None:
    assert "database-published" in advice(site.make(limits=LIMITED, ports=["5432:5432"]))
    local = site.make(limits=LIMITED, ports=["127.0.0.1:5433:5432"])
    assert "database-published" not in advice(local)


def test_an_unnamed_volume_is_mentioned(site: Site) -> None:
    found = advice(site.make(limits=LIMITED, volumes=["/data"]))
    assert found["anonymous-volume"]["severity"] == "info"


def test_the_most_severe_comes_first(site: Site) -> None:
    container = site.make(privileged=True, volumes=["/data"])
    severities = [each["severity"] for each in advice_for(containers().get(pk=container.pk))]
    assert severities == ["critical", "warning", "warning", "info"]
