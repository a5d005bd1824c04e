"""The fleet monitor: one stream a node, and what it tells about the node."""
