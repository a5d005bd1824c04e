"""Bonds: several network cards as one.

Sources: Documentation/networking/bonding.rst, its files ``bonding/`` and ``bonding_slave/`` in sysfs, the
text of /proc/net/bonding (which alone tells each slave's LACP partner, to root), and ``ip -d``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.inventory.interface import (
    Interface,
    first_known,
    master_of,
    read_duplex,
    read_speed,
    shared_facts,
)
from nodes.inventory.jsontext import subtree, whole, words
from nodes.inventory.links import Link, Links, read_mac
from nodes.inventory.parsing.numbers import integer

_MODES = (
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
)
_MODES_IN_PROC = {
    "load balancing (round-robin)": "balance-rr",
    "fault-tolerance (active-backup)": "active-backup",
    "load balancing (xor)": "balance-xor",
    "fault-tolerance (broadcast)": "broadcast",
    "ieee 802.3ad dynamic link aggregation": "802.3ad",
    "transmit load balancing": "balance-tlb",
    "adaptive load balancing": "balance-alb",
}


@dataclass(frozen=True, slots=True)
class BondSlave:
    """One card of a bond.

    ``state`` is ``active`` or ``backup``, ``mii_status`` ``up``, ``going down``, ``down`` or ``going
    back``; ``failure_count`` how often its link was lost. ``active`` marks the one that carries the traffic
    of an active-backup bond. ``permanent_mac`` is its own, which the bond's hides. ``partner_mac`` is the
    switch's LACP system; an ``aggregator_id`` other than the bond's means that it takes no part.
    """

    name: str
    state: str | None
    active: bool | None
    mii_status: str | None
    failure_count: int | None
    permanent_mac: str | None
    speed_mbps: int | None
    duplex: str | None
    aggregator_id: int | None
    partner_mac: str | None


@dataclass(frozen=True, slots=True)
class Lacp:
    """The active aggregator of an 802.3ad bond. ``partner_mac`` None: no partner answers, or only root may
    know.
    """

    rate: str | None
    selection: str | None
    aggregator_id: int | None
    ports: int | None
    actor_key: int | None
    partner_key: int | None
    partner_mac: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bond(Interface):
    """A bond. ``mode`` by its name (``active-backup``, ``802.3ad`` …); ``hash_policy`` what spreads traffic
    in the modes that do; intervals and delays in milliseconds, an interval of 0 means that this way of
    watching is off. ``degraded``: a slave is not up though the bond is; None where that is not known."""

    mode: str | None
    active_slave: str | None
    primary: str | None
    primary_reselect: str | None
    fail_over_mac: str | None
    hash_policy: str | None
    mii_status: str | None
    miimon_ms: int | None
    up_delay_ms: int | None
    down_delay_ms: int | None
    arp_interval_ms: int | None
    arp_targets: tuple[str, ...]
    min_links: int | None
    speed_mbps: int | None
    duplex: str | None
    degraded: bool | None
    lacp: Lacp | None
    slaves: tuple[BondSlave, ...]


def read_bond(link: Link, links: Links) -> Bond:
    """The bond ``link``."""
    proc = read_proc_bond(links.files.lines(f"/proc/net/bonding/{link.name}"))
    data, mode = link.data, _mode(link, proc)
    mii = _choice(link, "mii_status", None) or _lower(proc.values.get("mii status"))
    active = _given(link.text("bonding/active_slave") or words(data, "active_slave"))
    active = active or _given(proc.values.get("currently active slave"))
    primary = _given(link.text("bonding/primary") or words(data, "primary"))
    slaves = _slaves(link, links, proc, active if mode == "active-backup" else None)
    targets = (
        link.text("bonding/arp_ip_target") or proc.values.get("arp ip target/s (n.n.n.n form)") or ""
    ).replace(",", " ")
    states = [slave.mii_status for slave in slaves]
    return Bond(
        **shared_facts(link, links),
        mode=mode,
        active_slave=active,
        primary=primary or _given((proc.values.get("primary slave") or "").partition(" ")[0]),
        primary_reselect=_choice(link, "primary_reselect", words(data, "primary_reselect")),
        fail_over_mac=_choice(link, "fail_over_mac", words(data, "fail_over_mac")),
        hash_policy=_choice(link, "xmit_hash_policy", words(data, "xmit_hash_policy"))
        or _first_word(proc.values.get("transmit hash policy")),
        mii_status=mii,
        miimon_ms=_amount(link, "miimon", proc, "mii polling interval (ms)"),
        up_delay_ms=_amount(link, "updelay", proc, "up delay (ms)"),
        down_delay_ms=_amount(link, "downdelay", proc, "down delay (ms)"),
        arp_interval_ms=_amount(link, "arp_interval", proc, "arp polling interval (ms)"),
        arp_targets=tuple(targets.split()),
        min_links=_amount(link, "min_links", proc, "min links"),
        speed_mbps=read_speed(link.text("speed")),
        duplex=read_duplex(link.text("duplex")),
        degraded=any(state != "up" for state in states) if states and None not in states else None,
        lacp=_lacp(link, proc) if mode == "802.3ad" else None,
        slaves=slaves,
    )


@dataclass(frozen=True, slots=True)
class ProcBond:
    """/proc/net/bonding taken apart: the bond's values by their names in small letters, and each slave's."""

    values: Mapping[str, str] = field(default_factory=dict)
    slaves: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_proc_bond(lines: list[str]) -> ProcBond:
    """Take /proc/net/bonding apart. Names that occur twice keep the first; what stands below ``details
    partner`` is named ``partner …``."""
    bond: dict[str, str] = {}
    slaves: dict[str, dict[str, str]] = {}
    values, prefix = bond, ""
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.strip().lower()
        if key == "slave interface" and value.strip():
            values, prefix = slaves.setdefault(value.strip(), {}), ""
        elif key.startswith("details "):
            prefix = key.split()[1] + " "
        elif colon:
            values.setdefault(prefix + key, value.strip())
    return ProcBond(bond, slaves)


def _mode(link: Link, proc: ProcBond) -> str | None:
    told = _choice(link, "mode", words(link.data, "mode"))
    if told in _MODES:
        return told
    return _MODES_IN_PROC.get(
        proc.values.get("bonding mode", "").lower().partition(" (fail_over_mac")[0].strip()
    )


def _slaves(link: Link, links: Links, proc: ProcBond, active: str | None) -> tuple[BondSlave, ...]:
    named = (link.text("bonding/slaves") or "").split() or list(proc.slaves)
    named = named or [other.name for other in links.by_name.values() if master_of(other) == link.name]
    return tuple(
        _slave(links.by_name.get(name, Link(name)), proc.slaves.get(name, {}), active) for name in named
    )


def _slave(link: Link, proc: Mapping[str, str], active: str | None) -> BondSlave:
    data = link.port_data
    state = _lower(link.text("bonding_slave/state") or words(data, "state"))
    if state is None and active is not None:
        state = "active" if link.name == active else "backup"
    mii = link.text("bonding_slave/mii_status") or words(data, "mii_status") or proc.get("mii status")
    partner = read_mac(proc.get("partner system mac address"))
    permanent = link.text("bonding_slave/perm_hwaddr") or words(data, "perm_hwaddr")
    return BondSlave(
        name=link.name,
        state=state,
        active=link.name == active if active is not None else None,
        mii_status=_lower(mii),
        failure_count=first_known(
            link.number("bonding_slave/link_failure_count"),
            whole(data, "link_failure_count"),
            integer(proc.get("link failure count")),
        ),
        permanent_mac=read_mac(permanent or proc.get("permanent hw addr")),
        speed_mbps=read_speed(link.text("speed") or (proc.get("speed") or "").removesuffix(" Mbps")),
        duplex=read_duplex(link.text("duplex") or proc.get("duplex")),
        aggregator_id=first_known(
            link.number("bonding_slave/ad_aggregator_id"),
            whole(data, "ad_aggregator_id"),
            integer(proc.get("aggregator id")),
        ),
        partner_mac=partner,
    )


def _lacp(link: Link, proc: ProcBond) -> Lacp:
    info, values = subtree(link.data, "ad_info"), proc.values
    partner = link.text("bonding/ad_partner_mac") or words(info, "partner_mac")
    return Lacp(
        rate=_choice(link, "lacp_rate", words(link.data, "ad_lacp_rate")) or _lower(values.get("lacp rate")),
        selection=_choice(link, "ad_select", words(link.data, "ad_select"))
        or _lower(values.get("aggregator selection policy (ad_select)")),
        aggregator_id=first_known(
            link.number("bonding/ad_aggregator"),
            whole(info, "aggregator"),
            integer(values.get("aggregator id")),
        ),
        ports=first_known(
            link.number("bonding/ad_num_ports"),
            whole(info, "num_ports"),
            integer(values.get("number of ports")),
        ),
        actor_key=first_known(
            link.number("bonding/ad_actor_key"), whole(info, "actor_key"), integer(values.get("actor key"))
        ),
        partner_key=first_known(
            link.number("bonding/ad_partner_key"),
            whole(info, "partner_key"),
            integer(values.get("partner key")),
        ),
        partner_mac=read_mac(partner or values.get("partner mac address")),
    )


def _choice(link: Link, name: str, told: str | None) -> str | None:
    """An option's name: sysfs writes ``active-backup 1``."""
    return _lower(_first_word(link.text(f"bonding/{name}")) or told)


def _amount(link: Link, name: str, proc: ProcBond, in_proc: str) -> int | None:
    found: int | None = first_known(
        link.number(f"bonding/{name}"), whole(link.data, name), integer(proc.values.get(in_proc))
    )
    return found


def _given(name: str | None) -> str | None:
    return None if name in (None, "", "None", "none") else name


def _first_word(text: str | None) -> str | None:
    return (text or "").strip().partition(" ")[0] or None


def _lower(text: str | None) -> str | None:
    return text.lower() if text else None
