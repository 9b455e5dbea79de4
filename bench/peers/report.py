"""What was measured, as JSON, as a table, and as a picture."""

from __future__ import annotations

import json
import pathlib

from measure import Measured

# Around the table of each kind of processor, which is its widest vectors: "avx2".
BEGIN = "<!-- ./dev bench --peers on {} writes what follows -->"
END = "<!-- ./dev bench --peers on {} has written what precedes -->"


def as_json(machine: dict, measured: list[Measured]) -> str:
    return json.dumps({"machine": machine, "rows": [_json_row(m) for m in measured]}, indent=2) + "\n"


def _json_row(m: Measured) -> dict:
    giga = 1e9
    return {
        "work": m.row.work,
        "ours": m.ours / giga,
        "limit": m.limit / giga,
        "fraction": m.fraction,
        "fraction_target": m.row.fraction_target,
        "peer": m.peer,
        "peer_rate": None if m.peer_rate is None else m.peer_rate / giga,
        "ratio": m.ratio,
        "ratio_target": m.row.ratio_target,
        "met": m.met,
        "unit": m.row.unit,
        "limit_is": m.row.limit_is,
        "rounds": m.rounds,
        "calm_rounds": m.calm_rounds,
        "notes": m.notes,
    }


HEAD = ("work", "ours", "limit", "of the limit", "target", "peer", "ratio", "target", "met")


def cells(m: Measured) -> tuple[str, ...]:
    def number(x, text):
        return "-" if x is None else format(x, text)

    peer = "-" if m.peer_rate is None else f"{m.peer_rate / 1e9:.1f} {short(m.peer)}"
    return (m.row.work, f"{m.ours / 1e9:.1f} {m.row.unit}", f"{m.limit / 1e9:.1f}, {m.row.limit_is}", f"{m.fraction:.3f}",
            number(m.row.fraction_target, ".2f"), peer, number(m.ratio, ".2f"), number(m.row.ratio_target, ".2f"),
            "yes" if m.met else "NO")


def short(peer: str) -> str:
    """ "PyTorch 2.9.0 scaled_dot_product_attention" by its last word, which a column has room for."""
    return {"scaled_dot_product_attention": "SDPA"}.get(peer.split()[-1], peer.split()[-1])


class Table:
    """Prints rows as they come: their widths are known before."""

    def __init__(self, rows):
        self._widths = [max(len(row.work) for row in rows), 14, max(len(row.limit_is) for row in rows) + 8, 12, 6, 26, 6, 6, 3]
        print(self._line(HEAD))
        print("-" * len(self._line(HEAD)))

    def add(self, m: Measured) -> None:
        print(self._line(cells(m)), flush=True)
        for note in m.notes:
            print(f"    {note}", flush=True)

    def _line(self, texts) -> str:
        left = {0, 2, 5}
        return "  ".join(t.ljust(w) if n in left else t.rjust(w) for n, (t, w) in enumerate(zip(texts, self._widths)))


def machine_text(machine: dict) -> str:
    return (f"{machine['processor']}, {machine['cores']} cores, {machine['instruction_set']}, "
            f"{machine['fma_units']} FMA unit{'s' * (machine['fma_units'] > 1)} a core; seqpar {machine['seqpar']} by "
            f"{machine['compiler']}; {', '.join(machine['peers'])}; {machine['date']}")


def has_place(path: pathlib.Path, machine: dict) -> bool:
    """Whether the text has both markers of this kind of processor."""
    text = path.read_text()
    return all(marker.format(machine["vectors"]) in text for marker in (BEGIN, END))


def write_markdown(path: pathlib.Path, machine: dict, measured: list[Measured]) -> None:
    """Replaces what stands between the two markers of this kind of processor. @pre has_place"""
    begin, end = BEGIN.format(machine["vectors"]), END.format(machine["vectors"])
    text = path.read_text()
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    lines = [f"{machine_text(machine)}. {sum(m.met for m in measured)} of {len(measured)} rows met.", "",
             "| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    lines += ["| " + " | ".join(cells(m)) + " |" for m in measured]
    notes = [f"- {m.row.work}: {note}" for m in measured for note in m.notes]
    path.write_text(before + begin + "\n\n" + "\n".join(lines + ([""] + notes if notes else [])) + "\n\n" + end + after)


def plot(path: pathlib.Path, machine: dict, measured: list[Measured]) -> None:
    """The roofline with all rows of one core, and below it bars against both kinds of target."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "seqpar", "svg.fonttype": "none"})  # the same data, the same small file
    from matplotlib import pyplot

    ours, theirs, target = "#56a8c7", "#e08e45", "#222222"
    height = 0.24 * len(measured)
    figure, axes = pyplot.subplot_mosaic([["roof", "roof"], ["fraction", "ratio"]], figsize=(13, 5 + height),
                                         height_ratios=[5, max(height, 1)], layout="constrained")
    roof, fraction, ratio = axes["roof"], axes["fraction"], axes["ratio"]

    peak, bandwidth = machine["flops"] / 1e9, machine["bytes"] / 1e9
    single = [m for m in measured if m.row.request["threads"] == 1 and not m.row.is_distributed and
              m.row.request["type"] != "double"]
    lowest = min([peak / bandwidth / 4] + [m.intensity / 2 for m in single])
    highest = max([peak / bandwidth * 100] + [m.intensity * 2 for m in single])
    roof.plot([lowest, peak / bandwidth, highest], [lowest * bandwidth, peak, peak], color=target, linewidth=1.5,
              label=f"limit of 1 core: {peak:.0f} GFLOP/s, {bandwidth:.0f} GB/s (float)")
    for rate_of, color, marker, label in ((lambda m: m.ours, ours, "o", "seqpar"), (lambda m: m.peer_rate, theirs, "x", "PyTorch")):
        points = [(m.intensity, rate_of(m) / 1e9 * (m.intensity if m.row.limit == "bandwidth" else 1))
                  for m in single if rate_of(m) is not None]
        if points:
            roof.scatter(*zip(*points), color=color, marker=marker, s=28, label=label, zorder=3)
    roof.set(xscale="log", yscale="log", xlabel="useful flops for each byte of inputs and outputs", ylabel="GFLOP/s",
             title="Roofline, 1 core")
    roof.legend(loc="lower right")
    roof.grid(which="both", alpha=0.2)

    def bars(axis, color, values, targets, texts):
        end = 1.05 * max([x for x in values + targets if x is not None] + [1])
        for place, (value, wanted, text) in enumerate(zip(values, targets, texts)):
            missed = wanted is not None and (value is None or value < wanted)
            axis.barh(place, value or 0, color=color, height=0.7, alpha=0.45 if missed else 1)
            # Behind bar and target where there is room, where no line crosses it.
            behind = max(value or 0, wanted or 0)
            axis.text(0.01 * end + (behind if behind < end / 4 else 0), place, text, va="center", fontsize=7)
            if wanted is not None:
                axis.plot([wanted] * 2, [place - 0.45, place + 0.45], color=target, linewidth=1.5)
        axis.set_xlim(0, end)
        axis.set_ylim(len(values) - 0.4, -0.6)
        axis.grid(axis="x", alpha=0.2)

    places = range(len(measured))
    bars(fraction, ours, [m.fraction for m in measured], [m.row.fraction_target for m in measured],
         [f"{m.fraction:.2f}" for m in measured])
    bars(ratio, theirs, [m.ratio for m in measured], [m.row.ratio_target for m in measured],
         [f"{m.ratio:.2f} x {short(m.peer)}" if m.ratio else "no peer" for m in measured])
    fraction.set_yticks(places, [f"{m.row.work}  [{m.row.limit_is}]" for m in measured], fontsize=7)
    ratio.set_yticks(places, [""] * len(measured))
    fraction.set_title("of the limit (line: target; pale: missed)", fontsize=10)
    ratio.set_title("times the peer (line: target; pale: missed)", fontsize=10)
    figure.suptitle(machine_text(machine), fontsize=8)
    figure.savefig(path, metadata={"Date": None})
