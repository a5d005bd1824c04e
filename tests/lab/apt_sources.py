"""Where this machine gets its Debian packages from, so that the image comes from there too."""

import subprocess

from tests.lab.recipe import SUITE

_DEADLINE_S = 60
_KINDS = ("", "-updates", "-security")
_SETTINGS = ("Acquire::Check-", "Acquire::http::", "Acquire::https::", "Acquire::Retries")


def mirror_lines(suite: str = SUITE) -> list[str]:
    """One-line sources for ``suite``, or none where this machine is another release or distribution: those
    that it has for its own, whose archives hold the other suites as well.

    With none, mmdebstrap takes Debian's own mirror. Asked of apt itself, which knows all formats of its
    sources (apt-get(8), indextargets).
    """
    listing = _output(
        "apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"
    )
    lines = []
    for line in listing.splitlines():
        release, component, uri = line.split(maxsplit=2)
        kind = release.removeprefix(SUITE)
        if release.startswith(SUITE) and kind in _KINDS and component == "main":
            lines.append(f"deb {uri} {suite}{kind} {component}")
    return sorted(set(lines)) if any(f" {suite} " in line for line in lines) else []


def transport_settings() -> list[str]:
    """This machine's proxy, retry and validity settings of apt, as lines of apt.conf(5)."""
    return [
        line
        for line in _output("apt-config", "dump", "Acquire").splitlines()
        if line.startswith(_SETTINGS) and not line.endswith(' "";')
    ]


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_DEADLINE_S).stdout
