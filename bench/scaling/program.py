"""Asks the program: `seqpar plan`, `simulate`, `compare` and `calibrate`, and reads its JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time


@dataclasses.dataclass(frozen=True)
class Work:
    """An attention to be planned or simulated."""

    tokens: int
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    batch: int = 1
    causal: bool = True
    train: bool = False
    storage: str = "bfloat16"

    def options(self) -> list[str]:
        return ["--tokens", str(self.tokens), "--heads", str(self.heads), "--kv-heads", str(self.kv_heads), "--head-dim",
                str(self.head_dim), "--batch", str(self.batch), "--storage", self.storage,
                *(["--causal"] if self.causal else []), *(["--train"] if self.train else [])]


class Refused(Exception):
    """The program refused, and what it said."""


class Program:
    def __init__(self, path: str, mpi: str | None = None) -> None:
        self.path, self.mpi = path, mpi
        self._scratch = tempfile.TemporaryDirectory(prefix="seqpar-scaling-")
        self.scratch = pathlib.Path(self._scratch.name)

    def run(self, *words: str, mpi_ranks: int = 0) -> str:
        command = [self.path, *words]
        if mpi_ranks:
            command = ["mpirun", "-n", str(mpi_ranks), self.mpi, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 2:
            raise Refused(done.stderr.strip())
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def _json(self, *words: str, mpi_ranks: int = 0) -> dict:
        path = self.scratch / "answer.json"
        path.unlink(missing_ok=True)
        self.run(*words, "--json", str(path), mpi_ranks=mpi_ranks)
        return json.loads(path.read_text())

    def plan(self, machine: str, ranks: int, work: Work, strategies: list[str] | None = None, layout: str | None = None,
             top: int = 1000) -> dict:
        chosen = ["--strategy", ",".join(strategies)] if strategies else []
        return self._json("plan", "--machine", machine, "--ranks", str(ranks), *work.options(), "--top", str(top), *chosen,
                          *(["--layout", layout] if layout else []))

    def simulate(self, machine: str, ranks: int, work: Work, strategies: list[str], layout: str, save: str = "resend") -> list[dict]:
        if not strategies:
            return []
        save_option = ["--save", save] if work.train else []
        return self._json("simulate", "--machine", machine, "--ranks", str(ranks), *work.options(), "--strategy",
                          ",".join(strategies), "--layout", layout, *save_option)["schemes"]

    @staticmethod
    def closed(scheme: dict, what: str) -> float:
        """A number of the closed form of a simulated scheme, of both passes together."""
        return sum(scheme[name]["closed_form"][what] for name in ("forward", "backward") if name in scheme)

    @staticmethod
    def both(scheme: dict, what: str) -> float:
        """A number of a planned scheme, of both passes together."""
        return sum(scheme[name][what] for name in ("forward", "backward") if name in scheme)

    def timed(self, *words: str) -> tuple[float, float]:
        """Seconds and peak MiB of a run."""
        begin = time.monotonic()
        with subprocess.Popen([self.path, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{self.path} {' '.join(words)} ended with {process.returncode}")
        return time.monotonic() - begin, used.ru_maxrss / 1024


def own_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


