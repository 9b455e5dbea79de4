"""Whether somebody else's threads run on our cores."""

from __future__ import annotations

import time


class Calm:
    """Two hardware threads of a core share its caches and its loads. A neighbour there, whom no process list shows on a virtual
    machine, leaves multiply-adds in registers as they are and takes a fifth of what reads memory: a share of the peak would then
    tell of him. So products of what lies in the first-level cache are measured beside the peak. What they reach of it where
    nobody disturbs is the processor's own: the most that was seen.
    """

    ALLOWED = 0.93  # of that
    PAUSE = 0.3  # seconds between two looks

    def __init__(self, worker, patience: float):
        """patience: seconds that all waiting together may take."""
        self._worker = worker
        self._patience = patience
        self._most: dict[int, float] = {}  # by cores

    def now(self, cores: int) -> bool:
        """Whether nobody disturbs any of so many."""
        share = self._worker.ask(do="products", threads=cores)["share"]
        # More than all of it is a peak that was measured at a bad moment.
        self._most[cores] = max(min(share, 1), self._most.get(cores, 0))
        return share >= self.ALLOWED * self._most[cores]

    def wait(self, cores: int) -> bool:
        """Until nobody does, as long as there is patience; whether that is so."""
        while not self.now(cores):
            if self._patience <= 0:
                return False
            begin = time.monotonic()
            time.sleep(self.PAUSE)
            self._patience -= time.monotonic() - begin
        return True
