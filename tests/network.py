"""Network rules for tests, whose hosts are all on loopback."""

from nodes.hosts.network_rules import NetworkRules

ANYWHERE = NetworkRules()
"""What holds where no setting says otherwise."""
