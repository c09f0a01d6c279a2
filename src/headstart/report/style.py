"""How charts look: faces, sizes and a palette that colour-blind readers and grey printers share.

Lines differ in colour, dash and marker, so that no reading rests on colour alone. Each colour has
one role; in HTML a role becomes a CSS variable, which is how one drawing serves light and dark.
"""

from collections.abc import Mapping
from types import MappingProxyType

INK = "#1b1b1b"  # text and best values
MUTED = "#5c5c5c"  # axes, ticks, annotations
GRID = "#dadada"
PAPER = "#fefefe"  # inside open markers
TRAIN = "#0067a5"  # blue
VAL = "#c14f00"  # vermilion: tells from blue under every common colour blindness
SHADE = "#1f6cb0"  # heat maps: one hue whose opacity is the value
ON_SHADE = "#fdfdfd"  # text on dark cells

CSS_NAMES: Mapping[str, str] = MappingProxyType(
    {
        INK: "currentColor",
        MUTED: "var(--chart-muted)",
        GRID: "var(--chart-grid)",
        PAPER: "var(--chart-paper)",
        TRAIN: "var(--chart-blue)",
        VAL: "var(--chart-orange)",
        SHADE: "var(--chart-shade)",
        ON_SHADE: "#fff",
    }
)

WIDE_INCHES = 6.3  # the width of the text on A4: type in charts is as large as it says
NARROW_INCHES = 3.2

RC: Mapping[str, object] = MappingProxyType(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "headstart",
        "text.parse_math": False,
        "text.usetex": False,
        "text.color": INK,
        "font.family": ["DejaVu Sans"],  # comes with Matplotlib; wider than what will be shown
        "font.size": 8.0,
        "axes.titlesize": 8.0,
        "axes.titleweight": "normal",
        "axes.titlepad": 5.0,
        "axes.labelsize": 8.0,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "grid.color": GRID,
        "grid.linewidth": 0.5,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "hatch.linewidth": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 8.0,
        "legend.handlelength": 2.6,
        "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.04,
    }
)
