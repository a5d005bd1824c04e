"""What ethtool 6.1 prints for cards of several drivers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodes.inventory.ethtool import Ethtool, read_ethtool

E1000E = """Settings for enp0s2:
\tSupported ports: [ TP ]
\tSupported link modes:   10baseT/Half 10baseT/Full
\t                        100baseT/Half 100baseT/Full
\t                        1000baseT/Full
\tSupported pause frame use: No
\tSupports auto-negotiation: Yes
\tSupported FEC modes: Not reported
\tAdvertised link modes:  10baseT/Half 10baseT/Full
\t                        100baseT/Half 100baseT/Full
\t                        1000baseT/Full
\tAdvertised auto-negotiation: Yes
\tSpeed: 1000Mb/s
\tDuplex: Full
\tAuto-negotiation: on
\tPort: Twisted Pair
\tPHYAD: 1
\tTransceiver: internal
\tMDI-X: off (auto)
\tSupports Wake-on: d
\tWake-on: d
        Current message level: 0x00000007 (7)
                               drv probe link
\tLink detected: yes
driver: e1000e
version: 6.1.0-28-amd64
firmware-version: 1.8-0
expansion-rom-version:
bus-info: 0000:00:02.0
supports-statistics: yes
Permanent address: 52:54:00:12:34:56
"""

VIRTIO = """Settings for eth0:
\tSupported ports: [  ]
\tSupported link modes:   Not reported
\tSupported pause frame use: No
\tSupports auto-negotiation: No
\tAdvertised link modes:  Not reported
\tSpeed: Unknown!
\tDuplex: Unknown! (255)
\tAuto-negotiation: off
\tPort: Other
\tPHYAD: 0
\tTransceiver: internal
\tLink detected: yes
driver: virtio_net
version: 1.0.0
firmware-version:
bus-info: 0000:00:03.0
Permanent address: 00:00:00:00:00:00
"""


def test_a_card_tells_its_firmware_its_negotiation_and_what_it_could_do() -> None:
    assert read_ethtool(E1000E) == Ethtool(
        driver="e1000e",
        firmware="1.8-0",
        permanent_mac="52:54:00:12:34:56",
        autoneg=True,
        speed_mbps=1000,
        duplex="full",
        port="Twisted Pair",
        supported_max_speed_mbps=1000,
        wake_on="d",
    )


def test_what_a_virtual_card_does_not_know_is_none() -> None:
    assert read_ethtool(VIRTIO) == Ethtool(driver="virtio_net", autoneg=False)


def test_modes_advertised_or_of_the_partner_are_not_what_it_supports() -> None:
    text = E1000E.replace("1000baseT/Full\n\tSupported pause", "100baseT/Full\n\tSupported pause", 1)
    assert read_ethtool(text).supported_max_speed_mbps == 100


@given(st.text(), st.integers(0, len(E1000E)), st.integers(0, len(E1000E)))
def test_nothing_breaks_the_reader(junk: str, start: int, end: int) -> None:
    found = read_ethtool(E1000E[:start] + junk + E1000E[end:])
    assert found.speed_mbps is None or found.speed_mbps > 0
