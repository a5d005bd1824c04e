"""Servers that misbehave, each in the ways that servers of its kind were seen to."""
