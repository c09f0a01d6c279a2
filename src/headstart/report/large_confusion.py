"""The confusion matrix of many classes: one picture, with as many names as there is room for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.report.plots import ConfusionPlot
from headstart.report.style import MUTED, NARROW_INCHES, SHADE, VAL, WIDE_INCHES
from headstart.report.text import count

_NAME_LETTERS, _NARROW_NAME_LETTERS = 22, 14
_NAME_POINTS = 5.0
_LINE_POINTS = 5.3  # names closer than this overlap
_MOST_INCHES = 5.4  # of the height: the page keeps room for text
_FAINTEST = 0.22  # opacity of one sample among very many: it must be seen on paper
_TICKS = (0.01, 0.04, 0.1, 0.25, 0.5, 1.0)

Floats = NDArray[np.float64]


def draw(figure: Any, plot: ConfusionPlot, shares: Floats, narrow: bool) -> None:
    """Draw the matrix: right answers in one hue, mistakes in another, rare ones lifted by a root.

    Args:
        figure: An empty Matplotlib figure.
        plot: The data.
        shares: The matrix in shares of the true class, [n, n].
        narrow: Whether it is for a phone.
    """
    n = len(plot.classes)
    width = NARROW_INCHES if narrow else WIDE_INCHES
    roomy = min(3.6, 0.17 * n)
    height = min(_MOST_INCHES * (0.62 if narrow else 1.0), max(roomy, _LINE_POINTS * n / 72))
    figure.set_size_inches(min(width, height + 2.4), height + 0.5)
    axes = figure.subplots()
    axes.imshow(picture(shares), interpolation="nearest", aspect="auto")
    named = chosen_names(errors_of(plot.matrix), max(1, int(72 * height / _LINE_POINTS)))
    letters = _NARROW_NAME_LETTERS if narrow else _NAME_LETTERS
    names = [_short(plot.classes[i], letters) for i in named]
    size = min(7.0, max(_NAME_POINTS, 0.75 * 72 * height / n))
    axes.set_yticks(named, names, fontsize=size)
    axes.set_xticks([])
    axes.tick_params(length=1.5, pad=1.5)
    axes.set_xlabel("predicted class" + ("" if narrow else f" (all {count(n)}, in the same order)"))
    axes.set_ylabel("true class")
    _box(axes)
    _scale(axes)
    _legend(figure)


def picture(shares: Floats) -> Floats:
    """Return the matrix as a picture.

    Args:
        shares: Shares of the true class, [n, n], each in [0, 1].

    Returns:
        RGBA in [0, 1], [n, n, 4]: a hue for the diagonal and one for mistakes; empty cells are
        transparent, so that the same picture serves light and dark pages.
    """
    colours = np.where(np.eye(len(shares), dtype=bool)[..., None], _rgb(SHADE), _rgb(VAL))
    return np.concatenate([colours, _opacity(shares)[..., None]], axis=2)


def errors_of(matrix: Sequence[Sequence[int]]) -> list[int]:
    """Return in how many mistakes each class has a part, as the true class or as the predicted."""
    counts = np.asarray(matrix, dtype=np.int64)
    return [int(n) for n in counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)]


def chosen_names(errors: Sequence[int], room: int) -> list[int]:
    """Return which classes are named where there is no room for all.

    Args:
        errors: How many mistakes each class has a part in, in the order of the rows.
        room: How many names fit below each other.

    Returns:
        Positions, ascending, at least n / room rows apart: those with the most mistakes first,
        then what still fits.
    """
    n = len(errors)
    apart = max(1.0, n / room)
    chosen: list[int] = []
    for i in sorted(range(n), key=lambda i: (-errors[i], i)):
        if all(abs(i - other) >= apart for other in chosen):
            chosen.append(i)
    return sorted(chosen)


def _opacity(shares: Floats) -> Floats:
    lifted: Floats = np.where(shares > 0, _FAINTEST + (1 - _FAINTEST) * np.sqrt(shares), 0.0)
    return lifted


def _scale(axes: Any) -> None:
    """Draw what the shades mean: two strips, mistakes and right answers, on one axis of roots."""
    scale = axes.inset_axes((1.03, 0.0, 0.05, 1.0))
    shades = _opacity(np.linspace(1, 0, 100) ** 2)
    strips = np.empty((100, 2, 4))
    for column, colour in enumerate((VAL, SHADE)):
        strips[:, column, :3] = _rgb(colour)
        strips[:, column, 3] = shades
    scale.imshow(strips, aspect="auto", extent=(0, 2, 0, 1))
    scale.set_xticks([])
    scale.set_yticks([float(np.sqrt(t)) for t in _TICKS], [f"{100 * t:g}" for t in _TICKS])
    scale.tick_params(length=1.5, pad=1.5)
    scale.yaxis.tick_right()
    scale.yaxis.set_label_position("right")
    scale.set_ylabel("share of the true class, %")
    _box(scale)


def _legend(figure: Any) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=SHADE), Patch(facecolor=VAL)]
    figure.legend(handles, ["right", "taken for another"], loc="outside upper center", ncols=2)


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _box(axes: Any) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(MUTED)
