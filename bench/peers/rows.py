"""The table: what is measured, what limits it, what must be reached, and who does the same.

A target of the limit is a pair: for any processor, and for one with two 512-bit multiply-add units a core, which does
twice the products for each load and exp.
"""

from __future__ import annotations

import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the table depends on."""

    cores: int
    last_cache: int  # bytes
    bfloat16_products: bool
    two_units: bool


@dataclasses.dataclass(frozen=True)
class Row:
    work: str
    request: dict  # what bench_worker is asked to prepare
    limit_is: str
    fraction_target: typing.Optional[float]
    limit: str = "peak"  # of multiply-adds; "bandwidth"; "reference": the rate of another request
    reference: typing.Optional[dict] = None
    reference_times: float = 1  # the limit is so many times the rate of the reference
    peer: typing.Optional[str] = None  # sdpa, context_parallel, deepspeed
    ratio_target: typing.Optional[float] = None
    on_mpi: bool = False

    @property
    def unit(self) -> str:
        return "GB/s" if self.limit == "bandwidth" else "GFLOP/s"

    @property
    def is_distributed(self) -> bool:
        return self.request["work"].startswith("strategy")


def table(machine: Machine) -> list[Row]:
    return [
        *_forward(machine),
        *_causal(machine),
        *_sparse(),
        *_backward(machine),
        *_bfloat16(machine),
        *_decode(machine),
        *_short(),
        *_head_dims(),
        *_double(),
        *_threads(machine),
        *_strategies(machine),
    ]


def _kernel(work: str, tokens: int, dim: int, **rest) -> dict:
    return {"work": work, "type": "float", "score": "full", "tokens": tokens, "heads": 1, "dim": dim, "threads": 1, **rest}


def _forward(machine: Machine):
    for dim, targets, ratio in ((128, (0.89, 0.84), 1.40), (64, (0.86, 0.80), 1.38)):
        for n in (2048, 4096, 8192, 16384):
            yield Row(f"forward, N {n}, head_dim {dim}", _kernel("forward", n, dim), "FMA peak of 1 core",
                      targets[machine.two_units], peer="sdpa", ratio_target=ratio)


def _causal(machine: Machine):
    for dim in (128, 64):
        for n in (4096, 8192):
            yield Row(f"forward causal, N {n}, head_dim {dim}", _kernel("forward", n, dim, score="causal"),
                      "FMA peak of 1 core", (0.84, 0.76)[machine.two_units], peer="sdpa", ratio_target=1.65)


def _sparse():
    for dim in (128, 64):
        for name, score in (("sliding window of 1024", "window:1023"), ("8 documents, causal", "documents:8")):
            yield Row(f"forward {name}, N 8192, head_dim {dim}", _kernel("forward", 8192, dim, score=score),
                      "causal's rate per useful flop", 0.85, limit="reference",
                      reference=_kernel("forward", 8192, dim, score="causal"))


def _backward(machine: Machine):
    for dim in (128, 64):
        for n in (1024, 4096, 8192):
            yield Row(f"backward, N {n}, head_dim {dim}", _kernel("backward", n, dim), "FMA peak of 1 core",
                      (0.86, 0.78)[machine.two_units], peer="sdpa", ratio_target=1.5)


def _bfloat16(machine: Machine):
    for dim in (128, 64):
        yield Row(f"forward bfloat16, N 4096, head_dim {dim}", _kernel("forward", 4096, dim, type="bfloat16"),
                  "float's rate", 1.5 if machine.bfloat16_products else 1.0, limit="reference",
                  reference=_kernel("forward", 4096, dim), peer="sdpa", ratio_target=1.3)


def _decode(machine: Machine):
    kv_heads, dim, keys = 4, 128, 65536
    while 2 * 4 * keys * kv_heads * dim < 4 * machine.last_cache:
        keys *= 2
    for threads in sorted({1, machine.cores}):
        yield Row(f"decode, 1 query, {keys} keys, 32 heads on {kv_heads}, head_dim {dim}, {_counted(threads, 'thread')}",
                  _kernel("decode", 1, dim, keys=keys, heads=8 * kv_heads, kv_heads=kv_heads, threads=threads),
                  f"read bandwidth of {_counted(threads, 'core')}", 0.85, limit="bandwidth", peer="sdpa", ratio_target=1.5)


def _short():
    for dim in (128, 64):
        for n in (128, 256, 512):
            yield Row(f"forward, N {n}, head_dim {dim}", _kernel("forward", n, dim), "rate at N 4096", 0.75,
                      limit="reference", reference=_kernel("forward", 4096, dim), peer="sdpa", ratio_target=1.2)


def _head_dims():
    for dim, neighbour in ((32, 64), (80, 128), (96, 128), (192, 128), (256, 128)):
        yield Row(f"forward, N 4096, head_dim {dim}", _kernel("forward", 4096, dim), f"rate at head_dim {neighbour}", 0.75,
                  limit="reference", reference=_kernel("forward", 4096, neighbour), peer="sdpa", ratio_target=1.2)


def _double():
    for dim in (128, 64):
        yield Row(f"forward double, N 4096, head_dim {dim}", _kernel("forward", 4096, dim, type="double"),
                  "FMA peak of 1 core in double", 0.8)


def _threads(machine: Machine):
    heads = machine.cores * -(-8 // machine.cores)
    for name, score in (("forward", "full"), ("forward causal", "causal"), ("backward", "full")):
        one = _kernel(name.split()[0], 4096, 64, score=score, heads=heads)
        yield Row(f"{name}, N 4096, {heads} heads of 64, {_counted(machine.cores, 'thread')}",
                  {**one, "threads": machine.cores}, f"{machine.cores} x the rate of 1 thread", 0.95, limit="reference",
                  reference=one, reference_times=machine.cores)


def _strategies(machine: Machine):
    """Each strategy against both peers: its threads against one, its processes against the other."""
    ranks = machine.cores
    heads = ranks * -(-8 // ranks)
    tokens = 2 * ranks * -(-4096 // (2 * ranks))
    for name, work in (("forward", "strategy"), ("backward", "strategy_backward")):
        for score, layout in (("full", "contiguous"), ("causal", "zigzag")):
            for strategy in ("ulysses", "ring", "all-gather"):
                for on_mpi, peer, ratio in ((False, "context_parallel", 1.8), (True, "deepspeed", 1.4)):
                    request = _kernel(work, tokens, 64, score=score, heads=heads)
                    yield Row(f"{strategy} {name} {score}, {layout}, N {tokens}, {heads} heads of 64, "
                              f"{ranks} {'processes' if on_mpi else 'threads'}",
                              {**request, "strategy": strategy, "layout": layout, "ranks": ranks},
                              f"{ranks} x serial's rate on 1 core", 0.95, limit="reference", reference=request,
                              reference_times=ranks, peer=peer, ratio_target=ratio, on_mpi=on_mpi)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
