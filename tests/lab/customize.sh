#!/bin/sh
# Runs inside the new host image once all packages are there.
set -eu

# An address, identity or key that two hosts share would make them one host to everybody who looks.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/ssh/ssh_host_* /etc/hostname /etc/resolv.conf
rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/motd

for user in ops limited virt pw; do useradd --create-home --shell /bin/bash "$user"; done
usermod --append --groups libvirt virt
usermod --append --groups sudo,libvirt pw
usermod --password '*' root

chmod 440 /etc/sudoers.d/lab
chmod 755 /usr/local/sbin/lab-hardware
mkdir -p /etc/libvirt/storage/autostart /var/log/journal
ln -sf ../lab.xml /etc/libvirt/storage/autostart/lab.xml
printf 'LANG=C.UTF-8\n' >/etc/default/locale

systemctl enable --quiet systemd-networkd.service lab-hardware.service

# A login session of systemd's for every SSH connection doubles the processor time that a login takes.
pam-auth-update --package --remove systemd

# Work that a host would do unasked while a test measures something else, and waits that nothing here needs.
systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer man-db.timer logrotate.timer systemd-networkd-wait-online.service \
    systemd-timesyncd.service systemd-pstore.service nvmf-autoconnect.service libvirt-guests.service getty@tty1.service \
    serial-getty@ttyS0.service systemd-network-generator.service
