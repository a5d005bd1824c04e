# The system packages, each with what it is for. Sourced after lib.sh.
# shellcheck shell=bash disable=SC2034

case "$(uname -m)" in
    x86_64) QEMU_PACKAGE=qemu-system-x86 ;;
    aarch64 | armv7l) QEMU_PACKAGE=qemu-system-arm ;;
    ppc64le) QEMU_PACKAGE=qemu-system-ppc ;;
    s390x) QEMU_PACKAGE=qemu-system-s390x ;;
    *) QEMU_PACKAGE=qemu-system ;;
esac

# What building the virtual environment needs.
BUILD_PACKAGES="
    python3                 the language nodeadmin is written in
    python3-venv            a virtual environment, so that nothing else on this machine changes
    python3-dev             Python's headers, to compile libvirt-python
    gcc                     to compile libvirt-python
    libc6-dev               to compile libvirt-python
    pkgconf                 to find libvirt's headers
    libvirt-dev             libvirt's headers: libvirt-python has to fit the libvirt of this machine
    ca-certificates         to download the Python packages over TLS
"

# What a server needs to manage the machine it runs on, and to reach others.
SERVER_PACKAGES="$BUILD_PACKAGES
    libvirt-daemon-system   libvirt, which runs the virtual machines of this host
    libvirt-clients         virsh, to see whether libvirt answers
    $QEMU_PACKAGE           the hypervisor libvirt drives
    qemu-utils              disk images of virtual machines
    hwdata                  the names of PCI and USB devices
    iproute2                network interfaces, bonds and bridges of this host
    ethtool                 speeds and drivers of its network cards
    pciutils                its PCI devices
    usbutils                its USB devices
    smartmontools           the health of its disks
    openssh-client          keys for other hosts
    procps                  the processes of this host
    tzdata                  time zones, to show times in that of the reader
"

# What trying the scaled-out set-up on one machine needs on top.
SCALE_PACKAGES="$SERVER_PACKAGES
    postgresql              the database of several processes: a cluster of nodeadmin's own, on a Unix socket
    redis-server            messages between them: a server of nodeadmin's own, on a Unix socket
"

# What the lab needs: real hosts in QEMU (tests/lab).
LAB_PACKAGES="
    qemu-system-x86         runs the hosts of the lab
    qemu-utils              makes their disks
    vde2                    the switch that joins them
    mmdebstrap              builds the image they start from
    debian-archive-keyring  the keys that its packages are checked with
    e2fsprogs               writes it to a disk
    binutils                assembles the system of the smallest VM
    openssh-client          logs in to the hosts of the lab
    python3                 drives all of this
"

# What the tests need on top: a browser, and hosts to test on.
TEST_PACKAGES="$SCALE_PACKAGES$LAB_PACKAGES
    chromium                the browser that the page tests drive
    fonts-dejavu-core       letters for its screenshots
    fonts-noto-cjk          Chinese letters for its screenshots
    openssh-server          sshd: the remote hosts of the tests, on loopback
    systemd-journal-remote  journals for the tests to read
    rsyslog                 a syslog server that the audit log is exported to
    rsyslog-gnutls          its TLS
    busybox                 a shell and tools as on the smallest hosts
    zsh                     a login shell of hosts' users
    fish                    another one
    tcsh                    another one
    ksh                     another one
    lvm2                    logical volumes among the test disks
    nvme-cli                NVMe disks among the test disks
    git                     tests that look at the tree
    gettext                 translations
    sudo                    tests of hosts whose user is not root
"

# A machine may have them from elsewhere, as one package that the distribution's npm does not go with: asked for by
# their commands (lib.sh).
# shellcheck disable=SC2034
NODE_PACKAGES='
    nodejs                  the identity provider that tests sign in at
    npm                     its packages
'
