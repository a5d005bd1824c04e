"""How to reach a host. No Django in here; every error of paramiko and libvirt leaves as one of ours."""
