"""The text of an authorized_keys file: the lines of one key in it, with everything else left as it is.

A line is options, key type, key and comment (AUTHORIZED_KEYS FILE FORMAT in sshd(8)). nodeadmin's lines have
``restrict`` and, on top, the one thing that it needs beside running commands: ``port-forwarding``, without
which sshd opens no channel to libvirt's Unix socket, nor one from a jump host to the hosts behind it. No port
of the host can be listened on by it (``permitlisten``). Which TCP ports it may connect to stays open:
``permitopen`` refuses every Unix socket as well, and cannot name one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nodes.hosts.target import HostKey
from nodes.inventory.parsing.numbers import capped

NOWHERE = "nodeadmin.invalid:1"
"""An address that exists nowhere (RFC 6761): the only one that may be listened on. ``none`` is a word of
sshd_config alone; in a key's options it would make sshd refuse the key."""

_OWN = {"restrict", "port-forwarding", "no-pty", "no-agent-forwarding", "no-x11-forwarding", "no-user-rc"}
_WIDENING = {"pty", "agent-forwarding", "x11-forwarding", "user-rc"}
"""What ``restrict`` takes and nodeadmin needs not."""
_SOURCE = re.compile(r"[0-9A-Fa-f.:/]{2,49}")
_VERSION = re.compile(r"OpenSSH_(?:for_Windows_)?(\d+)\.(\d+)")
_TYPES = ("ssh-", "ecdsa-", "sk-")


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What the line of our key allows: ``sources`` are addresses and networks from which alone it counts;
    empty for all."""

    sources: tuple[str, ...] = ()


def options_for(wanted: KeyOptions, server_version: str) -> tuple[str, ...]:
    """The options as this server knows them (its greeting); none for one that is not OpenSSH, which might
    refuse a line with an option that it does not know. Raises ValueError for what is no source."""
    found = _VERSION.search(server_version)
    if found is None:
        return ()
    version = (capped(found[1]), capped(found[2]))
    if version >= (7, 2):
        options = ["restrict", "port-forwarding"]
    else:
        options = ["no-pty", "no-agent-forwarding", "no-X11-forwarding", "no-user-rc"]
    if version >= (7, 8):
        options.append(f'permitlisten="{NOWHERE}"')
    if wanted.sources:
        if not all(_SOURCE.fullmatch(source) for source in wanted.sources):
            raise ValueError("a source is an address or a network")
        options.append(f'from="{",".join(wanted.sources)}"')
    return tuple(options)


def line_of(public_key: str, options: Sequence[str]) -> str:
    """The whole line. Raises ValueError for what is no public key on one line."""
    key = public_key.strip()
    HostKey.parse(key)
    if not key.isprintable():
        raise ValueError("a public key is one line")
    return f"{','.join(options)} {key}" if options else key


def lines_with(content: str, key: HostKey) -> tuple[str, ...]:
    """The lines of the key."""
    return tuple(line for line in _lines(content) if _holds(line, key))


def with_key(content: str, public_key: str, options: Sequence[str]) -> str:
    """The content with the key in it, under these options.

    A line of the key that is there keeps its comment and what somebody else has put into its options: they
    narrow it, and are theirs to take back. What nodeadmin writes is written anew, and what gives more than it
    needs (``pty``, ``agent-forwarding`` …) goes. Without ``from`` among the options one that is there stays.
    """
    key = HostKey.parse(public_key)
    lines, seen = [], set()
    for line in _lines(content):
        if not _holds(line, key):
            lines.append(line)
            continue
        given, rest = _parts(line)
        merged = ",".join((*options, *_foreign(given, options))) if options else given
        renewed = f"{merged} {rest}".strip()
        if renewed not in seen:
            lines.append(renewed)
        seen.add(renewed)
    if not seen:
        lines.append(line_of(public_key, options))
    return _joined(lines)


def without_key(content: str, key: HostKey) -> str:
    """The content without the lines of the key."""
    if not lines_with(content, key):
        return content
    return _joined([line for line in _lines(content) if not _holds(line, key)])


def with_lines(content: str, key: HostKey, before: Sequence[str]) -> str:
    """The content with ``before`` in place of the lines of the key."""
    rest = [line for line in _lines(content) if not _holds(line, key)]
    return _joined([*rest, *before])


def _lines(content: str) -> list[str]:
    """As sshd cuts them: at line feeds alone."""
    return content.removesuffix("\n").split("\n") if content else []


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _holds(line: str, key: HostKey) -> bool:
    if line.lstrip().startswith("#"):
        return False
    words = _parts(line)[1].split()
    return len(words) >= 2 and f"{words[0]} {words[1]}" == key.to_text()


def _parts(line: str) -> tuple[str, str]:
    """Options, "" where there are none, and the rest of the line."""
    text = line.strip()
    if text.startswith(_TYPES):
        return "", text
    end = next((at for at, quoted in _unquoted(text, " \t") if not quoted), len(text))
    return text[:end], text[end:].strip()


def _unquoted(text: str, marks: str) -> Iterator[tuple[int, bool]]:
    """Where one of ``marks`` stands, and whether within quotes; ``\\"`` ends none."""
    quoted = False
    for at, character in enumerate(text):
        if character == '"' and (at == 0 or text[at - 1] != "\\"):
            quoted = not quoted
        elif character in marks:
            yield at, quoted


def _foreign(given: str, options: Sequence[str]) -> list[str]:
    """The options of a line that are not nodeadmin's to decide."""
    cuts = [at for at, quoted in _unquoted(given, ",") if not quoted]
    found = [given[a:b] for a, b in zip([0, *(at + 1 for at in cuts)], [*cuts, len(given)], strict=True)]
    decided = {option.partition("=")[0].lower() for option in options}
    kept = []
    for option in found:
        name = option.partition("=")[0].strip().lower()
        forwarding = name in ("permitopen", "permitlisten")
        ours = name in _OWN or name in _WIDENING or (forwarding and NOWHERE in option)
        if option and not ours and not (name == "from" and "from" in decided):
            kept.append(option)
    return kept
