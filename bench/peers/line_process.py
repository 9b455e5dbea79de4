"""A program that answers a line of JSON with a line of JSON, and goes when its input ends."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import threading


class Trouble(Exception):
    """What the program said went wrong, or that it is gone."""


class LineProcess:
    def __init__(self, name: str, command: list[str], log: pathlib.Path, environment: dict[str, str] | None = None):
        self.name = name
        self._log = log
        with open(log, "wb") as errors:
            # A session of its own: Ctrl-C is for the driver, which then ends them all.
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                             env={**os.environ, **(environment or {})}, start_new_session=True)

    def ask(self, timeout: float = 300, **request) -> dict:
        """The answer. Raises Trouble if there is none in time."""
        watchdog = threading.Timer(timeout, self._kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = b""
        finally:
            watchdog.cancel()
        if not line:
            raise Trouble(f"{self.name} has ended: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Trouble(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Lets it go; ends what does not."""
        try:
            self._process.stdin.close()
        except OSError:
            pass
        for seconds, number in ((3, signal.SIGTERM), (5, signal.SIGKILL)):
            try:
                self._process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                self._signal(number)
        self._process.wait()
        self._process.stdout.close()

    def _kill(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        wrong = [line for line in lines if "Error" in line]
        return f"{(wrong or lines or ['it said nothing'])[-1].strip()} (see {self._log})"


def serve(answer, read, write) -> None:
    """The other side: answer(request) for each line until read() gives none."""
    while line := read():
        try:
            said = answer(json.loads(line))
        except Exception as why:  # whatever it is, the driver is to know and go on
            said = {"error": f"{type(why).__name__}: {why}"}
        write(json.dumps(said) + "\n")


def own_standard_output():
    """A file for answers; what libraries print goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers
