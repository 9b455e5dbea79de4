"""The points at which the closed form, the simulator and the machine are held against each other."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import statistics
import sys

from program import Program, Refused, Work, own_cores

MACHINES = ("h100", "gb200", "cpu-cluster", "fugaku", "ethernet")
#: Of the simulator all that it takes to tell strategies apart, in either layout that balances the work.
STRATEGIES = ("ring", "ring:bidirectional", "all-gather", "all-gather:doubling", "all-gather:ring", "all-gather:stream=1", "tree",
              "grid", "ulysses")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass
class Agreement:
    """One scheme at one point: what the closed form says, and what the simulator."""

    machine: str
    ranks: int
    work: Work
    layout: str
    strategy: str
    closed: float
    alone: float
    simulated: float
    latency: float  # of the exchange, the share that messages without bytes would take

    @property
    def ratio(self) -> float:
        return self.closed / self.simulated

    @property
    def contended(self) -> bool:
        return self.closed > 1.01 * self.alone


def nested(ranks: int, heads: int) -> list[str]:
    degrees = [d for d in (2, 8, 32) if ranks % d == 0 and d < ranks and d <= heads]
    return [f"ulysses:{d}/{inner}" for d in degrees for inner in ("ring", "all-gather", "grid")]


def agreement(program: Program, quick: bool) -> list[Agreement]:
    found = []
    sizes = (lambda p: 16 * p, lambda p: 32_768, lambda p: 524_288)
    for machine, ranks in itertools.product(MACHINES[:2] if quick else MACHINES, (2, 8, 64) if quick else (2, 8, 16, 64)):
        say(f"closed form against simulation: {machine}, {ranks} ranks")
        for size, (causal, layout), train in itertools.product(sizes, ((False, "contiguous"), (True, "zigzag")), (False, True)):
            work = Work(size(ranks), causal=causal, train=train)
            names = [*STRATEGIES, *nested(ranks, work.heads)]
            if ranks < 4:
                names.remove("grid")
            for row in program.simulate(machine, ranks, work, names, layout):
                found.append(Agreement(machine, ranks, work, layout, row["strategy"], program.closed(row, "seconds"),
                                       program.closed(row, "seconds_without_contention"), row["seconds"],
                                       program.closed(row, "latency_seconds") / max(program.closed(row, "exchange_seconds"), 1e-30)))
    return found


@dataclasses.dataclass
class Choice:
    """What the planner chose at a point, and the best that the simulator knows."""

    machine: str
    ranks: int
    work: Work
    chosen: str
    chosen_seconds: float
    best: str
    best_seconds: float
    simulated: int  # schemes

    @property
    def loss(self) -> float:
        return self.chosen_seconds / self.best_seconds - 1


def choice(program: Program, machine: str, ranks: int, work: Work, within: float, most: int) -> Choice | None:
    """Simulates all schemes that the closed form has within so much of the first, at most so many."""
    try:
        entries = [e for e in program.plan(machine, ranks, work)["schemes"] if e["fits"]]
    except Refused as why:
        if "nothing fits" in str(why):
            return None
        raise
    near = [e for e in entries if e["seconds"] <= within * entries[0]["seconds"]][:most]
    seconds = {}
    for layout, save in sorted({(e["layout"], e.get("save", "resend")) for e in near}):
        mine = [e["strategy"] for e in near if (e["layout"], e.get("save", "resend")) == (layout, save)]
        for row in program.simulate(machine, ranks, work, mine, layout, save):
            seconds[row["strategy"], layout, save] = row["seconds"]
    first = (entries[0]["strategy"], entries[0]["layout"], entries[0].get("save", "resend"))
    best = min(seconds, key=seconds.get)
    return Choice(machine, ranks, work, " ".join(first), seconds[first], " ".join(best), seconds[best], len(seconds))


def choices(program: Program, quick: bool) -> list[Choice]:
    found = []
    shapes = ((32, 8), (16, 16), (40, 1), (12, 4))
    grid = itertools.product(MACHINES, (4, 16, 64), (4_096, 65_536, 1_048_576), shapes, (False, True))
    for n, (machine, ranks, tokens, (heads, kv_heads), train) in enumerate(grid):
        if quick and n % 12:
            continue
        if train and tokens == 65_536:
            continue  # 240 points of the 360
        work = Work(tokens, heads, kv_heads, train=train)
        if made := choice(program, machine, ranks, work, 1.5, 24):
            found.append(made)
            say(f"planner: {machine}, {ranks} ranks, {tokens} tokens, {heads}:{kv_heads}: {made.chosen}, +{100 * made.loss:.1f}%")
    return found


def large_choices(program: Program, quick: bool) -> list[Choice]:
    points = [("h100", 512, 1_048_576), ("h100", 1_024, 4_194_304), ("cpu-cluster", 512, 262_144), ("fugaku", 512, 131_072)]
    found = []
    for machine, ranks, tokens in points[:1] if quick else points:
        if made := choice(program, machine, ranks, Work(tokens), 1.15, 6):
            found.append(made)
            say(f"planner: {machine}, {ranks} ranks: {made.chosen}, +{100 * made.loss:.1f}%")
    return found


@dataclasses.dataclass
class Here:
    """A strategy on the machine that this runs on: measured, and simulated on its description."""

    communicator: str
    strategy: str
    train: bool
    rounds: list[tuple[float, float]]  # measured, simulated

    @property
    def measured(self) -> float:
        return statistics.median(measured for measured, _ in self.rounds)

    @property
    def simulated(self) -> float:
        return statistics.median(simulated for _, simulated in self.rounds)

    @property
    def ratios(self) -> list[float]:
        return sorted(simulated / measured for measured, simulated in self.rounds)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def here(program: Program, quick: bool) -> list[Here]:
    import numpy

    found = []
    ranks, rows, heads, kv_heads, dim = own_cores(), 2_048 if quick else 8_192, 4, 2, 128
    paths = []
    for seed, (name, count) in enumerate((("q", heads), ("k", kv_heads), ("v", kv_heads), ("dout", heads))):
        path = program.scratch / f"{name}.npy"
        numpy.save(path, numpy.random.default_rng(seed).standard_normal((1, rows, count, dim), dtype=numpy.float32))
        paths.append(str(path))
    names = ["ring", "all-gather", "ulysses", "tree"]
    for communicator, mpi_ranks in (("threads", 0), ("MPI", ranks)):
        if mpi_ranks and program.mpi is None:
            continue
        say(f"this machine, {ranks} ranks, {communicator}")
        on = [] if mpi_ranks else ["--ranks", str(ranks)]
        runs: dict[tuple[str, bool], list[tuple[float, float]]] = {}
        # A machine that others use is quicker now and slower then, by half and more: each measurement is held to calibrations
        # just before and after it, and what counts is the median over rounds.
        before = calibrated(program, on, mpi_ranks, 0)
        for number, train in enumerate((False, True) * (1 if quick else 9), 1):
            table = program.scratch / "table.json"
            program.run("compare", *paths[:3], *(["--dout", paths[3]] if train else []), "--causal", "--layout", "zigzag",
                        *on, "--threads-per-rank", "1", "--strategy", ",".join(names), "--json", str(table),
                        mpi_ranks=mpi_ranks)
            after = calibrated(program, on, mpi_ranks, number)
            work = Work(rows, heads, kv_heads, dim, train=train, storage="float")
            simulated = [{row["strategy"]: row["seconds"] for row in program.simulate(str(machine), ranks, work, names, "zigzag")}
                         for machine in (before, after)]
            for row in json.loads(table.read_text())["rows"]:
                if row["strategy"] == "serial":
                    continue
                seconds = row["seconds"] + (row["backward"]["seconds"] if train else 0)
                mean = statistics.mean(of[row["strategy"]] for of in simulated)
                runs.setdefault((row["strategy"], train), []).append((seconds, mean))
            before = after
        found += [Here(communicator, strategy, train, of) for (strategy, train), of in runs.items()]
    return found


def calibrated(program: Program, on: list[str], mpi_ranks: int, number: int) -> pathlib.Path:
    """A new description of this machine. Two that are in use at once need different numbers."""
    path = program.scratch / f"this-{number}.json"
    program.run("calibrate", "-o", str(path), *on, mpi_ranks=mpi_ranks)
    return path
