# Starts libvirt where nothing else does, and lets this user speak to it. Sourced after lib.sh.
# shellcheck shell=bash

LIBVIRT_START_S=20
LIBVIRT_CONFIG=/run/nodeadmin/libvirtd.conf

# "Permission denied" is an answer too: somebody listens.
libvirt_answers() {
    local answer
    answer="$(LC_ALL=C timeout 10 virsh -q -c qemu:///system uri 2>&1 </dev/null)" || [[ "$answer" == *"ermission denied"* || "$answer" == *"uthentication"* ]]
}

# libvirt's socket belongs to the group libvirt. Its members can do to virtual machines what root can, which is
# why this is said and not just done.
join_libvirt_group() {
    ((EUID != 0)) && getent group libvirt >/dev/null || return 0
    [[ " $(id -nG "$(id -un)") " == *" libvirt "* ]] && return
    say "Adding $(id -un) to the group libvirt, which may use libvirt's socket (and so manage all VMs of this host)."
    require_root_for "do so" "usermod -aG libvirt $(id -un)"
    as_root usermod -aG libvirt "$(id -un)"
}

# True where the user is a member, but this session began before that.
needs_libvirt_group() {
    ((EUID != 0)) && [[ " $(id -nG "$(id -un)") " == *" libvirt "* && " $(id -nG) " != *" libvirt "* ]]
}

# start_libvirt DIR: where systemd runs, it starts libvirt; elsewhere the two daemons are started here, once, and
# their process ids kept in DIR. They outlive the server, as the virtual machines do.
start_libvirt() {
    local pids="$1" deadline=$((SECONDS + LIBVIRT_START_S))
    libvirt_answers && return
    if [[ -d /run/systemd/system ]]; then
        say "Starting libvirt, now and at every boot."
        require_root_for "start libvirt" "systemctl enable --now virtlogd.socket libvirtd.socket"
        as_root systemctl enable --now virtlogd.socket libvirtd.socket
    else
        say "Starting libvirt (virtlogd and libvirtd), as no init system here does."
        require_root_for "start libvirt" "virtlogd -d && libvirtd -d"
        write_libvirt_config
        start_daemon virtlogd "$pids/virtlogd.pid"
        start_daemon libvirtd "$pids/libvirtd.pid" --config "$LIBVIRT_CONFIG"
    fi
    until libvirt_answers; do
        if ((SECONDS >= deadline)); then
            # Other hosts can be managed without it, and the pages say what is wrong with this one.
            note "libvirt did not answer within $LIBVIRT_START_S s; going on without it."
            return
        fi
        sleep 0.2
    done
}

# By default libvirtd asks polkit who may use its socket, over the system bus. Without an init system there is
# often no bus, and then everybody but root is refused: the rights of the socket file decide instead, and give the
# group libvirt what Debian's rule for polkit gives it. What the administrator has set stands first and holds.
write_libvirt_config() {
    local config
    config="$(grep -vE '^[[:space:]]*(#|$)' /etc/libvirt/libvirtd.conf 2>/dev/null || true)"
    if [[ ! -S /run/dbus/system_bus_socket && "$config" != *auth_unix_rw* ]]; then
        config+='
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
auth_unix_ro = "none"
auth_unix_rw = "none"'
    fi
    as_root mkdir -p "$(dirname "$LIBVIRT_CONFIG")"
    printf '# Written at each start by nodeadmin, from /etc/libvirt/libvirtd.conf.\n%s\n' "$config" |
        as_root tee "$LIBVIRT_CONFIG" >/dev/null
}

# A daemon that is already there keeps its lock, and the second one ends by itself; that is no failure.
start_daemon() {
    local daemon="$1" pid_file="$2"
    shift 2
    as_root "/usr/sbin/$daemon" --daemon --pid-file "$pid_file" "$@" </dev/null >&2 ||
        note "$daemon did not start; perhaps it runs already."
}
