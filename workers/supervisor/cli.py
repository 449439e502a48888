"""The command line: what each word of `slipway` means, and who carries it out."""

from __future__ import annotations

import argparse
import os
import sys

from runtime.errors import EngineError
from workers.supervisor import console, environment, packages, prepare
from workers.supervisor.instance import Instance

_ENVIRONMENT = """\
environment:
  SLIPWAY_ROOT    what must survive a reboot: database, images, containers, volumes (/var/lib/slipway)
  SLIPWAY_RUN     sockets and run state, on a tmpfs (/run/slipway)
  SLIPWAY_NAME    the instance; bridges, nft table and cgroups carry it (slipway)
  SLIPWAY_USERNS  ids of the host for containers in user namespaces, <first>:<count>, or off
  SLIPWAY_LISTEN  address:port of the page (127.0.0.1:8000: this host alone)
  SLIPWAY_PORT    its port alone
  SLIPWAY_ALLOWED_HOSTS  names under which browsers may ask, with commas between
  DATABASE_URL    postgres://user:password@host/name instead of SQLite
  REDIS_URL       a Redis of yours instead of the private one
  SLIPWAY_PUBLISH_ADDRESS      where published ports listen unless told otherwise (0.0.0.0)
  SLIPWAY_INSECURE_REGISTRIES  registries that may be asked over plain HTTP, with commas between
  SLIPWAY_HTTPS   1 when a proxy with TLS stands before the page: cookies are then sent over TLS alone
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="slipway",
        description="Run and manage Linux containers on this host, watched from the browser.",
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="command", required=True)

    def add(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=_ENVIRONMENT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    add(
        "up",
        "prepare this host where needed and run the platform",
        "Install what is missing, migrate, and run the platform in the foreground until Ctrl-C.\n"
        "The first start prints the admin's password, once. Ctrl-C ends the platform, not the\n"
        "containers: they go on, and the next `up` adopts them. Needs root.",
    )
    down = add(
        "down",
        "stop the platform",
        "Stop the platform that `up` runs. Containers go on unless told otherwise.",
    )
    down.add_argument(
        "--containers",
        action="store_true",
        help="also stop every container, and remove the instance's bridges, nft table and cgroups; "
        "images, volumes and the stopped containers stay on disk",
    )
    status = add(
        "status",
        "show what runs",
        "Show the platform's processes, versions, address and containers. "
        "Exit code 0 when the platform runs, 3 when it does not.",
    )
    status.add_argument("--json", action="store_true", help="the same, for programs")
    test = add(
        "test",
        "run every test and linter",
        "Install what the tests need, then run pytest (ruff, mypy and import-linter are tests).\n"
        "Further arguments go to pytest: ./slipway test -m 'not e2e' -k logs. With --vm the kernel tests\n"
        "run in a virtual machine with unified cgroup v2, and no others; with --with-vm those of cgroup v2\n"
        "run there beside everything else. Needs root.",
    )
    test.add_argument("arguments", nargs=argparse.REMAINDER, metavar="pytest arguments")
    trace = add(
        "trace",
        "show where the time of a start goes",
        "Run containers of an image one after the other, remove them again, and show how long each\n"
        "stage of creating and starting them took.",
    )
    trace.add_argument("what", choices=["run"], help="create and start")
    trace.add_argument("image", help="for example slipway/starter")
    trace.add_argument("--times", type=int, default=20, help="how many containers (20)")
    trace.add_argument("-p", "--publish", default="", metavar="PORT", help="such as 8080:80")
    manage = add(
        "manage",
        "run a Django management command",
        "Run manage.py as web runs: as its user, on its database.\n"
        "For example: ./slipway manage createsuperuser, or ./slipway manage help.",
    )
    manage.add_argument("arguments", nargs=argparse.REMAINDER, metavar="command and arguments")
    return top


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 failed (a sentence on stderr says why), 2 not understood."""
    arguments = sys.argv[1:] if argv is None else argv
    # argparse would keep `--version` and friends of pytest and Django for itself.
    passed_on: list[str] | None = None
    if (
        arguments
        and arguments[0] in ("test", "manage")
        and arguments[1:2] not in (["-h"], ["--help"])
    ):
        arguments, passed_on = arguments[:1], arguments[1:]
    options = parser().parse_args(arguments)
    if passed_on is not None:
        options.arguments = passed_on
    try:
        return _dispatch(options)
    except EngineError as error:
        console.complain(error.message, error.hint)
    except (
        packages.InstallFailed,
        environment.EnvironmentFailed,
        prepare.PrepareFailed,
        OSError,
    ) as error:
        console.complain(str(error))
    except KeyboardInterrupt:
        console.complain("interrupted.")
    return 1


def _dispatch(options: argparse.Namespace) -> int:
    # Each is imported when asked for: `status` answers at once.
    instance = Instance.from_env()
    if options.command == "status":
        from workers.supervisor.status import status

        return status(instance, as_json=options.json)
    _check_host(options.command)
    if options.command == "up":
        from workers.supervisor.up import up

        return up(instance)
    if options.command == "down":
        from workers.supervisor.down import down

        return down(instance, containers=options.containers)
    if options.command == "test":
        from workers.supervisor.testing import test

        return test(instance, options.arguments)
    if not instance.python.exists() or not instance.config.db.exists():
        console.complain("This instance has not been started yet.", "Start it: sudo ./slipway up")
        return 1
    if options.command == "trace":
        arguments = ["trace_run", options.image, f"--times={options.times}"]
        return prepare.manage(instance, [*arguments, f"--publish={options.publish}"])
    return prepare.manage(instance, options.arguments)


def _check_host(command: str) -> None:
    if sys.platform != "linux":
        raise prepare.PrepareFailed("Slipway runs on Linux: containers are made of its kernel.")
    if os.geteuid() != 0:
        raise prepare.PrepareFailed(f"`slipway {command}` needs root: sudo ./slipway {command}")
