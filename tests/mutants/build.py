"""Compiles test programs of copies of the sources, unoptimised, and runs them."""

from __future__ import annotations

import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

import mutant as mutants

COPIED = ("include", "tests", "tools", "examples")
#: AMX's instructions are C++ here, so that its code runs wherever AVX-512 has products of bfloat16.
FLAGS = ("-std=c++20", "-O0", "-w", "-pthread", "-Itests/emulated", "-Iinclude", "-Itests")
PROGRAM = "tools/seqpar"  # what tests of the room tools run
MAIN, MPI_MAIN = "tests/support/catch_main.cpp", "tests/support/catch_mpi_main.cpp"
MPI_RUN = ("mpirun", "-n", "4")  # what tests of the room mpi run under, with ./dev's settings of OpenMPI
#: The kernel flash, compiled once for all tests, and again where a defect reaches it.
FLASH, FLASH_TEXT = "flash.cpp", "#include <seqpar/kernel/flash/compiled.hpp>\n"
#: What no defect changes, the headers of others, is read once and not by each source. The tests' main functions define what
#: Catch2 shall be before they include it.
FOREIGN = "foreign.hpp"
FOREIGN_LIBRARIES = ("support/catch.hpp", "CLI/CLI.hpp", "fmt/format.h", "nlohmann/json.hpp")
# Read when a test starts, so that one test program serves all copies.
PLACES = {
    "SEQPAR_TEST_PROGRAM": "PROGRAM",
    "SEQPAR_TEST_PROGRAM_MPI": "NOTHING",
    "SEQPAR_TEST_BENCH_WORKER": "NOTHING",
    "SEQPAR_TEST_BENCH_WORKER_MPI": "NOTHING",
    "SEQPAR_TEST_FAILING_JOB": "NOTHING",
    "SEQPAR_TEST_MPIEXEC": "NOTHING",
    "SEQPAR_TEST_DATA": "DATA",
}


IDLE = 15  # seconds in which a test that does not hang does something


class Failed(Exception):
    """A compiler or linker failed, and what it said."""


def processor_ticks(session: int) -> int:
    """The processor's time that the processes of a session have used up to now."""
    total = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # from the third one, its state, on
        except OSError:  # has ended
            continue
        if int(fields[3]) == session:
            total += sum(map(int, fields[11:15]))  # its own and that of children that have ended
    return total


class _Processes:
    """All that run, so that an interrupt ends them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # an interrupt may come while the main thread holds it
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False

    def run(self, command: list[str], cwd: pathlib.Path, timeout: float,
            env: dict[str, str] | None = None) -> tuple[int | None, str]:
        """Exit status, None where it ran out of time or waits for ever, and its last words. What it has started ends with
        it."""
        with self._lock:
            if self._ended:
                raise KeyboardInterrupt
            process = subprocess.Popen(command, cwd=cwd, env=env, text=True, errors="replace", start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self._running.add(process)
        try:
            return self._end_of(process, timeout)
        finally:
            with self._lock:
                self._running.discard(process)

    def _end_of(self, process: subprocess.Popen[str], timeout: float) -> tuple[int | None, str]:
        now = time.monotonic()
        end, worked, ticks = now + timeout, now, 0
        while now < end and now - worked < IDLE:
            try:
                text, _ = process.communicate(timeout=min(3, end - now))
                return process.returncode, text
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                if (more := processor_ticks(process.pid)) != ticks:
                    worked, ticks = now, more
        self._kill(process)
        return None, process.communicate()[0]

    def end(self) -> None:
        with self._lock:
            self._ended = True
            for process in self._running:
                self._kill(process)

    @staticmethod
    def _kill(process: subprocess.Popen[str]) -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


processes = _Processes()


def compiler() -> str:
    """clang++ compiles these programs unoptimised twice as fast as g++ does."""
    for name in ("clang++", "g++"):
        if found := shutil.which(name):
            return found
    raise Failed("neither clang++ nor g++ is found")


@functools.cache
def processor_has(flag: str) -> bool:
    try:
        return flag in pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False


@functools.cache
def mpi_flags(step: str) -> list[str]:
    """What OpenMPI's compiler adds to `compile` or to `link`; nothing where it is missing."""
    if not shutil.which("mpicxx") or not shutil.which("mpirun"):
        return []
    status, text = processes.run(["mpicxx", f"--showme:{step}"], pathlib.Path.cwd(), 60)
    return text.split() if status == 0 else []


@functools.cache
def simgrid_is_there() -> bool:
    probe = [compiler(), "-std=c++20", "-w", "-fsyntax-only", "-x", "c++", "-include", "simgrid/s4u.hpp", "/dev/null"]
    return processes.run(probe, pathlib.Path.cwd(), 60)[0] == 0


def missing(root: pathlib.Path, test: str) -> str:
    """What a test is written for and this machine has not; empty if it can be built."""
    text = (root / mutants.source_of(test)).read_text()
    simulates = re.search(r"#include <seqpar/(comm/simgrid[./]|planning/simulate\.hpp)", text)
    if simulates and not simgrid_is_there():
        return "SimGrid (Debian: libsimgrid-dev)"
    if test.startswith("mpi.") and not mpi_flags("link"):
        return "OpenMPI (Debian: libboost-mpi-dev, openmpi-bin)"
    return ""


class Tree:
    """A copy of the sources, and what is compiled of it. One thread works in one tree."""

    def __init__(self, root: pathlib.Path, where: pathlib.Path, unchanged: Tree | None = None) -> None:
        self.root, self.where = root, where
        self.unchanged = unchanged  # the tree without a defect: what a defect does not reach is taken from there
        shutil.rmtree(where, ignore_errors=True)
        (where / "built").mkdir(parents=True)
        for name in COPIED:
            shutil.copytree(root / name, where / name, ignore=shutil.ignore_patterns("mutants", "consumers"))
        (where / FLASH).write_text(FLASH_TEXT)

    # ---- sources ---------------------------------------------------------------------------------------------------

    def plant(self, texts: dict[str, str]) -> None:
        for path, text in texts.items():
            (self.where / path).write_text(text)

    def restore(self, paths: tuple[str, ...]) -> None:
        for path in paths:
            shutil.copyfile(self.root / path, self.where / path)

    def sources_of(self, test: str) -> list[str]:  # as tests/CMakeLists.txt has it
        own = mutants.source_of(test)
        sources = [MPI_MAIN if test.startswith("mpi.") else MAIN, own]
        if re.search(r'#include "[./]*tools/seqpar/', (self.where / own).read_text()):
            sources += [path for path in self.program_sources()
                        if not re.search(r"/(main|\w*_threads|\w*_simgrid)\.cpp$", path)]
        return list(dict.fromkeys([*sources, FLASH]))

    def program_sources(self) -> list[str]:  # as tools/CMakeLists.txt has it
        self._write_machines()
        other = "_without_simgrid" if simgrid_is_there() else "_with_simgrid"
        return [*sorted(str(path.relative_to(self.where)) for path in (self.where / PROGRAM).glob("*.cpp")
                        if "mpi" not in path.name and other not in path.name), FLASH]

    def _write_machines(self) -> None:
        here = self.where / PROGRAM
        machines = "".join(f'    {{"{path.stem}", R"json({path.read_text()})json"}},\n'
                           for path in sorted((here / "machines").glob("*.json")))
        template = (here / "shipped_machines.cpp.in").read_text()
        (here / "shipped_machines.cpp").write_text(template.replace("@shipped_machines@", machines))

    def precompile(self) -> None:
        """The headers of others, as far as they are there: those of the standard library that are included somewhere here, and
        some that are large."""
        names = {name for folder in COPIED for path in (self.where / folder).glob("**/*.[ch]pp")
                 for name in re.findall(r"^#include <(\w+)>", path.read_text(), re.MULTILINE)}
        (self.where / FOREIGN).write_text("".join(f"#if __has_include(<{name}>)\n#include <{name}>\n#endif\n"
                                                  for name in (*sorted(names), *FOREIGN_LIBRARIES)))
        self._checked([compiler(), *FLAGS, "-x", "c++-header", FOREIGN, "-o", f"{FOREIGN}.gch"])

    # ---- objects ---------------------------------------------------------------------------------------------------

    def _built(self, source: str, ending: str) -> pathlib.Path:
        return self.where / "built" / (source.replace("/", "-") + ending)

    def depends_on(self, source: str, paths: tuple[str, ...]) -> bool:
        words = self._built(source, ".d").read_text().replace("\\\n", " ").split()
        return not set(paths).isdisjoint(words)

    def compile(self, source: str) -> pathlib.Path:
        target = self._built(source, ".o")
        command = [compiler(), *FLAGS, "-MMD", "-MF", str(self._built(source, ".d")), "-c", source, "-o", str(target)]
        if source not in (MAIN, MPI_MAIN):
            command += ["-include", str((self.unchanged or self).where / FOREIGN)]
        if source != FLASH:
            command.append("-DSEQPAR_FLASH_ELSEWHERE")
        if source.startswith("tests/tools/"):
            command += ["-include", "cstdlib"]
            command += [f'-D{macro}=std::getenv("SEQPAR_MUTANT_{place}")' for macro, place in PLACES.items()]
        if source == MPI_MAIN or source.startswith("tests/mpi/"):
            command += mpi_flags("compile")
        self._checked(command)
        return target

    def objects(self, sources: list[str], changed: tuple[str, ...]) -> tuple[list[pathlib.Path], bool]:
        """Of these sources, where these files have changed; and whether any was made anew."""
        assert self.unchanged is not None
        made = [self.unchanged.depends_on(source, changed) for source in sources]
        return [self.compile(source) if new else self.unchanged._built(source, ".o")
                for source, new in zip(sources, made)], any(made)

    def link(self, objects: list[pathlib.Path], name: str) -> pathlib.Path:
        program = self.where / "built" / name
        libraries = ["-lfmt"] if any(PROGRAM.replace("/", "-") in made.name for made in objects) else []
        if any("seqpar/comm/simgrid/" in made.with_suffix(".d").read_text() for made in objects):
            libraries.append("-lsimgrid")
        if name.startswith("mpi."):
            libraries += ["-lboost_mpi", "-lboost_serialization", *mpi_flags("link")]
        self._checked([compiler(), "-pthread", *map(str, objects), "-o", str(program), *libraries])
        return program

    def _checked(self, command: list[str]) -> None:
        status, text = processes.run(command, self.where, 600)
        if status != 0:
            raise Failed(text if status is not None else "the compiler did not end in 600 s")

    # ---- tests -----------------------------------------------------------------------------------------------------

    def run(self, test: pathlib.Path, program: pathlib.Path | None, timeout: float) -> tuple[int | None, str, float]:
        """The quick cases, up to the first that fails: exit status, None where it hung, its words, and seconds."""
        scratch = self.where / f"tmp-{test.name}"
        scratch.mkdir()
        env = dict(os.environ, TMPDIR=str(scratch), SEQPAR_MUTANT_NOTHING="",
                   SEQPAR_MUTANT_DATA=str(self.where / "examples" / "data"), SEQPAR_MUTANT_PROGRAM=str(program or ""))
        command = [str(test), "~[slow]~[.]", "--abort"]
        if test.name.startswith("mpi."):
            command = [*MPI_RUN, *command]
            # mpirun's own limit comes first: it ends the ranks, while a signal to it would leave them behind.
            env["MPIEXEC_TIMEOUT"] = str(int(timeout))
            timeout += 10
        begin = time.monotonic()
        status, text = processes.run(command, self.where, timeout, env)
        shutil.rmtree(scratch, ignore_errors=True)
        return status, text, time.monotonic() - begin
