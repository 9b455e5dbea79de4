"""The pictures of docs/scaling.md."""

from __future__ import annotations

import pathlib

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "seqpar", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
                            "axes.spines.top": False, "axes.spines.right": False})
from matplotlib import pyplot  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

COLOURS = {"ring": "#d55e00", "double ring": "#e69f00", "ulysses": "#0072b2", "ulysses over ring": "#222222",
           "all-gather": "#009e73", "tree": "#cc79a7", "grid": "#56b4e9"}
MACHINES = {"h100": "#0072b2", "gb200": "#009e73", "cpu-cluster": "#d55e00", "fugaku": "#cc79a7", "ethernet": "#e69f00"}


def short(count: int) -> str:
    for size, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def save(figure, path: pathlib.Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def validation(agreement, path: pathlib.Path) -> None:
    figure, axis = pyplot.subplots(figsize=(8.4, 3.8), layout="constrained")
    for contended in (True, False):
        for machine, colour in MACHINES.items():
            mine = [a for a in agreement if a.machine == machine and a.contended == contended]
            axis.plot([a.simulated for a in mine], [a.ratio for a in mine], "o", markersize=3.5, color=colour,
                      markerfacecolor="none" if contended else colour, alpha=0.75, markeredgewidth=0.7)
    axis.axhspan(0.9, 1.1, color="#f0f0f0", zorder=0)
    axis.set_xscale("log")
    axis.set_xlabel("seconds, simulated")
    axis.set_ylabel("closed form / simulation")
    handles = [Line2D([], [], color=c, marker="o", linestyle="", markersize=5, label=m) for m, c in MACHINES.items()]
    handles += [Line2D([], [], color="#555555", marker="o", markerfacecolor="none", linestyle="", markersize=5, label="links are shared")]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    save(figure, path)


def _lines(axis, points, value) -> None:
    for family, colour in COLOURS.items():
        mine = sorted((p for p in points if p.family == family), key=lambda p: p.ranks)
        fits = [p for p in mine if p.fits]
        axis.plot([p.ranks for p in fits], [value(p, p.seconds) for p in fits], color=colour, linewidth=1.5)
        for p in mine:
            if p.simulated is not None and p.fits:
                axis.plot(p.ranks, value(p, p.simulated), "o", color=colour, markersize=5, markerfacecolor="white")
    axis.set_xscale("log", base=2)
    ticks = sorted({p.ranks for p in points})[::2]
    axis.set_xticks(ticks, [f"{t:,}" for t in ticks])
    axis.minorticks_off()
    axis.grid(axis="y", color="#e8e8e8", linewidth=0.6)
    axis.set_xlabel("ranks")


def _legend(figure) -> None:
    handles = [Line2D([], [], color=c, linewidth=1.5, label=f) for f, c in COLOURS.items()]
    handles += [Line2D([], [], color="#555555", marker="o", markerfacecolor="white", linestyle="", label="simulated")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def strong(curves: dict[int, list], path: pathlib.Path) -> None:
    figure, axes = pyplot.subplots(1, len(curves), figsize=(10, 4.2), layout="constrained", squeeze=False)
    for axis, (tokens, points) in zip(axes[0], curves.items()):
        _lines(axis, points, lambda p, seconds: seconds)
        axis.set_yscale("log")
        axis.set_title(f"{short(tokens)} tokens", loc="left", fontsize=11)
    axes[0][0].set_ylabel("seconds, forward and backward")
    _legend(figure)
    save(figure, path)


def weak(curves: dict[str, list], path: pathlib.Path) -> None:
    figure, axes = pyplot.subplots(1, len(curves), figsize=(10, 4.2), layout="constrained", squeeze=False, sharey=True)
    for axis, (machine, points) in zip(axes[0], curves.items()):
        least = {ranks: min(p.compute for p in points if p.ranks == ranks) for ranks in {p.ranks for p in points}}
        _lines(axis, points, lambda p, seconds: least[p.ranks] / seconds)
        axis.set_ylim(0, 1.05)
        axis.set_title(machine, loc="left", fontsize=11)
    axes[0][0].set_ylabel("share of the time in which the kernel computes")
    _legend(figure)
    save(figure, path)


def winners(maps: dict[str, list], path: pathlib.Path) -> None:
    families = sorted({w.family for found in maps.values() for w in found})
    palette = ["#9ecae1", "#fdae6b", "#a1d99b", "#dadaeb", "#fcbba1", "#c7e9c0", "#fee391", "#d9d9d9", "#e7cb94", "#f7b6d2"]
    colour = {f: "#eeeeee" if f == "nothing fits" else palette[i % len(palette)] for i, f in enumerate(families)}
    figure, axes = pyplot.subplots(len(maps), 1, figsize=(10, 3.6 * len(maps)), layout="constrained", squeeze=False)
    for axis, (machine, found) in zip(axes[:, 0], maps.items()):
        ranks, tokens = sorted({w.ranks for w in found}), sorted({w.tokens for w in found})
        for w in found:
            x, y = ranks.index(w.ranks), tokens.index(w.tokens)
            axis.add_patch(pyplot.Rectangle((x, y), 1, 1, facecolor=colour[w.family], edgecolor="white"))
            text = (w.strategy or "").replace("bidirectional", "bidir").replace("all-gather", "gather").replace("/", "/\n")
            axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=6.2)
        axis.set_xlim(0, len(ranks))
        axis.set_ylim(0, len(tokens))
        axis.set_xticks([i + 0.5 for i in range(len(ranks))], [f"{r:,}" for r in ranks])
        axis.set_yticks([i + 0.5 for i in range(len(tokens))], [short(t) for t in tokens])
        axis.set_ylabel("tokens")
        axis.set_title(machine, loc="left", fontsize=11)
        axis.tick_params(length=0)
    axes[-1][0].set_xlabel("ranks")
    figure.legend(handles=[Patch(color=colour[f], label=f) for f in families], loc="outside lower center", ncols=4, frameon=False,
                  fontsize=9)
    save(figure, path)


def headline(found, path: pathlib.Path) -> None:
    figure, axis = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    mib = 1 << 20
    for label, colour in (("megatron", "#777777"), ("ring", COLOURS["ring"]), ("ulysses", COLOURS["ulysses"])):
        values = [getattr(h, label) / mib for h in found]
        axis.plot([h.ranks for h in found], values, color=colour, marker="o", linewidth=1.5)
        name = {"megatron": "Megatron TP + SP", "ring": "ring", "ulysses": "ulysses"}[label]
        axis.annotate(name, (found[-1].ranks, values[-1]), textcoords="offset points", xytext=(-6, 7), ha="right", color=colour,
                      fontsize=9)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks([h.ranks for h in found], [str(h.ranks) for h in found])
    axis.minorticks_off()
    axis.set_xlabel("ranks, with 4K tokens each")
    axis.set_ylabel("MiB that a rank sends, forward")
    save(figure, path)


def degrees(found, path: pathlib.Path) -> None:
    keys = sorted({(d.machine, d.tokens) for d in found}, key=lambda k: (k[0] != "h100", k[1]))
    figure, axes = pyplot.subplots(1, len(keys), figsize=(10, 3.2), layout="constrained", squeeze=False)
    for axis, (machine, tokens) in zip(axes[0], keys):
        mine = [d for d in found if (d.machine, d.tokens) == (machine, tokens)]
        axis.plot([d.degree for d in mine], [d.seconds for d in mine], color="#222222", linewidth=1.5)
        axis.plot([d.degree for d in mine], [d.simulated for d in mine], "o", color="#222222", markerfacecolor="white", markersize=5)
        axis.set_xscale("log", base=2)
        axis.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
        axis.minorticks_off()
        axis.set_ylim(0, 1.1 * max(d.seconds for d in mine))
        axis.set_title(f"{machine}, {short(tokens)}", loc="left", fontsize=10)
        axis.set_xlabel("degree of ulysses over ring")
    axes[0][0].set_ylabel("seconds, forward and backward")
    save(figure, path)
