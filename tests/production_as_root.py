"""The production settings for a check that has to run as root: all that it warns of but that."""

from nodeadmin.settings.production import *  # noqa: F403

SILENCED_SYSTEM_CHECKS = ["nodeadmin.W002"]
