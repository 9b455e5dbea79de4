"""Holds the closed form, the simulator, the planner and this machine against each other, and draws docs/scaling.md's pictures.

Run by `./dev scaling`, in an environment that has numpy and matplotlib.
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import sys

import curves
import grid
import report
from program import Program, Work


def measure_speed(program: Program) -> list[tuple]:
    work = ["--tokens", "1M", "--heads", "32", "--kv-heads", "8", "--head-dim", "128", "--machine", "h100"]
    ring = program.timed("simulate", "--strategy", "ring", "--ranks", "1024", *work)
    nested = program.timed("simulate", "--strategy", "ulysses:8/ring", "--ranks", "4096", *work)
    plan = program.timed("plan", "--ranks", "256", *work)
    return [("a ring of 1,024 ranks on a fat tree, simulated", "30 s, 1 GiB", ring, 30, 1024),
            ("ulysses over a ring on 4,096 ranks, simulated", "2 minutes", nested, 120, float("inf")),
            ("`plan` for 256 ranks", "1 s", plan, 1, float("inf"))]


def main() -> None:
    arguments = argparse.ArgumentParser(prog="./dev scaling", description=__doc__)
    arguments.add_argument("--program", required=True, help=argparse.SUPPRESS)
    arguments.add_argument("--mpi-program", help=argparse.SUPPRESS)
    arguments.add_argument("--data", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    arguments.add_argument("--quick", action="store_true", help="a part of the points, on standard output alone")
    arguments.add_argument("--only", choices=("agreement", "choices", "large", "here", "speed", "curves"), action="append",
                           help="measure these parts anew, and take the others from the last run")
    chosen = arguments.parse_args()
    program = Program(chosen.program, chosen.mpi_program)
    quick = chosen.quick

    def draw_curves() -> dict:
        train = Work(0, train=True)
        return {"strong": {tokens: curves.curve(program, "h100", lambda p, n=tokens: n, train, quick)
                           for tokens in (131_072, 1_048_576, 10_485_760)},
                "weak": {m: curves.curve(program, m, lambda p: 4_096 * p, train, quick) for m in ("h100", "cpu-cluster", "ethernet")},
                "winners": {m: curves.winners(program, m, quick) for m in ("h100", "cpu-cluster")},
                "degrees": curves.degrees(program, quick),
                "headline": curves.headline(program, quick)}

    parts = {"agreement": lambda: grid.agreement(program, quick), "choices": lambda: grid.choices(program, quick),
             "large": lambda: grid.large_choices(program, quick), "here": lambda: grid.here(program, quick),
             "speed": lambda: measure_speed(program), "curves": draw_curves}
    found = {}
    if chosen.only and chosen.data.exists():
        found = pickle.loads(chosen.data.read_bytes())
    for name, measure in parts.items():
        if not chosen.only or name in chosen.only:
            found[name] = measure()
            chosen.data.write_bytes(pickle.dumps(found))  # what took minutes is not lost with what comes after
    missing = [name for name in parts if name not in found]
    if missing:
        sys.exit(f"not measured yet: {', '.join(missing)}")

    text, met = report.validation(found["agreement"], found["choices"], found["large"], found["here"], found["speed"])
    drawn = found["curves"]
    page = "\n".join(["## Validation\n", text, "### Where the closed form is off\n", report.furthest(found["agreement"]),
                      "### This machine\n", report.here_table(found["here"]),
                      "### Bytes, when tokens and ranks grow together\n", report.headline_table(drawn["headline"])])
    if quick:
        print(page)
    else:
        import draw

        docs = pathlib.Path("docs")
        pictures = docs / "scaling"
        pictures.mkdir(exist_ok=True)
        draw.validation(found["agreement"], pictures / "validation.svg")
        draw.strong(drawn["strong"], pictures / "strong.svg")
        draw.weak(drawn["weak"], pictures / "weak.svg")
        draw.winners(drawn["winners"], pictures / "winners.svg")
        draw.headline(drawn["headline"], pictures / "headline.svg")
        draw.degrees(drawn["degrees"], pictures / "degrees.svg")
        report.write(docs / "scaling.md", page)
        print(text)
        print("docs/scaling.md and docs/scaling/*.svg are written")
    if not met:
        sys.exit("not all of it is met")


if __name__ == "__main__":
    main()
