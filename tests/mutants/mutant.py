"""A mutant: a small defect, as a unified diff with a header that says what it breaks and which tests should notice."""

from __future__ import annotations

import dataclasses
import pathlib
import re


class Unusable(Exception):
    """A mutant that cannot be used: what is wrong with its file, or that it does not fit the sources any more."""


@dataclasses.dataclass(frozen=True)
class Hunk:
    path: str
    before: str
    """The lines that are replaced, with their context; they must be found exactly once."""
    after: str


@dataclasses.dataclass(frozen=True)
class Mutant:
    area: str
    name: str
    what: str
    tests: tuple[str, ...]
    hunks: tuple[Hunk, ...]
    needs: str = ""
    """A flag of the processor, as /proc/cpuinfo names it, without which its code does not run."""

    @property
    def title(self) -> str:
        return f"{self.area}/{self.name}"

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(hunk.path for hunk in self.hunks))

    def changed(self, root: pathlib.Path) -> dict[str, str]:
        """The text of each file with the defect in it. Throws Unusable where the patch does not apply."""
        texts: dict[str, str] = {}
        for hunk in self.hunks:
            if hunk.path not in texts:
                try:
                    texts[hunk.path] = (root / hunk.path).read_text()
                except OSError as trouble:
                    raise Unusable(f"{hunk.path}: {trouble.strerror}") from trouble
            # Whole lines; and one place only: a defect must not move to another one when the file changes.
            text = "\n" + texts[hunk.path]
            found = text.count("\n" + hunk.before)
            if found != 1:
                raise Unusable(f"its lines occur {found} times in {hunk.path}, and not once:\n{hunk.before.rstrip()}")
            texts[hunk.path] = text.replace("\n" + hunk.before, "\n" + hunk.after)[1:]
        return texts


def source_of(test: str) -> str:
    """Where the test program <room>.<name> is."""
    room, name = test.split(".")
    return f"tests/{room}/test_{name}.cpp"


def _hunks(diff: str) -> tuple[Hunk, ...]:
    hunks: list[Hunk] = []
    path, before, after = "", "", ""
    left = [0, 0]  # lines of the hunk that are still to come, of the old and of the new text
    for number, line in enumerate(diff.splitlines(keepends=True), 1):
        if left == [0, 0]:
            if line.startswith("+++ b/"):
                path = line[6:].strip()
            elif match := re.match(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@", line):
                left = [int(count) if count is not None else 1 for count in match.groups()]
                before = after = ""
            elif not line.startswith(("--- a/", "diff ", "index ")) and line.strip():
                raise Unusable(f"line {number} of its diff is none of a unified diff: {line.strip()}")
            continue
        kind, rest = (line[0], line[1:]) if line.strip() else (" ", "\n")
        if kind not in " +-":
            raise Unusable(f"line {number} of its diff is none of a hunk: {line.strip()}")
        if kind in " -":
            before, left[0] = before + rest, left[0] - 1
        if kind in " +":
            after, left[1] = after + rest, left[1] - 1
        if min(left) < 0:
            raise Unusable(f"a hunk of {path} is longer than its first line says")
        if left == [0, 0]:
            hunks.append(Hunk(path, before, after))
    if left != [0, 0]:
        raise Unusable(f"the last hunk of {path} is shorter than its first line says")
    return tuple(hunks)


def read(patch: pathlib.Path) -> Mutant:
    """Throws Unusable where the file is not what CONTRIBUTING.md says of one."""
    header, separator, diff = patch.read_text().partition("--- a/")
    lines = dict(line.split(": ", 1) for line in header.splitlines() if ": " in line)
    for key in ("What", "Tests"):
        if not lines.get(key, "").strip():
            raise Unusable(f"its header has no line '{key}: ...'")
    for test in lines["Tests"].split():
        if not re.fullmatch(r"\w+\.\w+", test):
            raise Unusable(f"'{test}' is no name of a test: they are as kernel.flash, of tests/kernel/test_flash.cpp")
    mutant = Mutant(patch.parent.name, patch.stem, lines["What"].strip(), tuple(lines["Tests"].split()),
                    _hunks(separator + diff), lines.get("Needs", "").strip())
    if not mutant.hunks:
        raise Unusable("it has no diff")
    for path in mutant.files:
        if not path.startswith(("include/", "tools/")):
            raise Unusable(f"it changes {path}: mutants are defects of include/ and tools/, not of the tests")
    return mutant


def check(mutant: Mutant, root: pathlib.Path) -> None:
    """Throws Unusable where it does not apply or changes nothing, or a test is not there or not run."""
    for path, text in mutant.changed(root).items():
        if text == (root / path).read_text():
            raise Unusable(f"it changes nothing in {path}")
    for test in mutant.tests:
        if not (root / source_of(test)).is_file():
            raise Unusable(f"the test {test} does not exist: there is no {source_of(test)}")
