"""libvirt on a host."""
