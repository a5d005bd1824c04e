"""Real Debian hosts in QEMU, with a kernel, systemd, sshd and libvirtd of their own; see README.md beside
this file.
"""
