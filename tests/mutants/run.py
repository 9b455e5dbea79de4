#!/usr/bin/env python3
"""./dev mutants: plants each defect of tests/mutants in a copy of the sources, and sees whether its tests fail."""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import fcntl
import json
import os
import pathlib
import queue
import random
import re
import signal
import sys
import time
from collections.abc import Iterator

import build
import mutant as mutants

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRATCH = ROOT / "build" / "mutants"
KILLED = "killed"


@dataclasses.dataclass
class Verdict:
    outcome: str  # KILLED, or what went wrong, in capitals
    by: str = ""  # the test that noticed, and how
    text: str = ""  # what is to be read where it went wrong
    seconds: float = 0


def arguments() -> argparse.Namespace:
    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 1")
        return int(text)

    def pattern(text: str) -> re.Pattern[str]:
        try:
            return re.compile(text)
        except re.error as trouble:
            raise argparse.ArgumentTypeError(f"'{text}' is no regular expression: {trouble}") from trouble

    parser = argparse.ArgumentParser(
        prog="./dev mutants", description=__doc__.split(": ", 1)[1],
        epilog="Exit status: 0 all were killed, 1 some were not, 2 a wrong argument.")
    parser.add_argument("--only", type=pattern, metavar="REGEX", help="those whose area/name matches")
    parser.add_argument("--sample", type=positive, metavar="N", help="N of them, by lot")
    parser.add_argument("--seed", type=int, metavar="S", help="of the lot (default: 1)")
    parser.add_argument("--list", action="store_true", help="what each one breaks, and who should notice; runs nothing")
    parser.add_argument("--check", action="store_true", help="that all apply and are complete; runs nothing")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the verdicts there, too")
    parser.add_argument("--from", type=pathlib.Path, dest="directory", default=pathlib.Path.cwd(),
                        help=argparse.SUPPRESS)  # where ./dev was called
    parser.add_argument("--jobs", type=positive, metavar="J", default=os.cpu_count() or 1,
                        help="mutants at a time (default: one a core)")
    chosen = parser.parse_args()
    if chosen.seed is not None and chosen.sample is None:
        parser.error(f"--seed {chosen.seed} is of --sample, which is not given")
    if chosen.json is not None:
        if chosen.list or chosen.check:
            parser.error("--json is of a run: not with --list or --check")
        chosen.json = chosen.directory / chosen.json
        try:
            chosen.json.open("a").close()  # now, and not after the run
        except OSError as trouble:
            parser.error(f"--json {chosen.json}: {trouble.strerror}")
    return chosen


def read_all() -> tuple[list[mutants.Mutant], list[str]]:
    """The usable ones, in the order of their names; and what is wrong with the others."""
    usable, faults = [], []
    for patch in sorted(HERE.glob("**/*.patch")):
        try:
            one = mutants.read(patch)
            if patch.parent.parent != HERE:
                raise mutants.Unusable("its place must be tests/mutants/<area>/<name>.patch")
            mutants.check(one, ROOT)
            usable.append(one)
        except mutants.Unusable as why:
            faults.append(f"{patch.relative_to(ROOT)}: {why}")
    seen: dict[tuple[mutants.Hunk, ...], str] = {}
    for one in usable:
        if one.hunks in seen:
            faults.append(f"{one.title} and {seen[one.hunks]} are the same change")
        seen[one.hunks] = one.title
    return usable, faults


class Run:
    """The unchanged sources, on which every named test must pass, and a tree for each worker."""

    def __init__(self, selected: list[mutants.Mutant], jobs: int) -> None:
        self._selected, self._jobs = selected, jobs
        self._unchanged = build.Tree(ROOT, SCRATCH / "unchanged")
        self._seconds: dict[str, float] = {}  # of each test, unchanged
        self._program: pathlib.Path | None = None

    def prepare(self) -> None:
        """Exits where a test fails without any defect: it would seem to notice all of them."""
        tests = sorted({test for one in self._selected for test in one.tests})
        sources = list(dict.fromkeys(s for test in tests for s in self._unchanged.sources_of(test)))
        programs = self._unchanged.program_sources() if any(t.startswith("tools.") for t in tests) else []
        try:
            all_sources = list(dict.fromkeys([build.FLASH, *sources, *programs]))  # the longest first
            print(f"compiling {len(all_sources)} sources without a defect, with {build.compiler()}",
                  flush=True)
            self._unchanged.precompile()
            with concurrent.futures.ThreadPoolExecutor(self._jobs) as pool:
                objects = dict(zip(all_sources, pool.map(self._unchanged.compile, all_sources)))
            if programs:
                self._program = self._unchanged.link([objects[s] for s in programs], "seqpar")
            for test in tests:
                self._unchanged.link([objects[s] for s in self._unchanged.sources_of(test)], test)
        except build.Failed as why:
            sys.exit(f"the tests cannot be built without a defect:\n{str(why)[-4000:]}")
        with concurrent.futures.ThreadPoolExecutor(self._jobs) as pool:
            runs = list(pool.map(lambda test: self._unchanged.run(
                self._unchanged.where / "built" / test, self._program, 600), tests))
        for test, (status, text, seconds) in zip(tests, runs):
            if status != 0:
                sys.exit(f"{test} fails without a defect, so it says nothing of any:\n{text[-4000:]}")
            self._seconds[test] = seconds
        print(f"{len(tests)} tests pass without a defect", flush=True)

    def verdicts(self) -> Iterator[Verdict]:
        """Of each mutant, in their order, as they come."""
        unchanged = self._unchanged.where  # and not ROOT, which may be worked on meanwhile
        trees: queue.Queue[build.Tree] = queue.Queue()
        for n in range(min(self._jobs, len(self._selected))):
            trees.put(build.Tree(unchanged, SCRATCH / f"worker{n + 1}", self._unchanged))

        def judged(one: mutants.Mutant) -> Verdict:
            tree = trees.get()
            begin = time.monotonic()
            try:
                tree.plant(one.changed(unchanged))
                verdict = self._judge(one, tree)
            finally:
                tree.restore(one.files)
                trees.put(tree)
            verdict.seconds = time.monotonic() - begin
            return verdict

        with concurrent.futures.ThreadPoolExecutor(self._jobs) as pool:
            yield from pool.map(judged, self._selected)

    def _judge(self, one: mutants.Mutant, tree: build.Tree) -> Verdict:
        for test in one.tests:
            try:
                objects, new = tree.objects(tree.sources_of(test), one.files)
                program = self._program
                if test.startswith("tools."):
                    parts, new_program = tree.objects(tree.program_sources(), one.files)
                    if new_program:
                        program = tree.link(parts, "seqpar")
                    new = new or new_program
                if not new:
                    return Verdict("NOT INCLUDED", text=f"{test} is not made of any file that this changes")
                binary = tree.link(objects, test)
            except build.Failed as why:
                return Verdict("DOES NOT COMPILE", text=str(why))
            # Loops that a defect makes longer and a machine that is busy are no hang.
            status, _, _ = tree.run(binary, program, 20 + 5 * self._seconds[test])
            if status is None:
                return Verdict(KILLED, f"{test}, which hung")
            if status != 0:
                return Verdict(KILLED, test if status > 0 else f"{test}, by signal {-status}")
        return Verdict("SURVIVED", text=f"{', '.join(one.tests)} did not notice: {one.what}")


def print_score(of: list[tuple[mutants.Mutant, Verdict]], seconds: float) -> None:
    areas: dict[str, list[bool]] = collections.defaultdict(list)
    for one, verdict in of:
        areas[one.area].append(verdict.outcome == KILLED)
    width = max(map(len, areas))
    print()
    for area, killed in sorted(areas.items()):
        print(f"  {area:{width}}  {sum(killed):3} of {len(killed):3}")
    killed = sum(verdict.outcome == KILLED for _, verdict in of)
    used = os.times()
    print(f"\n{killed} of {len(of)} mutants killed, in {seconds / 60:.1f} minutes"
          f" ({(used.children_user + used.children_system) / 60:.1f} of one core)", flush=True)


def main() -> int:
    chosen = arguments()
    begin = time.monotonic()
    usable, faults = read_all()
    for fault in faults:
        print(f"mutants: {fault}", file=sys.stderr)
    if chosen.check:
        print(f"{len(usable)} mutants apply, {len(faults)} faults")
        return 1 if faults or not usable else 0
    if faults:
        return 1

    selected = [one for one in usable if chosen.only is None or chosen.only.search(one.title)]
    if not selected:
        print(f"mutants: --only {chosen.only.pattern} matches none: --list names them" if chosen.only
              else "mutants: there are none", file=sys.stderr)
        return 2
    if chosen.sample is not None and chosen.sample < len(selected):
        lot = random.Random(1 if chosen.seed is None else chosen.seed).sample(selected, chosen.sample)
        selected = [one for one in selected if one in lot]
    if chosen.list:
        for one in selected:
            print(f"{one.title}: {one.what} [{' '.join(one.tests)}]")
        return 0

    unseen = [one for one in selected if one.needs and not build.processor_has(one.needs)]
    if unseen:
        print(f"without {len(unseen)} in code that this processor cannot run: "
              + ", ".join(f"{one.title} ({one.needs})" for one in unseen), flush=True)
        selected = [one for one in selected if one not in unseen]
    lacking = {test: what for one in selected for test in one.tests if (what := build.missing(ROOT, test))}
    for test, what in sorted(lacking.items()):
        print(f"without {test}: {what} is not found", flush=True)
    selected = [dataclasses.replace(one, tests=tests) for one in selected
                if (tests := tuple(test for test in one.tests if test not in lacking))]
    if not selected:
        print("mutants: no test of those that are wanted can be built here", file=sys.stderr)
        return 2

    SCRATCH.mkdir(parents=True, exist_ok=True)
    lock = (SCRATCH / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"mutants: another run is under way in {SCRATCH}", file=sys.stderr)
        return 2
    run = Run(selected, chosen.jobs)
    run.prepare()
    done: list[tuple[mutants.Mutant, Verdict]] = []
    width = max(len(one.title) for one in selected)
    for one, verdict in zip(selected, run.verdicts()):
        done.append((one, verdict))
        said = f"killed by {verdict.by}" if verdict.outcome == KILLED else verdict.outcome
        print(f"[{len(done):3}/{len(selected)}] {one.title:{width}}  {said} ({verdict.seconds:.1f} s)", flush=True)
        if verdict.text:
            print("    " + "\n    ".join(verdict.text.rstrip().splitlines()[:20]), flush=True)
    print_score(done, time.monotonic() - begin)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(
            [{"mutant": one.title, "what": one.what, "tests": one.tests, "outcome": verdict.outcome, "by": verdict.by,
              "seconds": round(verdict.seconds, 1)} for one, verdict in done], indent=1) + "\n")
    return 0 if all(verdict.outcome == KILLED for _, verdict in done) else 1


def interrupted(_number: int, _frame: object) -> None:
    build.processes.end()  # first: the pool waits for its threads, and they for these
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, interrupted)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("mutants: interrupted", file=sys.stderr)
        sys.exit(130)
