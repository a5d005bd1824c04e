"""When a large share of the fleet vanishes at once, the fault is more likely ours than a thousand hosts'."""

from __future__ import annotations

from dataclasses import dataclass

FEWEST = 3
"""Of fewer nodes than this, all may well be down."""


@dataclass(slots=True)
class CutOff:
    """Judges by shares of the watched nodes; ``share`` is the fraction that has to be missing at once."""

    share: float = 0.5
    is_cut_off: bool = False

    def judge(self, watched: int, missing: int) -> bool | None:
        """Told how many nodes that had contact are in doubt or lately lost; whether it has begun or ended.

        True as it begins, False as it ends, None where nothing has changed. It ends at half of the share at
        which it began, so that it does not waver.
        """
        if not self.is_cut_off and missing >= FEWEST and missing >= self.share * watched:
            self.is_cut_off = True
            return True
        if self.is_cut_off and missing < max(1.0, self.share / 2 * watched):
            self.is_cut_off = False
            return False
        return None
