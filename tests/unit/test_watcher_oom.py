"""OOM kills: found in the kernel's log, joined with the counters, told once and in words."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.model.stats import StatsSample
from tests.support.web import Site
from webui.core.payloads import event_row
from webui.operations.models import Event
from workers.watcher.kernel_log import OomKill, OomParser
from workers.watcher.oom import PAUSE, OomKills, oom_record, sentence

ID = "0123456789abcdef" * 4
GROUP = f"/slipway/containers/{ID[:32]}"
INVOKED = "dd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
USAGE = "memory: usage 65536kB, limit 65536kB, failcnt 29"


def line(group: str = GROUP, task: str = "dd", constraint: str = "CONSTRAINT_MEMCG") -> str:
    return (
        f"oom-kill:constraint={constraint},nodemask=(null),cpuset=/,mems_allowed=0,"
        f"oom_memcg={group},task_memcg={group},task={task},pid=1977,uid=2013265920"
    )


def fed(*lines: str, priority: int = 6) -> OomKill | None:
    parser = OomParser("slipway")
    found = None
    for number, text in enumerate(lines):
        found = parser.feed(f"{priority},{number},28949,-;{text}\n SUBSYSTEM=x\n".encode(), 5.0)
    return found


def test_a_kill_has_its_process_and_the_limit_of_that_moment() -> None:
    expected = OomKill(ID[:32], "dd", 1977, 64 * 2**20, host_wide=False, time=5.0)
    assert fed(INVOKED, USAGE, line()) == expected


@pytest.mark.parametrize("group", [f"/system.slice/x{GROUP}", f"{GROUP}/below/deeper"])
def test_a_group_is_found_wherever_the_hierarchy_begins(group: str) -> None:
    found = fed(line(group))
    assert found is not None
    assert (found.container, found.limit) == (ID[:32], 0)


def test_a_name_with_the_words_of_the_format_deceives_nobody() -> None:
    found = fed(line(task="a,pid=1,uid=0"))
    assert found is not None
    assert (found.process, found.host_pid) == ("a,pid=1,uid=0", 1977)


def test_a_host_without_memory_is_told_from_a_limit() -> None:
    found = fed(INVOKED, USAGE, line(constraint="CONSTRAINT_NONE"))
    assert found is not None
    assert (found.host_wide, found.limit) == (True, 0)


@pytest.mark.parametrize(
    "text", ["", "oom", line("/other/containers/" + ID[:32]), line("/slipway/shims"), "oom-kill:"]
)
def test_other_lines_are_no_kill(text: str) -> None:
    assert fed(text) is None


def test_a_process_that_writes_the_log_cannot_pretend_a_kill() -> None:
    assert fed(line(), priority=14) is None


class World:
    def __init__(self, *, log_readable: bool = True) -> None:
        self.time = 100.0
        self.told: list[tuple[str, int, int]] = []
        self.kills = OomKills(self.record, clock=lambda: self.time, log_readable=log_readable)
        self.counter = 0

    def record(self, container: str, facts: dict[str, Any]) -> None:
        assert container == ID[:32]
        self.told.append((facts["process"], facts["kills"], facts["count"]))

    def log(self) -> None:
        self.kills.from_log(OomKill(ID[:32], "dd", 7, 0, host_wide=False, time=1.0), 12)

    def count(self, grown: int) -> None:
        self.counter += grown
        self.kills.from_counter(ID, StatsSample(ID, 1.0, oom_kills=self.counter), grown)


def test_what_the_log_told_the_counter_does_not_tell_again() -> None:
    world = World()
    world.log()
    world.count(1)
    world.count(0)
    assert world.told == [("dd", 1, 1)]


def test_a_kill_whose_line_comes_after_the_counter_is_told_once() -> None:
    world = World()
    world.count(1)
    world.log()
    world.time += PAUSE
    world.count(0)
    assert world.told == [("dd", 1, 1)]


def test_what_the_log_left_out_the_counter_tells() -> None:
    world = World()
    world.count(2)
    assert world.told == [], "its lines may be on the way"
    world.count(0)
    assert world.told == [("", 2, 2)]


def test_without_the_log_the_counter_tells_at_once() -> None:
    world = World(log_readable=False)
    world.count(1)
    assert world.told == [("", 1, 1)]


def test_many_kills_are_few_events_and_none_is_lost() -> None:
    world = World()
    for _ in range(30):
        world.log()
    assert world.told == [("dd", 1, 1)]
    world.time += PAUSE
    world.count(30)
    assert [told[1:] for told in world.told] == [(1, 1), (29, 30)]


def test_what_ended_is_forgotten() -> None:
    world = World()
    world.log()
    world.time += PAUSE + 1
    world.kills.forget(frozenset())
    world.log()
    assert world.told[-1] == ("dd", 1, 1)


def test_the_event_says_who_where_and_over_what(site: Site) -> None:
    container = site.make("web", limits={"memory": "64m"})
    kill = OomKill(container.pk[:32], "dd", 1977, 32 * 2**20, host_wide=False, time=1000.0)
    OomKills(oom_record).from_log(kill, 12)
    row = event_row(Event.objects.get(type="container.oom"))
    data = row["data"]
    assert row["time"] == "1970-01-01T00:16:40.000Z"
    assert (row["target_name"], data["process"], data["pid"]) == ("web", "dd", 12)
    assert (data["host_pid"], data["limit"], data["count"]) == (1977, 32 * 2**20, 1)
    assert data["message"] == "The kernel killed dd (pid 12): memory limit 32 MiB."
    container.refresh_from_db()
    assert container.usage["oom_last"]["message"] == data["message"]


def test_an_unknown_container_is_no_error(site: Site) -> None:
    OomKills(oom_record).from_log(OomKill("f" * 32, "dd", 1, 0, host_wide=False, time=1.0))
    assert not Event.objects.filter(type="container.oom").exists()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"process": ""}, "killed a process that it did not name: memory limit 64 MiB."),
        ({"host_pid": 77}, "killed dd (pid 77 on the host): memory limit 64 MiB."),
        ({"host_wide": True}, "killed dd: the host ran out of memory."),
        ({"kills": 3}, "64 MiB. Together 3 since the event before."),
        ({"count": 2}, "64 MiB. It is kill number 2 since the container was started."),
    ],
)
def test_the_sentence(facts: dict[str, Any], said: str) -> None:
    usual = {"process": "dd", "pid": None, "host_pid": 0, "limit": 64 * 2**20, "host_wide": False}
    assert said in sentence(usual | {"kills": 1, "count": 1} | facts)
