"""WebSockets: what changes is pushed to whoever looks, and may look."""
