"""A host's logs: the systemd journal and the files of its VMs."""
