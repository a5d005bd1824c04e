"""The command behind script/lab."""

import argparse
import logging
import os
import signal
import sys
import time

from tests.lab import image
from tests.lab.errors import LabError
from tests.lab.hardware import SPECS
from tests.lab.host import BOOT_DEADLINE_S, LabHost
from tests.lab.lab import Lab, end_abandoned_labs


def _names(asked: list[str]) -> list[str]:
    if not asked or "all" in asked:
        return ["rich", "plain"]
    return asked


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _describe(host: LabHost) -> str:
    lines = [
        f"{host.name}: {host.uri()}",
        f"    key          {host.private_key}  (root, ops, limited, virt)",
        f"    password     {host.image.directory / 'password'}  (pw)",
        f"    LAN          {host.lan_address}",
    ]
    lines += [f"    {kind:<20} {fingerprint}" for kind, fingerprint in sorted(host.fingerprints.items())]
    return "\n".join(lines)


def prepare(_arguments: argparse.Namespace) -> int:
    found, hold = image.acquire()
    hold.close()
    _say(f"image: {found.directory}")
    return 0


def up(arguments: argparse.Namespace) -> int:
    lab, names, started = Lab.shared(), _names(arguments.names), time.monotonic()
    lab.start(names)
    for name in names:
        lab.host(name).wait_for_ssh(arguments.deadline)
        _say(_describe(lab.host(name)))
        _say(f"    answers SSH after {time.monotonic() - started:.0f} s")
    if arguments.ready:
        lab.wait_until_ready(names, arguments.deadline)
        _say(f"ready after {time.monotonic() - started:.0f} s")
    return 0


def down(_arguments: argparse.Namespace) -> int:
    Lab.shared().down()
    end_abandoned_labs()
    return 0


def status(_arguments: argparse.Namespace) -> int:
    lab = Lab.shared()
    for name in SPECS:
        if not (lab.directory / name).exists() or not lab.host(name).is_running():
            _say(f"{name}: off")
        elif not lab.host(name).ssh.answers():
            _say(f"{name}: on, does not answer SSH")
        else:
            lab.host(name).wait_for_ssh(60)
            _say(_describe(lab.host(name)))
    return 0


def ssh(arguments: argparse.Namespace) -> int:
    host = Lab.shared().host(arguments.name)
    if not host.is_running():
        raise LabError(f"the lab host {host.name} is off; `script/lab up {host.name}` starts it")
    command = [*host.ssh.command(arguments.user), *arguments.command]
    # Replaces this process, so that terminals, signals and exit statuses are the client's own.
    os.execvp(command[0], command)


def main() -> int:
    # `script/lab status | head` ends quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(prog="script/lab", description="Real Debian hosts in QEMU to test on.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("prepare", help="install what is needed and build the image")
    command.set_defaults(run=prepare)

    command = commands.add_parser(
        "up", help="start hosts and return when they answer SSH (default: rich plain)"
    )
    command.add_argument(
        "names", nargs="*", choices=[*SPECS, "all", []], metavar="HOST", help="rich, plain, spare, all"
    )
    command.add_argument("--deadline", type=float, default=BOOT_DEADLINE_S, metavar="SECONDS")
    command.add_argument("--ready", action="store_true", help="wait until they have finished starting, too")
    command.set_defaults(run=up)

    command = commands.add_parser("down", help="end all hosts and remove what they wrote")
    command.set_defaults(run=down)

    command = commands.add_parser("status", help="which hosts are on, and how to reach them")
    command.set_defaults(run=status)

    command = commands.add_parser("ssh", help="log in, or run a command")
    command.add_argument("name", choices=list(SPECS), metavar="HOST")
    command.add_argument("-l", "--user", default="root")
    command.add_argument("command", nargs=argparse.REMAINDER)
    command.set_defaults(run=ssh)

    arguments = parser.parse_args()
    try:
        result: int = arguments.run(arguments)
    except LabError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return result


if __name__ == "__main__":
    sys.exit(main())
