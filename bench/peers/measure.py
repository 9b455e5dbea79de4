"""Measures a row: limit, ours and peer take turns, so that whatever changes on the machine changes for all."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import shutil
import statistics
import typing

import numpy

import agree
import line_process
from calm import Calm
from rows import Row

ENOUGH = 0.03  # seconds that each program runs in a round, at least: neighbours come and go
RETRIES = 3  # times as many rounds as are wanted are taken, at most, until so many were not disturbed


@dataclasses.dataclass
class Measured:
    """Rates in flop/s or bytes/s: medians. fraction, ratio: medians of those of each round. Of the calm rounds if three were,
    else of all."""

    row: Row
    intensity: float  # useful flops for each byte that must be moved
    ours: float = 0
    limit: float = 0
    fraction: float = 0
    peer: typing.Optional[str] = None
    peer_rate: typing.Optional[float] = None
    ratio: typing.Optional[float] = None
    rounds: int = 0
    calm_rounds: int = 0  # of them
    notes: list[str] = dataclasses.field(default_factory=list)
    agrees: bool = True

    @property
    def met(self) -> bool:
        """Every target that the row has is reached, and the peer computes the same."""
        reached = self.agrees and self.row.fraction_target is not None and self.fraction >= self.row.fraction_target
        if self.row.ratio_target is not None:
            reached = reached and self.ratio is not None and self.ratio >= self.row.ratio_target
        return reached


def make_inputs(request: dict, directory: pathlib.Path) -> None:
    """q, k, v and dout, normal numbers; those of an earlier request of the same shape stay."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = numpy.random.default_rng(1)
    keys, kv_heads = request.get("keys", request["tokens"]), request.get("kv_heads", request["heads"])
    for name in ("q", "k", "v", "dout"):
        shape = (1, keys, kv_heads, request["dim"]) if name in "kv" else (1, request["tokens"], request["heads"], request["dim"])
        path = directory / f"{name}.npy"
        if not path.exists():
            numpy.save(path, rng.standard_normal(shape, dtype=numpy.float32))


def inputs_of(request: dict, scratch: pathlib.Path) -> pathlib.Path:
    shape = [request[k] for k in ("tokens", "heads", "dim")] + [request.get("keys", 0), request.get("kv_heads", 0)]
    return scratch / "inputs" / "-".join(map(str, shape))


def intensity_of(request: dict, useful: dict) -> float:
    """Of the smallest traffic there is: each input read and each output written once."""
    element = {"float": 4, "double": 8, "bfloat16": 2}[request["type"]]
    rows = request["tokens"] * request["heads"] * request["dim"]
    keys = request.get("keys", request["tokens"]) * request.get("kv_heads", request["heads"]) * request["dim"]
    flops = useful["flops"] or 4 * request["heads"] * request["dim"] * request["tokens"] * request["keys"]
    passes = 2 if request["work"].endswith("backward") else 1
    return flops / (element * passes * 2 * (rows + keys))


@dataclasses.dataclass
class Round:
    """Rates."""

    limit: float
    ours: float
    peer: float
    calm: bool  # nobody disturbed, neither before and between nor behind


def measure(row: Row, ours, kernel, peer, calm: Calm, rounds: int, scratch: pathlib.Path) -> Measured:
    """ours runs the row; kernel measures limits and references (the same program, but for rows on MPI); peer may be None."""
    inputs = inputs_of(row.request, scratch)
    make_inputs(row.request, inputs)
    useful = ours.ask(do="prepare", **row.request, inputs=str(inputs))
    amount = useful["bytes"] or useful["flops"]
    result = Measured(row, intensity_of(row.request, useful))
    reference_amount = 0.0
    if row.reference:
        reference_inputs = inputs_of(row.reference, scratch)
        make_inputs(row.reference, reference_inputs)
        reference_amount = kernel.ask(do="prepare", **{"as": "reference"}, **row.reference, inputs=str(reference_inputs))["flops"]
    if peer is not None:
        try:
            peer.ask(do="prepare", **row.request, inputs=str(inputs))
        except line_process.Trouble as why:
            result.notes.append(str(why))
            peer = None

    times = {"ours": _times(ours)}
    if row.reference:
        times["reference"] = _times(kernel, "reference")
    if peer is not None:
        try:
            times["peer"] = _times(peer)
            result.notes += _disagreement(row, ours, peer, inputs, scratch)
            result.agrees = not result.notes
        except line_process.Trouble as why:
            result.notes.append(str(why))
            peer = None

    # Ranks on MPI that wait for an order spin, all but the first.
    cores = 1 if row.on_mpi else row.request["threads"] * row.request.get("ranks", 1)
    taken: list[Round] = []

    def undisturbed() -> list[Round]:
        return [r for r in taken if r.calm]

    while len(undisturbed()) < rounds and len(taken) < RETRIES * rounds:
        quiet = calm.wait(cores)
        if not quiet and len(taken) >= rounds:
            break  # out of patience
        limit = _limit(row, kernel, reference_amount, times)
        mine = amount / ours.ask(do="run", times=times["ours"])["seconds"]
        quiet = calm.now(cores) and quiet
        theirs = math.nan
        if peer is not None:
            try:
                theirs = amount / peer.ask(do="run", times=times["peer"])["seconds"]
            except line_process.Trouble as why:
                result.notes.append(str(why))
                peer = None
            quiet = calm.now(cores) and quiet
        taken.append(Round(limit, mine, theirs, quiet))
    counted = undisturbed()
    result.rounds, result.calm_rounds = len(taken), len(counted)
    if len(counted) < min(rounds, 3):
        counted = taken
        result.notes.append(f"disturbed: others ran on the same cores in {result.rounds - result.calm_rounds} of "
                            f"{result.rounds} rounds; all of them count")
    result.limit = statistics.median(r.limit for r in counted)
    result.ours = statistics.median(r.ours for r in counted)
    result.fraction = statistics.median(r.ours / r.limit for r in counted)
    if peer is not None:
        result.peer = peer.title
        result.peer_rate = statistics.median(r.peer for r in counted)
        result.ratio = statistics.median(r.ours / r.peer for r in counted)
    for program in {ours, kernel}:
        program.ask(do="forget")
    return result


def _times(program, what: str = "work") -> int:
    """Repetitions that last long enough, after one that nobody counts."""
    program.ask(do="run", **{"as": what})
    seconds = program.ask(do="run", **{"as": what})["seconds"]
    return max(1, math.ceil(ENOUGH / max(seconds, 1e-7)))


def _limit(row: Row, kernel, reference_amount: float, times: dict[str, int]) -> float:
    threads = row.request["threads"]
    if row.limit == "bandwidth":
        return kernel.ask(do="bandwidth", threads=threads)["bytes"]
    if row.limit == "peak":
        return kernel.ask(do="peak", type=row.request["type"], threads=threads)["flops"]
    seconds = kernel.ask(do="run", times=times["reference"], **{"as": "reference"})["seconds"]
    return row.reference_times * reference_amount / seconds


def _disagreement(row: Row, ours, peer, inputs: pathlib.Path, scratch: pathlib.Path) -> list[str]:
    places = [scratch / "ours", scratch / "peer"]
    for place, program in zip(places, (ours, peer)):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        program.ask(do="write", to=str(place))
    found = agree.difference(*places, row.request, inputs)
    return [] if found is None else [f"{peer.title} computes something else: {found}"]
