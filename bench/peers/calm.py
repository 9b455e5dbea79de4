"""Whether somebody else's threads run on our cores."""

from __future__ import annotations


class Calm:
    """Two hardware threads of a core share its caches and its loads. A neighbour there, whom no process list shows on a virtual
    machine, leaves multiply-adds in registers as they are and takes a fifth of what reads memory: a share of the peak would then
    tell of him. So products of what lies in the first-level cache are measured beside the peak. What they reach of it where
    nobody disturbs is the processor's own: the most that was seen.
    """

    ALLOWED = 0.93  # of that

    def __init__(self, worker):
        self._worker = worker
        self._most: dict[int, float] = {}  # by threads

    def now(self, threads: int) -> float:
        """What products reach of the peak on so many cores, at the worst of them."""
        share = self._worker.ask(do="products", threads=threads)["share"]
        # More than all of it is a peak that was measured at a bad moment.
        self._most[threads] = max(min(share, 1), self._most.get(threads, 0))
        return share

    def was(self, threads: int, *shares: float) -> bool:
        """Whether all of these say that nobody disturbed."""
        return min(shares) >= self.ALLOWED * self._most[threads]
