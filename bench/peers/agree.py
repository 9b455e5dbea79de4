"""Whether two programs computed the same."""

from __future__ import annotations

import pathlib

import numpy


def tolerances(request: dict, inputs: pathlib.Path) -> tuple[float, float]:
    """What two results may differ by: (relative to the largest element of a row, absolute).

    A result is a sum of n weighted rows, and each weight has a relative error. Of it, in the accumulation type with unit
    roundoff u: a score is a sum of d products and its error u sqrt(d) |score| at a confidence that eight times covers, exp
    turns it into a relative one of the weight, and sums over n add u sqrt(n). bfloat16 rounds weights (PyTorch) and
    results by 2^-9 each. |score| <= scale |q| |k|.

    Of a gradient the weights are P (dP - delta), where dP = dout . v has the error u |dout| |v| likewise, which does not
    become smaller where dP and delta cancel: that part is absolute. It is weighted by P and multiplied by scale and the
    elements of k or q.
    """
    u = 2.0**-53 if request["type"] == "double" else 2.0**-24
    d, n = request["dim"], max(request["tokens"], request.get("keys", 0))

    def norm(name: str) -> float:
        x = numpy.load(inputs / f"{name}.npy", mmap_mode="r")
        return float(numpy.sqrt(numpy.max(numpy.einsum("bshd,bshd->bsh", x, x))))

    def largest(name: str) -> float:
        return float(numpy.max(numpy.abs(numpy.load(inputs / f"{name}.npy", mmap_mode="r"))))

    error = u * (d**0.5 * norm("q") * norm("k") / d**0.5 + n**0.5)
    if request["type"] == "bfloat16":
        error += 2 * 2.0**-9
    absolute = 0.0
    if request["work"].endswith("backward"):
        absolute = u * norm("dout") * norm("v") * max(largest("q"), largest("k")) / d**0.5
    return 8 * error, 8 * absolute


def difference(ours: pathlib.Path, theirs: pathlib.Path, request: dict, inputs: pathlib.Path) -> str | None:
    """Says where the files of two directories differ by more than they may; None if nowhere."""
    relative, absolute = tolerances(request, inputs)
    names = ("dq", "dk", "dv") if request["work"].endswith("backward") else ("out",)
    for name in names:
        a, b = numpy.load(ours / f"{name}.npy"), numpy.load(theirs / f"{name}.npy")
        if a.shape != b.shape:
            return f"{name}: ours is {a.shape}, the peer's {b.shape}"
        allowed = relative * numpy.max(numpy.abs(a), axis=-1, keepdims=True) + absolute
        excess = numpy.abs(a - b) - allowed
        if not numpy.all(excess <= 0):  # NaN is no agreement
            at = tuple(int(i) for i in numpy.unravel_index(numpy.argmax(numpy.nan_to_num(excess, nan=numpy.inf)), a.shape))
            return (f"{name}{list(at)}: ours {a[at]:.9g}, the peer's {b[at]:.9g}, allowed difference "
                    f"{float(allowed[at[:-1]].item()):.3g}")
    return None
