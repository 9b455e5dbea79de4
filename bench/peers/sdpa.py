"""PyTorch's scaled_dot_product_attention, a repetition at a time. Run as a program."""

from __future__ import annotations

import pathlib
import sys
import time

import numpy
import torch
import torch.nn.functional as functional

import line_process

TYPES = {"float": torch.float32, "double": torch.float64, "bfloat16": torch.bfloat16}


def load(directory: str, name: str, dtype: torch.dtype) -> torch.Tensor:
    """[1, seq, heads, dim] of the file as [1, heads, seq, dim], dense: the order that PyTorch is fastest with."""
    return torch.from_numpy(numpy.load(f"{directory}/{name}.npy")).transpose(1, 2).contiguous().to(dtype)


def save(directory: str, name: str, x: torch.Tensor) -> None:
    numpy.save(f"{directory}/{name}.npy", x.detach().to(torch.float32).transpose(1, 2).contiguous().numpy())


def seconds_of(run, times: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


class Work:
    """What a request of bench_worker asks for, by PyTorch."""

    def __init__(self, asked: dict):
        if asked["score"] not in ("full", "causal"):
            raise ValueError(f"score {asked['score']}: scaled_dot_product_attention knows full and causal")
        torch.set_num_threads(asked["threads"])
        dtype = TYPES[asked["type"]]
        q, k, v = (load(asked["inputs"], name, dtype) for name in "qkv")
        causal = asked["score"] == "causal"
        self.results: dict[str, torch.Tensor] = {}
        if asked["work"] == "backward":
            for x in (q, k, v):
                x.requires_grad_()
            dout = load(asked["inputs"], "dout", dtype)
            out = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
            self._once = lambda: dict(
                zip(("dq", "dk", "dv"), torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)))
            return
        group = q.shape[1] // k.shape[1]
        ways = [lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=group > 1)]
        if group > 1:  # heads repeated beforehand, which costs memory and is sometimes faster
            wide_k, wide_v = (x.repeat_interleave(group, dim=1) for x in (k, v))
            ways.append(lambda: functional.scaled_dot_product_attention(q, wide_k, wide_v, is_causal=causal))
        with torch.inference_mode():
            best = min(ways, key=lambda way: min(seconds_of(way) for _ in range(3))) if len(ways) > 1 else ways[0]

        def once():
            with torch.inference_mode():
                return {"out": best()}

        self._once = once

    def run(self, times: int) -> float:
        def once():
            self.results = self._once()

        return seconds_of(once, times)


def main() -> None:
    answers = line_process.own_standard_output()
    prepared: list[Work] = []

    def answer(asked: dict) -> dict:
        if asked["do"] == "describe":
            return {"name": f"PyTorch {torch.__version__.split('+')[0]} scaled_dot_product_attention"}
        if asked["do"] == "prepare":
            prepared.clear()
            prepared.append(Work(asked))
        elif asked["do"] == "run":
            return {"seconds": prepared[0].run(asked.get("times", 1))}
        elif asked["do"] == "write":
            for name, x in prepared[0].results.items():
                save(asked["to"], name, x)
        return {}

    line_process.serve(answer, sys.stdin.readline, answers.write)


if __name__ == "__main__":
    main()
