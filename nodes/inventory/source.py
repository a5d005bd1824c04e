"""A source: one thing to run or read on a host, as data. The probe script is made from these."""

from __future__ import annotations

from dataclasses import dataclass

from nodes.inventory.forms import Form


@dataclass(frozen=True, slots=True)
class Source:
    """A shell source.

    ``command`` is POSIX sh, written by us and never built from user input. It runs under ``timeout_s``
    seconds, by default enough for a host that is short of processor time, which is when it is looked at;
    sources of one deadline share a process. What it prints beyond ``max_bytes`` is cut. ``needs`` names
    the tool that has to be on the host ("" for a plain read of files). ``needs_root`` runs it through
    ``sudo -n`` where the user is not root.
    ``ok_statuses`` are exit statuses that are no failure (None: every status is information, as smartctl's).
    """

    name: str
    command: str
    timeout_s: int = 15
    needs: str = ""
    needs_root: bool = False
    max_bytes: int = 1 << 20
    ok_statuses: tuple[int, ...] | None = (0,)
    items: str = ""
    """For a source of many items: a command that prints one item a line; ``command`` then runs once an
    item, side by side, with the item in ``$1``, and its outputs are named ``name:item``."""
    form: Form | None = None
    """What ``command`` prints (of many items, what the list of them looks like)."""
    item_form: Form | None = None


@dataclass(frozen=True, slots=True)
class LibvirtSource:
    """What only libvirt knows, by the name under which ``hosts`` collects it (raw XML, or JSON of calls).

    Names: ``libvirt:capabilities``, ``libvirt:domain-capabilities``, ``libvirt:versions`` (JSON),
    ``libvirt:sysinfo``, ``libvirt:domains``, ``libvirt:pools``, ``libvirt:networks``,
    ``libvirt:nodedevs`` .
    """

    name: str
    form: Form | None = None
