"""What changes a host or the cluster: one file an operation. The engine runs them; nothing here knows it."""
