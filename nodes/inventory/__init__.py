"""The pure layer: text from a host in, typed facts out. Standard library and lxml only."""
