"""The VMs' own logs as they grow, all of them read by one small script on the host."""

from __future__ import annotations

import re
import shlex
from typing import Final

from nodes.errors import HostTimeout
from nodes.hosts import qemu_logs
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.journal_filters import JournalFilters
from nodes.hosts.qemu_lines import Line, LineReader
from nodes.hosts.qemu_logs import (
    Places,
    beginnings,
    list_files,
    listing_as_root,
    passed,
    paths,
    search_of_lines,
)
from nodes.hosts.shell import Shell
from nodes.inventory.parsing.numbers import LARGEST, capped

_FOLLOW_BLOCK: Final = 256 << 10
_MAX_HEAD: Final = 4 << 10
"""Bytes of the line before a block: a file's name takes 255."""
_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_MAX_READERS: Final = 256
"""Files whose unfinished last lines are held."""
SUDO_PAUSE_S: Final = 2
_MAX_KNOWN: Final = 2000
"""Files whose places the script is told. Of more, the others begin with what is written from now on."""

# One stat for all files a round, however many there are; nothing more while none of them has changed. A file
# that turns up is read from its beginning, as is one that was truncated; but under the name of a rotated file
# either is a copy of what was read.
_LOOP = r"""
%(allowed)s
%(known)s
last=- others=%(others)s
while :; do
  list=$( %(listing)s )
  if [ "$list" != "$last" ]; then
    last=$list
    while IFS= read -r l; do
      i=${l%%%% *}; l=${l#* }; s=${l%%%% *}; f=${l#* }
      case "$i$s" in ''|*[!0-9]*) continue;; esac
      eval "o=\${o_$i:-new}"
      case "$o$others" in newleft) o=$s;; new) o=copy;; esac
      case "$f" in *.log) [ "$o" = copy ] && o=0;; esac
      if [ "$o" != copy ] && [ "$s" -lt "$o" ]; then
        case "$f" in *.log) o=0;; *) o=copy;; esac
      fi
      if [ "$o" = copy ]; then eval "o_$i=copy"; continue; fi
      while [ "$o" -lt "$s" ]; do
        n=$((s - o)); [ $n -gt %(block)d ] && n=%(block)d
        printf '\036%%s %%s %%s %%s\n' "$i" "$o" "$n" "${f##*/}"
        { %(as_root)stail -c +$((o + 1)) -- "$f" 2>/dev/null | head -c $n; } </dev/null
        o=$((o + n))
      done
      eval "o_$i=$o"
    done <<END
$list
END
    others=
  fi
  sleep %(pause)s
done
"""


def _not_understood() -> HostTimeout:
    return HostTimeout("The VMs' logs came in a form that is not understood.")


def _reading(shell: Shell, vm: str) -> dict[str, str]:
    """The parts of the loop that need root. Through sudo, which writes to the host's journal each time it is
    called, the files are looked at less often."""
    directory, elevation = shlex.quote(qemu_logs.DIRECTORY), shell.elevation
    if elevation.is_root:
        listing = f"stat -c '%i %s %n' -- {paths(vm)} 2>/dev/null"
        allowed = f"[ -d {directory} ] && ! [ -x {directory} ] && exit 77"
        return {"allowed": allowed, "listing": listing, "as_root": "", "pause": "0.3"}
    name = re.sub(r"([][\\.*/^$])", r"\\\1", vm) or "[^ ]*"
    by_sudo = listing_as_root(elevation)
    place = qemu_logs.DIRECTORY.replace("/", r"\/")
    found = rf"^\([0-9]*\) \([0-9]*\) [0-9.]* \({name}\.log\(\.[0-9]\)\{{0,1\}}\)$"
    line = rf"s/{found}/\1 \2 {place}\/\3/p"
    return {
        "allowed": f"{elevation.first}({by_sudo}) >/dev/null || exit 77",
        # Rotated files first, as they are older.
        "listing": f"({by_sudo}) | sed -n {shlex.quote(line)} | LC_ALL=C sort -r -k 3",
        "as_root": elevation.prefix,
        "pause": str(SUDO_PAUSE_S),
    }


class VmLogFollow:
    """The VMs' log files as they grow; the counterpart of JournalFollow. ``read`` from one thread."""

    def __init__(
        self, connection: HostConnection, filters: JournalFilters, places: Places, timeout_s: float
    ) -> None:
        """Begins at ``places``, in other files at the beginning.

        Raises InsufficientRightsOnHost where the user may not read them, HostTimeout, HostUnreachable.
        """
        listed = list_files(connection, filters.vm, Clock(timeout_s))
        files = [file for file in listed if not file.is_compressed]
        begins, self.rotated = beginnings(files, places, newest_first=False)
        begins |= passed(files, filters, newest_first=False)
        script = _LOOP % {
            **_reading(connection.shell, filters.vm),
            "known": "\n".join(f"o_{file.inode}={begins[file.name]}" for file in files[-_MAX_KNOWN:]),
            "others": "left" if len(files) > _MAX_KNOWN else "",
            "block": _FOLLOW_BLOCK,
        }
        self._filters = filters
        self._readers: dict[int, LineReader] = {}
        self._buffer = b""
        self._at = 0
        """How much of it has been read."""
        self.places = {file.name: (file.inode, begins[file.name]) for file in files}
        self._search = search_of_lines(filters)
        try:
            shell = connection.shell
            self._stream = shell.stream(script, typed=shell.elevation.typed)
        except BaseException:
            self._end_search()
            raise

    def read(self, timeout_s: float | None = None) -> list[Line] | None:
        """The next lines, perhaps none yet; None at the end, which comes only when it may not read at all."""
        chunk = self._stream.read(timeout_s=timeout_s)
        if not chunk:
            return None
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        lines: list[Line] = []
        while (frame := self._frame()) is not None:
            inode, offset, name, data = frame
            reader = self._readers.get(inode)
            if reader is None or reader.offset > offset:
                reader = self._readers[inode] = LineReader(name, inode, offset, self._filters, self._search)
            reader.name = name
            lines += reader.feed(data)
            # At the end: a cursor keeps the last ones.
            self.places.pop(name, None)
            self.places[name] = (inode, reader.offset)
            if len(self._readers) > _MAX_READERS:
                # Of the file that was begun first; its next line begins where that of a new file would.
                del self._readers[next(iter(self._readers))]
            if len(self.places) > _MAX_KNOWN:
                del self.places[next(iter(self.places))]
        return lines

    def _frame(self) -> tuple[int, int, str, bytes] | None:
        end = self._buffer.find(b"\n", self._at, self._at + _MAX_HEAD)
        if end < 0:
            if len(self._buffer) - self._at >= _MAX_HEAD:
                raise _not_understood()
            return None
        head = self._buffer[self._at : end]
        parts = head.decode("utf-8", errors="replace").removeprefix("\x1e").split(" ", 3)
        if len(parts) != 4 or not all(_NUMBER.fullmatch(part) for part in parts[:3]):
            raise _not_understood()
        inode, offset, length = (capped(part) for part in parts[:3])
        # Nothing that the host says may make it be held.
        if max(inode, offset) >= LARGEST or length > _FOLLOW_BLOCK:
            raise _not_understood()
        begin = end + 1
        if len(self._buffer) < begin + length:
            return None
        data = self._buffer[begin : begin + length]
        self._at = begin + length
        return inode, offset, parts[3], data

    def _end_search(self) -> None:
        if self._search is not None:
            self._search.close()

    def close(self) -> None:
        self._end_search()
        self._stream.close()
