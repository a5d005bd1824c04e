"""nodeadmin's one app: the physical hosts of a libvirt/KVM cluster."""
