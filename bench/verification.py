"""Measures how far every strategy is from the definition, over rows and ranks, by `seqpar compare`, and draws it.

Run by `./dev verification`, in an environment that has numpy and matplotlib.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy

HEADS, HEAD_DIM = 4, 64
RANKS = (1, 2, 3, 4, 6, 8, 12, 16)
ROWS = (256, 512, 1024, 2048, 4096, 8192, 16384)
RANKS_FIXED, ROWS_FIXED = 8, 4096
TYPES = ("float", "bfloat16")
#         strategy          label             colour     marker
STYLES = {"serial": ("serial", "#222222", "s"),
          "ulysses": ("ulysses", "#0072b2", "o"),
          "all-gather": ("all-gather", "#009e73", "^"),
          "ring": ("ring", "#d55e00", "D"),
          "ring:pass=q": ("ring, Q passed", "#e69f00", "v"),
          "tree": ("tree", "#cc79a7", "P"),
          "grid": ("grid", "#56b4e9", "X")}


def normal_input(rows: int, directory: pathlib.Path) -> list[str]:
    """Normal random Q, K, V of so many rows; the same numbers whatever was made before."""
    paths = []
    for seed, name in enumerate("qkv"):
        path = directory / f"{name}_{rows}.npy"
        if not path.exists():
            shape = (1, rows, HEADS, HEAD_DIM)
            numpy.save(path, numpy.random.default_rng([seed, rows]).standard_normal(shape, dtype=numpy.float32))
        paths.append(str(path))
    return paths


def measure(program: str, rows: int, ranks: int, storage: str, directory: pathlib.Path) -> list[dict]:
    """A point for each strategy: what compare found of causal attention, zigzag, of so many rows on so many ranks."""
    names = [name for name in STYLES if name != "serial"]  # compare runs serial first, whatever is asked for
    table = directory / "table.json"
    command = [program, "compare", *normal_input(rows, directory), "--causal", "--layout", "zigzag", "--ranks", str(ranks),
               "--storage", storage, "--strategy", ",".join(names), "--json", str(table)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    points = []
    for row in json.loads(table.read_text())["rows"]:
        points.append({"strategy": row["strategy"], "rows": rows, "ranks": ranks, "type": storage,
                       "rms_error": row["rms_error"], "max_abs_error": row["max_abs_error"],
                       "share_of_bound": row["share_of_bound"], "rows_judged": row["rows_judged"],
                       "verified": row["verified"]})
    return points


def measure_all(program: str) -> list[dict]:
    points = []
    with tempfile.TemporaryDirectory(prefix="seqpar-verification-") as name:
        directory = pathlib.Path(name)
        wanted = sorted({(ROWS_FIXED, ranks) for ranks in RANKS} | {(rows, RANKS_FIXED) for rows in ROWS})
        for storage in TYPES:
            for rows, ranks in wanted:
                print(f"{storage}: {rows} rows on {ranks} ranks", file=sys.stderr, flush=True)
                points += measure(program, rows, ranks, storage, directory)
    return points


def draw(points: list[dict], path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "seqpar", "svg.fonttype": "none", "font.family": "sans-serif",
                                "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9.6, 6.4), sharex="col", sharey="row", layout="constrained")
    columns = (("ranks", RANKS, lambda p: p["rows"] == ROWS_FIXED, f"ranks, of {ROWS_FIXED:,} rows"),
               ("rows", ROWS, lambda p: p["ranks"] == RANKS_FIXED, f"rows, on {RANKS_FIXED} ranks"))
    for column, (x, ticks, belongs, label) in enumerate(columns):
        for line, what in enumerate(("rms", "bound")):
            axis = axes[line][column]
            for storage in TYPES:
                serial = {(p["rows"], p["ranks"]): p["rms_error"] for p in points
                          if p["type"] == storage and p["strategy"] == "serial"}
                for name, (_, colour, marker) in STYLES.items():
                    mine = sorted((p for p in points if p["type"] == storage and p["strategy"] == name and belongs(p)),
                                  key=lambda p: p[x])
                    if what == "rms" and (name == "serial" or storage == "bfloat16"):
                        continue  # the unit; and all alike, since what is stored is rounded
                    values = [p["rms_error"] / serial[p["rows"], p["ranks"]] if what == "rms" else p["share_of_bound"]
                              for p in mine]
                    wide = storage == "float"
                    axis.plot([p[x] for p in mine], values, color=colour, marker=marker, markersize=5 if wide else 4,
                              linewidth=1.3 if wide else 0.9, linestyle="-" if wide else (0, (2, 2)),
                              markerfacecolor=colour if wide else "white", alpha=0.95 if wide else 0.8)
            axis.axhline(1, color="#888888" if what == "rms" else "#b00020", linewidth=1)
            axis.set_xscale("log", base=2)
            axis.set_xticks(ticks, [f"{t:,}" for t in ticks])
            axis.minorticks_off()
            axis.grid(axis="y", color="#e4e4e4", linewidth=0.6)
            axis.set_ylim(0, 1.25 if what == "rms" else 1.1)
            if line == 1:
                axis.set_xlabel(label)
    axes[0][0].set_ylabel("rms error, serial = 1")
    axes[1][0].set_ylabel("largest error, its bound = 1")
    axes[0][0].set_title("Over ranks: the error does not grow", fontsize=11, loc="left")
    axes[0][1].set_title("Over rows", fontsize=11, loc="left")
    axes[0][0].text(RANKS[0], 1.02, "serial", color="#666666", fontsize=9, va="bottom")
    axes[1][0].text(RANKS[0], 0.985, "the bound: above it, verify fails", color="#b00020", fontsize=9, va="top")
    highest = max(p["share_of_bound"] for p in points if p["type"] == "bfloat16" and p["rows"] == ROWS_FIXED)
    axes[1][0].text(RANKS[0], highest - 0.03, "bfloat16: all alike, by the rounding of what is stored", color="#555555",
                    fontsize=9, va="top")

    line = matplotlib.lines.Line2D
    handles = [line([], [], color=c, marker=m, markersize=5, linewidth=1.3, label=text) for text, c, m in STYLES.values()]
    handles += [line([], [], color="#555555", linewidth=1.3, label="float"),
                line([], [], color="#555555", linewidth=0.9, linestyle=(0, (2, 2)), label="bfloat16")]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9,
                  handlelength=1.8, columnspacing=1.2)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--program", required=True, help="seqpar")
    arguments.add_argument("--data", required=True, type=pathlib.Path, help="the measured points: written, or drawn again")
    arguments.add_argument("--picture", required=True, type=pathlib.Path)
    arguments.add_argument("--draw-only", action="store_true", help="draw the points that are there")
    chosen = arguments.parse_args()
    if not chosen.draw_only:
        chosen.data.write_text(json.dumps(measure_all(chosen.program), indent=1) + "\n")
    points = json.loads(chosen.data.read_text())
    draw(points, chosen.picture)
    worst = max(points, key=lambda p: p["share_of_bound"])
    print(f"{chosen.picture}: {len(points)} points, the worst at {worst['share_of_bound']:.3f} of its bound "
          f"({worst['strategy']}, {worst['type']}, {worst['rows']} rows on {worst['ranks']} ranks)")
    if not all(p["verified"] for p in points):
        sys.exit("not all of them are verified")


if __name__ == "__main__":
    main()
