"""When a container that ended is started again, and how long after."""

from __future__ import annotations

import pytest

from runtime.shim.policy import FIRST_DELAY, GOOD_RUN, LONGEST_DELAY, RestartPolicy


def policy(name: str, max_retries: int = 0) -> RestartPolicy:
    return RestartPolicy({"name": name, "max_retries": max_retries})


@pytest.mark.parametrize(
    ("name", "after_success", "after_failure"),
    [("no", False, False), ("on-failure", False, True), ("always", True, True),
     ("unless-stopped", True, True)],
)  # fmt: skip
def test_what_brings_it_back(name: str, after_success: bool, after_failure: bool) -> None:
    assert (policy(name).next_delay(0, 1.0) is not None) == after_success
    assert (policy(name).next_delay(1, 1.0) is not None) == after_failure
    assert (policy(name).next_delay(137, 1.0) is not None) == after_failure


def test_the_delay_doubles_up_to_a_minute() -> None:
    always = policy("always")
    delays = [always.next_delay(1, 0.0) or 0.0 for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-2:] == [LONGEST_DELAY, LONGEST_DELAY]


def test_a_good_run_begins_the_delays_anew() -> None:
    always = policy("always")
    for _ in range(5):
        always.next_delay(1, 0.0)
    assert always.next_delay(1, GOOD_RUN - 0.1) != FIRST_DELAY
    assert always.next_delay(1, GOOD_RUN) == FIRST_DELAY


def test_retries_are_counted() -> None:
    limited = policy("on-failure", 2)
    delays = [limited.next_delay(1, 0.0) for _ in range(3)]
    assert delays[0] is not None
    assert delays[1] is not None
    assert delays[2] is None


def test_a_changed_policy_holds_from_the_next_end() -> None:
    changing = policy("always")
    changing.replace({"name": "no"})
    assert changing.next_delay(1, 0.0) is None
