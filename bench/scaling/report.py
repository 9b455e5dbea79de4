"""What was found, as the tables of docs/scaling.md."""

from __future__ import annotations

import pathlib
import statistics

from draw import short

BEGIN = "<!-- ./dev scaling writes what follows -->"
END = "<!-- ./dev scaling has written what precedes -->"


def table(head: tuple[str, ...], rows: list[tuple]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def percent(x: float) -> str:
    return f"{100 * x:.1f}%"


def worst(agreement) -> float:
    return max((abs(a.ratio - 1) for a in agreement), default=0.0)


def validation(agreement, choices, large, here, speed) -> tuple[str, bool]:
    """The table, and whether all of it is met."""
    free = [a for a in agreement if not a.contended]
    shared = [a for a in agreement if a.contended]
    bound = [a for a in free if a.latency > 0.5]
    rows = []

    def add(claim: str, wanted: str, found: str, points: int, met: bool | None) -> None:
        rows.append((claim, wanted, found, points, "" if met is None else "yes" if met else "**no**"))

    add("closed form = simulation, no link is shared", "within 10%", f"at most {percent(worst(free))} off", len(free), worst(free) <= 0.1)
    add("- of these, most of the exchange is latency", "within 10%", f"at most {percent(worst(bound))} off", len(bound), worst(bound) <= 0.1)
    if shared:
        off = sorted(abs(a.ratio - 1) for a in shared)
        add("- links are shared: explained below", "", f"median {percent(statistics.median(off))}, at most {percent(off[-1])} off", len(shared), None)
    for communicator in dict.fromkeys(h.communicator for h in here):
        mine = [h for h in here if h.communicator == communicator]
        most = max(abs(h.ratio - 1) for h in mine)
        add(f"simulation of this machine = measured, {communicator}", "within 20%", f"at most {percent(most)} off", len(mine), most <= 0.2)
    for name, found in (("P <= 64", choices), ("P = 512 and 1,024", large)):
        if found:
            loss = max(c.loss for c in found)
            add(f"planner's first choice = best simulated, {name}", "within 5%", f"at most {percent(loss)} slower", len(found), loss <= 0.05)
    for text, wanted, (seconds, mib), limit, memory in speed:
        add(text, wanted, f"{seconds:.1f} s, {mib:.0f} MiB", 1, seconds <= limit and mib <= memory)
    return table(("claim", "asked", "found", "points", "met"), rows), all(row[-1] != "**no**" for row in rows)


def furthest(agreement) -> str:
    """Where the closed form is furthest from the simulation, a line for each strategy that is more than 10% off."""
    by_strategy: dict[str, list] = {}
    for a in agreement:
        by_strategy.setdefault(a.strategy, []).append(a)
    rows = []
    for strategy, mine in sorted(by_strategy.items()):
        a = max(mine, key=lambda a: abs(a.ratio - 1))
        if abs(a.ratio - 1) > 0.1:
            off = sum(abs(b.ratio - 1) > 0.1 for b in mine)
            rows.append((f"`{strategy}`", a.machine, a.ranks, short(a.work.tokens), f"{a.ratio:.2f}", f"{off} of {len(mine)}"))
    if not rows:
        return "No scheme is more than 10% off.\n"
    return table(("strategy", "furthest off: machine", "ranks", "tokens", "closed form / simulation", "points more than 10% off"), rows)


def here_table(here) -> str:
    return table(("strategy", "ranks are", "pass", "measured", "simulated", "ratio", "of the rounds"),
                 [(f"`{h.strategy}`", h.communicator, "forward and backward" if h.train else "forward", f"{1e3 * h.measured:.0f} ms",
                   f"{1e3 * h.simulated:.0f} ms", f"{h.ratio:.2f}", f"{h.ratios[0]:.2f} to {h.ratios[-1]:.2f}") for h in here])


def headline_table(found) -> str:
    mib = 1 << 20
    return table(("ranks", "tokens", "ulysses", "ring", "Megatron", "Megatron / ulysses"),
                 [(h.ranks, short(h.tokens), f"{h.ulysses / mib:.1f} MiB", f"{h.ring / mib:.0f} MiB", f"{h.megatron / mib:.0f} MiB",
                   f"{h.megatron / h.ulysses:.1f}") for h in found])


def write(page: pathlib.Path, text: str) -> None:
    whole = page.read_text()
    before, rest = whole.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
