"""./dev bench --peers: our rates against the machine's limits and against PyTorch and DeepSpeed, in one run."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import tempfile

import line_process
import measure
import report
import rows
from calm import Calm

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"

# Gloo over the loop, one thread a rank. (DeepSpeed compiles its exchange through shared memory, once.)
DISTRIBUTED = {"GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench --peers", description=__doc__)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows whose work it is found in")
    parser.add_argument("--rounds", type=int, default=15, metavar="R", help="undisturbed turns of limit, ours and peer (default 15)")
    parser.add_argument("--patience", type=float, default=10, metavar="M",
                        help="minutes to wait in all while others run on the same cores (default 10)")
    parser.add_argument("--no-distributed", action="store_true", help="without the strategies")
    parser.add_argument("--programs", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="caller", type=pathlib.Path, default=pathlib.Path(), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds}: allowed is 1 or more")
    if not given.patience >= 0:
        parser.error(f"--patience {given.patience}: allowed is 0 or more")
    try:
        re.compile(given.rows)
    except re.error as why:
        parser.error(f"--rows '{given.rows}' is no regular expression: {why}")
    return given


class Programs:
    """The programs that take part, each started when it is first asked for. One that fails to start is not tried again."""

    def __init__(self, programs: pathlib.Path, logs: pathlib.Path, cores: int):
        self._programs, self._logs, self._cores = programs, logs, cores
        self._running: dict[str, line_process.LineProcess | line_process.Trouble] = {}

    def __getitem__(self, name: str) -> line_process.LineProcess:
        if name not in self._running:
            command, environment = self._command(name)
            process = None
            try:
                process = line_process.LineProcess(name, command, self._logs / f"{name}.log", environment)
                process.title = process.ask(do="describe").get("name", name)
                self._running[name] = process
            except (line_process.Trouble, OSError) as why:
                if process is not None:
                    process.close()
                self._running[name] = why if isinstance(why, line_process.Trouble) else line_process.Trouble(f"{name}: {why}")
        found = self._running[name]
        if isinstance(found, line_process.Trouble):
            raise found
        return found

    def titles(self) -> list[str]:
        return [p.title for p in self._running.values() if isinstance(p, line_process.LineProcess) and p.title != p.name]

    def close(self) -> None:
        for process in self._running.values():
            if isinstance(process, line_process.LineProcess):
                process.close()

    def _command(self, name: str) -> tuple[list[str], dict[str, str]]:
        if name == "worker":
            return [str(self._programs / "bench_worker")], {}
        if name == "worker_mpi":
            return ["mpirun", "-n", str(self._cores), str(self._programs / "bench_worker_mpi")], {}
        if name == "sdpa":
            return [sys.executable, str(HERE / "sdpa.py")], {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(self._cores), "--master-addr",
                "127.0.0.1", "--master-port", str(port), str(HERE / "distributed.py"), name], {
                    **DISTRIBUTED, "TORCH_EXTENSIONS_DIR": str(self._logs.resolve() / "extensions")}


def measure_rows(table: list[rows.Row], programs: Programs, rounds: int, patience: float,
                 scratch: pathlib.Path) -> list[measure.Measured]:
    done = []
    printed = report.Table(table)
    kernel = programs["worker"]
    calm = Calm(kernel, patience)
    for row in table:
        peer, notes = None, []
        try:
            ours = programs["worker_mpi"] if row.on_mpi else kernel
            if row.peer is not None:
                try:
                    peer = programs[row.peer]
                except line_process.Trouble as why:
                    notes.append(str(why))
            m = measure.measure(row, ours, kernel, peer, calm, rounds, scratch)
        except line_process.Trouble as why:  # ours: the row is lost, the others are not
            m = measure.Measured(row, 1, agrees=False)
            notes.append(str(why))
        m.notes[:0] = notes
        done.append(m)
        printed.add(m)
    return done


def describe(worker: line_process.LineProcess) -> tuple[dict, rows.Machine]:
    machine = worker.ask(do="describe")
    machine["flops"] = worker.ask(do="peak", type="float")["flops"]
    machine["bytes"] = worker.ask(do="bandwidth")["bytes"]
    units = 1
    if machine["vectors"] == "avx512":
        # Two 512-bit units do twice what AVX2 does; one does the same by halves.
        units += machine["flops"] > 1.5 * worker.ask(do="peak", type="float", instruction_set="avx2")["flops"]
    machine["fma_units"] = units
    return machine, rows.Machine(machine["cores"], machine["last_cache"], machine["bfloat16_products"], units == 2)


def main() -> int:
    given = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # end by way of every finally; a shell's background job ignores SIGINT
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    given.output.mkdir(parents=True, exist_ok=True)
    if given.json and not (given.caller / given.json).parent.is_dir():  # found out now, not after 15 minutes
        print(f"--json {given.json}: there is no such directory", file=sys.stderr)
        return 2
    for left in given.output.glob("scratch-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(tempfile.mkdtemp(prefix="scratch-", dir=given.output))
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        programs = Programs(given.programs, given.output, os.cpu_count() or 1)
        stack.callback(programs.close)
        machine, shape = describe(programs["worker"])
        all_rows = rows.table(shape)
        table = [row for row in all_rows
                 if re.search(given.rows, row.work) and not (given.no_distributed and row.is_distributed)]
        if not table:
            print(f"--rows '{given.rows}' is found in no row", file=sys.stderr)
            return 2
        kept = len(table) == len(all_rows)  # the whole table is worth keeping
        if kept and not report.has_place(DOCS / "performance.md", machine):  # found out now, too
            print(f"docs/performance.md has no place for a table of {machine['vectors']}, and will stay as it is", flush=True)
            kept = False
        measured = measure_rows(table, programs, given.rounds, 60 * given.patience, scratch)
        machine["peers"] = programs.titles()
    machine["date"] = datetime.date.today().isoformat()
    machine["rounds"] = given.rounds

    print(f"\n{report.machine_text(machine)}\n{sum(m.met for m in measured)} of {len(measured)} rows met")
    for path in [given.output / "peers.json"] + ([given.caller / given.json] if given.json else []):
        path.write_text(report.as_json(machine, measured))
    pictures = [given.output / "performance.svg"]
    if kept:
        report.write_markdown(DOCS / "performance.md", machine, measured)
        pictures.append(DOCS / f"performance-{machine['vectors']}.svg")
    for path in pictures:
        report.plot(path, machine, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
