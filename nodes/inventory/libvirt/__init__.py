"""What libvirt says of its host, and how it is set up there."""
