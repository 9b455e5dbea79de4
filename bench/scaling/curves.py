"""Curves in closed form, with simulated spots."""

from __future__ import annotations

import dataclasses

from grid import say
from program import Program, Refused, Work

RANKS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
SPOTS = (8, 64, 512)
#: label: strategy for so many ranks and heads, or none
FAMILIES = {
    "ring": lambda p, heads: "ring",
    "double ring": lambda p, heads: "ring:double=8" if p > 8 else None,
    "ulysses": lambda p, heads: "ulysses",
    "ulysses over ring": lambda p, heads: "ulysses:8/ring" if p > 8 else None,
    "all-gather": lambda p, heads: "all-gather:doubling",
    "tree": lambda p, heads: "tree" if p <= 1024 else None,
    "grid": lambda p, heads: "grid",
}


@dataclasses.dataclass
class Point:
    family: str
    machine: str
    ranks: int
    tokens: int
    strategy: str
    seconds: float
    compute: float  # seconds of the rank that has most to do
    bytes_per_rank: int
    fits: bool
    simulated: float | None = None


def priced(program: Program, machine: str, ranks: int, work: Work, families: dict[str, str]) -> list[Point]:
    layout = "zigzag" if work.causal else "contiguous"
    plan = program.plan(machine, ranks, work, list(families.values()), layout)
    by_name = {e["strategy"]: e for e in plan["schemes"]}
    return [Point(family, machine, ranks, work.tokens, name, e["seconds"], program.both(e, "compute_seconds"),
                  program.both(e, "bytes_sent"), e["fits"])
            for family, name in families.items() if (e := by_name.get(name))]


def curve(program: Program, machine: str, tokens, work: Work, quick: bool) -> list[Point]:
    """tokens: of so many ranks."""
    found = []
    for ranks in RANKS[:5] if quick else RANKS:
        now = dataclasses.replace(work, tokens=tokens(ranks))
        say(f"curves: {machine}, {ranks} ranks, {now.tokens} tokens")
        families = {label: name for label, make in FAMILIES.items() if (name := make(ranks, work.heads))}
        points = priced(program, machine, ranks, now, families)
        if ranks in SPOTS[:2 if quick else 3]:
            layout = "zigzag" if work.causal else "contiguous"
            # Of 512 ranks those that talk with each of them take minutes.
            chosen = [p for p in points if ranks < 512 or p.family in ("ring", "double ring", "ulysses over ring", "all-gather")]
            for row in program.simulate(machine, ranks, now, [p.strategy for p in chosen], layout):
                for p in chosen:
                    if p.strategy == row["strategy"]:
                        p.simulated = row["seconds"]
        found += points
    return found


@dataclasses.dataclass
class Winner:
    machine: str
    ranks: int
    tokens: int
    strategy: str | None  # none: nothing fits
    family: str
    layout: str
    seconds: float


def winners(program: Program, machine: str, quick: bool) -> list[Winner]:
    found = []
    for ranks in RANKS[:4] if quick else RANKS:
        say(f"winners: {machine}, {ranks} ranks")
        for log2 in range(12, 25, 4 if quick else 2):
            work = Work(1 << log2, train=True)
            try:
                e = program.plan(machine, ranks, work, top=1)["schemes"][0]
                found.append(Winner(machine, ranks, work.tokens, e["strategy"], e["family"], e["layout"], e["seconds"]))
            except Refused:
                found.append(Winner(machine, ranks, work.tokens, None, "nothing fits", "", 0))
    return found


@dataclasses.dataclass
class Degree:
    machine: str
    tokens: int
    degree: int
    strategy: str
    seconds: float
    simulated: float


def degrees(program: Program, quick: bool) -> list[Degree]:
    """Ulysses of every degree over a ring on 64 ranks: what USP compares."""
    found = []
    ranks = 64
    for machine in ("h100", "ethernet"):
        for tokens in (65_536, 1_048_576):
            work = Work(tokens, 64, 64, train=True)
            say(f"degrees: {machine}, {tokens} tokens")
            names = {d: "ring" if d == 1 else "ulysses" if d == ranks else f"ulysses:{d}/ring" for d in (1, 2, 4, 8, 16, 32, 64)}
            simulated = {row["strategy"]: row["seconds"] for row in program.simulate(machine, ranks, work, list(names.values()), "zigzag")}
            for p in priced(program, machine, ranks, work, {str(d): name for d, name in names.items()}):
                found.append(Degree(machine, tokens, int(p.family), p.strategy, p.seconds, simulated[p.strategy]))
    return found


@dataclasses.dataclass
class Headline:
    """Bytes that a rank sends in a forward when N and P grow together, multi-head attention, lse not returned."""

    ranks: int
    tokens: int
    ulysses: int
    ring: int
    megatron: int


def headline(program: Program, quick: bool) -> list[Headline]:
    found = []
    rows, heads, dim = 4_096, 64, 128
    for ranks in (8, 16, 32, 64):
        work = Work(rows * ranks, heads, heads, dim, causal=False)
        by_family = {p.family: p for p in priced(program, "h100", ranks, work, {"ulysses": "ulysses", "ring": "ring"})}
        # Megatron's tensor and sequence parallelism gathers the rows before attention and scatters the sums after it: each
        # rank sends its n rows of the model's width to each of the others, twice.
        megatron = 2 * rows * heads * dim * (ranks - 1) * 2
        found.append(Headline(ranks, work.tokens, by_family["ulysses"].bytes_per_rank, by_family["ring"].bytes_per_rank, megatron))
    return found
