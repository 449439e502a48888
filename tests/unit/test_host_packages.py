"""Packages are installed when they are missing, and their services are not started by that."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.supervisor import packages


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Records apt-get's calls instead of making them."""
    calls: list[str] = []
    monkeypatch.setattr(packages, "_apt", lambda *arguments: calls.append(" ".join(arguments)))
    monkeypatch.setattr(packages, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(packages, "_LISTS", tmp_path / "lists")
    return calls


def test_what_is_installed_is_not_asked_for() -> None:
    assert packages.missing(["dpkg", "no-such-package-of-debian"]) == ["no-such-package-of-debian"]


def test_nothing_missing_means_no_apt_at_all(apt: list[str]) -> None:
    packages.ensure(["dpkg"])
    assert apt == []


def test_empty_lists_are_read_first(apt: list[str]) -> None:
    packages.ensure(["no-such-package-of-debian"])
    assert apt == ["update", "install --no-install-recommends --yes no-such-package-of-debian"]


def test_old_lists_are_read_again_when_a_version_is_gone(
    apt: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "mirror_Packages").touch()

    def fail_once(*arguments: str) -> None:
        apt.append(arguments[0])
        if len(apt) == 1:
            raise packages.InstallFailed("404")

    monkeypatch.setattr(packages, "_apt", fail_once)
    packages.ensure(["no-such-package-of-debian"])
    assert apt == ["install", "update", "install"]


def test_services_stay_down_while_packages_are_installed(
    apt: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = tmp_path / "policy-rc.d"
    seen: list[str] = []
    monkeypatch.setattr(
        packages,
        "_apt",
        lambda *arguments: seen.append(policy.read_text() if policy.exists() else "none"),
    )
    packages.ensure(["no-such-package-of-debian"])
    assert "exit 101" in seen[-1]
    assert not policy.exists()


def test_a_policy_of_the_host_is_left_alone(apt: list[str], tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    packages.ensure(["no-such-package-of-debian"])
    assert policy.read_text() == "theirs"
