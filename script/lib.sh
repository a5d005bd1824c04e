# Shared by the commands in this folder, which source it: what is missing on this machine is named, explained and
# then installed. Needs bash, coreutils, util-linux and dpkg, which every Debian and Ubuntu has.
# shellcheck shell=bash

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
CACHE="${NODEADMIN_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/nodeadmin}"
APT_LOCK_WAIT_S=600
VENV_LOCK_WAIT_S=1800
POLICY=/usr/sbin/policy-rc.d

if [[ -t 2 && -z "${NO_COLOR:-}" ]]; then BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' RED='' PLAIN=''; fi

# Standard output belongs to what a command is asked for; what it does on the way goes to standard error.
say() { printf '%s==>%s %s\n' "$BOLD" "$PLAIN" "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
fail() {
    printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2
    shift
    (($# == 0)) || printf '    %s\n' "$@" >&2
    exit 1
}

# --- rights ---------------------------------------------------------------------------------------------------

# Runs a command as root: directly, or through sudo, which asks for the password where there is a terminal.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif [[ -t 0 ]]; then
        sudo -- "$@"
    else
        sudo -n -- "$@"
    fi
}

# Ends with a message where as_root could not work, before anything has been changed.
require_root_for() {
    ((EUID == 0)) && return
    command -v sudo >/dev/null || fail "this needs root rights to $1, and there is no sudo here." \
        "Run this command as root, or have an administrator run:" "$2"
    [[ -t 0 ]] || sudo -n true 2>/dev/null || fail "this needs root rights to $1; sudo wants a password, and there is no terminal." \
        "Run it in a terminal, or have an administrator run:" "$2"
}

# --- system packages ------------------------------------------------------------------------------------------

# Prints those of the named packages that are not installed. One dpkg-query for all: some 20 ms.
missing_packages() {
    local installed package
    installed=" $(dpkg-query -W -f '${binary:Package} ${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
        awk '$NF == "installed" { print $1, $2 }' | tr '\n' ' ' || true)"
    for package in "$@"; do
        [[ "$installed" == *" $package "* ]] || printf '%s\n' "$package"
    done
}

# ensure_packages TABLE: installs what is missing of a table of "package<blanks>what it is for" lines.
ensure_packages() {
    local -A purpose=()
    local -a missing
    local package why
    while read -r package why; do
        [[ -z "$package" ]] || purpose[$package]="$why"
    done <<<"$1"
    mapfile -t missing < <(missing_packages "${!purpose[@]}" | sort)
    ((${#missing[@]} > 0)) || return 0

    command -v apt-get >/dev/null || fail "these packages are missing, and there is no apt-get here to install them:" \
        "${missing[*]}" "Supported are Debian 12 and Ubuntu 24.04."
    say "These system packages are missing and will be installed with apt:"
    for package in "${missing[@]}"; do printf '    %-26s %s\n' "$package" "${purpose[$package]}" >&2; done
    require_root_for "install them" "apt-get install --no-install-recommends ${missing[*]}"
    if [[ -n "${NO_DAEMONS:-}" ]]; then without_daemons apt_install "${missing[@]}"; else apt_install "${missing[@]}"; fi
}

# Packages that bring a daemon start it when they are installed, unless a file of Debian's says no. One that this
# machine has already is left alone; ours says whose it is, so that a killed set-up does not leave it for ever.
without_daemons() (
    mark="# Left by nodeadmin's set-up; may be removed."
    if [[ ! -e "$POLICY" ]] || grep -qxF "$mark" "$POLICY"; then
        trap 'as_root rm -f "$POLICY"' EXIT
        printf '#!/bin/sh\n%s\nexit 101\n' "$mark" | as_root tee "$POLICY" >/dev/null
        as_root chmod 0755 "$POLICY"
    fi
    "$@"
)

apt_install() {
    local -a apt=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -qq
        -o "DPkg::Lock::Timeout=$APT_LOCK_WAIT_S" -o Acquire::Retries=3 -o Dpkg::Use-Pty=0)
    local log started=$SECONDS
    log="$(mktemp)"
    # An installation that was killed leaves packages unpacked but not configured; apt refuses to go on until
    # this has been done. Where all is well it does nothing.
    as_root env DEBIAN_FRONTEND=noninteractive dpkg --configure -a >"$log" 2>&1 || true
    apt_update "${apt[@]}" >>"$log" 2>&1 || note "the package lists could not be refreshed; trying with those that are here"
    if ! as_root "${apt[@]}" install -y --no-install-recommends --fix-broken "$@" </dev/null >>"$log" 2>&1; then
        tail -n 25 "$log" >&2
        fail "apt could not install the packages." "The whole log is in $log. This command can simply be run again."
    fi
    rm -f "$log"
    say "Installed ${#} packages with what they need, in $((SECONDS - started)) s."
}

# `apt-get update` waits for no lock by itself, and another one running (a timer at boot) is common.
apt_update() {
    local deadline=$((SECONDS + APT_LOCK_WAIT_S))
    local errors
    while ! errors="$(as_root "$@" update 2>&1 </dev/null)"; do
        printf '%s\n' "$errors"
        [[ "$errors" == *"Could not get lock"* ]] && ((SECONDS < deadline)) || return 1
        sleep 2
    done
}

# --- the virtual environment ----------------------------------------------------------------------------------

# The distribution's own interpreter: another one in PATH may lack the headers that libvirt-python is built with.
system_python() {
    local python=/usr/bin/python3
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null ||
        fail "$python is $("$python" --version 2>&1); nodeadmin needs Python 3.11 to 3.13." \
            "Debian 12 and Ubuntu 24.04 have it."
    printf '%s\n' "$python"
}

# One line that changes when an environment made for this set of requirements would no longer do: its pins, the
# Python it was made with, and the libvirt that libvirt-python was compiled against.
venv_key() {
    local set="$1" platform
    platform="$(readlink -f /usr/bin/python3) $(uname -m) $(pkg-config --modversion libvirt 2>/dev/null || true)"
    printf '%s %s\n' "$set" "$({ cat "$ROOT/requirements/build.txt" "$ROOT/requirements/$set.txt"; printf '%s' "$platform"; } |
        sha256sum | cut -c1-16)"
}

# ensure_venv SET [SET…]: makes .venv hold the first set. The sets after it are those it includes, so that a server
# started in a developer's checkout takes the developer's environment as it is.
#
# Environments live in the cache, one a set of pins, and .venv is a link to the right one: a fresh clone finds it
# ready. The file `ready` is written last, so that one that was interrupted is thrown away and made anew.
ensure_venv() {
    local set="$1" key venv
    key="$(venv_key "$set")"
    if grep -qxF "$key" "$ROOT/.venv/ready" 2>/dev/null && [[ -x "$ROOT/.venv/bin/python" ]]; then
        serve_for_included "$@"
        return
    fi

    venv="$CACHE/venv/${key/ /-}"
    mkdir -p "$CACHE/venv"
    (
        flock -w "$VENV_LOCK_WAIT_S" 9 || fail "another set-up has held $CACHE/venv/lock for $VENV_LOCK_WAIT_S s."
        [[ -e "$venv/ready" && -x "$venv/bin/python" ]] || make_venv "$venv" "$@"
    ) 9>>"$CACHE/venv/lock"
    link_venv "$venv"
}

# The pins of an included set can change while those of the including one stay as they are.
serve_for_included() {
    local included key
    shift
    for included in "$@"; do
        key="$(venv_key "$included")"
        grep -qxF "$key" "$ROOT/.venv/ready" || printf '%s\n' "$key" >>"$ROOT/.venv/ready"
    done
}

make_venv() {
    local venv="$1" set="$2" python log started=$SECONDS included
    shift 2
    python="$(system_python)"
    log="$CACHE/venv/$set.log"
    say "Making a virtual environment in $venv with the pinned packages of requirements/$set.txt (a few minutes at most)."
    rm -rf "$venv"
    {
        "$python" -m venv "$venv" &&
            "$venv/bin/python" -m pip install --disable-pip-version-check --require-hashes -r "$ROOT/requirements/build.txt" &&
            "$venv/bin/python" -m pip install --disable-pip-version-check --require-hashes --no-build-isolation \
                -r "$ROOT/requirements/$set.txt"
    } >"$log" 2>&1 </dev/null 9>&- || {
        tail -n 25 "$log" >&2
        fail "the virtual environment could not be made." "The whole log is in $log. This command can simply be run again."
    }
    for included in "$set" "$@"; do venv_key "$included"; done >"$venv/ready.new"
    mv "$venv/ready.new" "$venv/ready"
    say "Made it in $((SECONDS - started)) s."
}

# A link cannot be overwritten in place; a rename can, and nobody ever sees it missing.
link_venv() {
    local link="$ROOT/.venv"
    [[ ! -d "$link" || -L "$link" ]] || fail "$link is a directory that this command did not make." "Move it away and run this again."
    [[ "$(readlink "$link" 2>/dev/null)" != "$1" ]] || return 0
    ln -sfn "$1" "$link.$$"
    mv -T "$link.$$" "$link"
}

# --- what tests and benchmarks share --------------------------------------------------------------------------

# The identity provider that tests sign in at: npm's packages for one lock file, in the cache like everything that is
# made once a machine. npm checks their integrity, and no script of theirs is run.
ensure_identity_provider() {
    local source="$ROOT/tests/identity_provider" folder="$CACHE/identity-provider" key
    key="$(sha256sum "$source/package-lock.json" | cut -c1-16)"
    [[ ! -e "$folder/$key/ready" ]] || return 0
    mkdir -p "$folder"
    (
        flock -w "$VENV_LOCK_WAIT_S" 9 || fail "another set-up has held $folder/lock for $VENV_LOCK_WAIT_S s."
        [[ ! -e "$folder/$key/ready" ]] || exit 0
        say "Installing the identity provider of the tests (under a minute)."
        rm -rf "${folder:?}/$key"
        mkdir "$folder/$key"
        cp "$source/package.json" "$source/package-lock.json" "$folder/$key/"
        cd "$folder/$key"
        npm ci --ignore-scripts --no-audit --no-fund >"$folder/npm.log" 2>&1 </dev/null 9>&- || {
            tail -n 25 "$folder/npm.log" >&2
            fail "the identity provider could not be installed." "The whole log is in $folder/npm.log."
        }
        touch ready
    ) 9>>"$folder/lock"
}

set_up_for_tests() {
    # The daemons among these packages listen on every address of the machine: the tests start their own, on
    # loopback.
    NO_DAEMONS=1 ensure_packages "$TEST_PACKAGES"
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then ensure_packages "$NODE_PACKAGES"; fi
    ensure_venv dev base scale
    ensure_identity_provider
    join_libvirt_group
    mkdir -p "$CACHE/run"
    start_libvirt "$CACHE/run"
}

# shellcheck source=script/packages.sh
. "$ROOT/script/packages.sh"
# shellcheck source=script/libvirt.sh
. "$ROOT/script/libvirt.sh"
