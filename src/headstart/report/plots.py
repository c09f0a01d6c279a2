"""The data behind each chart, as frozen records: drawn by `charts`, built by `plotting`."""

from dataclasses import dataclass

from headstart.report.text import Measured


@dataclass(frozen=True, slots=True)
class Curve:
    """One line over epochs; values that are not finite are None."""

    epochs: tuple[int, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class CurvePanel:
    """Loss and accuracy of one model.

    Attributes:
        title: Above the panel.
        loss: Curves by split, ``train`` and ``val``.
        accuracy: Curves by split; none where the models have no accuracy.
        boundaries: Last epochs of all training stages but the last.
        kept_epochs: The epoch of each stage whose weights were kept.
        diverged: Whether training broke down.
        stages: Names of the training stages, where there are several.
    """

    title: str
    loss: tuple[tuple[str, Curve], ...]
    accuracy: tuple[tuple[str, Curve], ...]
    boundaries: tuple[int, ...] = ()
    kept_epochs: tuple[int, ...] = ()
    diverged: bool = False
    stages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CurvesPlot:
    """Small multiples: one column per model, loss above accuracy, axes shared.

    Attributes:
        panels: The models.
        loss: What is drawn as the loss.
    """

    panels: tuple[CurvePanel, ...]
    loss: str = "loss"


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One member of a sweep over one setting; `score` is None where it diverged."""

    value: float
    score: Measured | None
    best: bool


@dataclass(frozen=True, slots=True)
class SweepPanel:
    """A sweep over one setting."""

    title: str
    axis: str
    points: tuple[SweepPoint, ...]


@dataclass(frozen=True, slots=True)
class SweepPlot:
    """Sweeps over one setting each, side by side, the axis of the score shared.

    Attributes:
        panels: The sweeps.
        metric: What the scores are.
        scale: What they are multiplied by: 100 for shares that are shown per cent.
    """

    panels: tuple[SweepPanel, ...]
    metric: str
    scale: float = 100.0


@dataclass(frozen=True, slots=True)
class HeatPlot:
    """A sweep over two settings as a heat map.

    Attributes:
        title: Above the map.
        x_axis: Name of the setting along the columns.
        y_axis: Name of the setting along the rows.
        x_values: Texts along the columns.
        y_values: Texts along the rows.
        cells: Scores, one tuple per row; None where a member diverged or is missing.
        best: Row and column of the best, or None.
        metric: What the cells show.
        shares: Whether they are shares, written per cent.
    """

    title: str
    x_axis: str
    y_axis: str
    x_values: tuple[str, ...]
    y_values: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]
    best: tuple[int, int] | None
    metric: str
    shares: bool = True


@dataclass(frozen=True, slots=True)
class RankPlot:
    """A sweep over three settings or more: its members in order of their score.

    Attributes:
        labels: The members' settings in words.
        scores: Their scores.
        metric: What the scores are.
        scale: What they are multiplied by.
    """

    labels: tuple[str, ...]
    scores: tuple[Measured, ...]
    metric: str
    scale: float = 100.0


@dataclass(frozen=True, slots=True)
class LabelsSeries:
    """One line of a learning curve: (labels per class, score), ascending."""

    title: str
    points: tuple[tuple[int, Measured], ...]


@dataclass(frozen=True, slots=True)
class LabelsPlot:
    """Accuracy against the number of labels per class."""

    series: tuple[LabelsSeries, ...]
    metric: str


@dataclass(frozen=True, slots=True)
class ConfusionPlot:
    """How often each class (row) was taken for each class (column)."""

    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class TimeBar:
    """Where one model's seconds went."""

    title: str
    extraction_seconds: float
    other_seconds: float


@dataclass(frozen=True, slots=True)
class TimePlot:
    """Times of models side by side; bars come in pairs that do the same work."""

    bars: tuple[TimeBar, ...]


@dataclass(frozen=True, slots=True)
class CostPoint:
    """One model among those whose accuracy is held against their cost.

    Attributes:
        title: Its name for people.
        cost: What it costs, greater than 0.
        score: Its accuracy.
        front: Whether no other model is at least as good in both and better in one.
        ensemble: Whether it is a vote of others.
    """

    title: str
    cost: float
    score: Measured
    front: bool
    ensemble: bool = False


@dataclass(frozen=True, slots=True)
class CostPlot:
    """Accuracy against cost, the front of best trades marked; the axis of cost is logarithmic."""

    points: tuple[CostPoint, ...]
    axis: str
    metric: str


@dataclass(frozen=True, slots=True)
class TraceSeries:
    """One model's training loss: (optimiser steps, mean loss since the point before)."""

    title: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class TracePlot:
    """Training losses of several models over the optimiser's steps."""

    series: tuple[TraceSeries, ...]
    metric: str


@dataclass(frozen=True, slots=True)
class EstimatePlot:
    """What a regression predicts against what is true: (true, predicted)."""

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """How accuracy grows with the number of training labels.

    Attributes:
        title: Its name in the legend.
        points: What was measured: (labels, mean accuracy, standard deviation or None), ascending.
        fitted: The fitted law over the measured span, (labels, accuracy).
        beyond: Its extrapolation, (labels, accuracy).
        expected: The accuracies that are forecast, with their intervals.
        band: (labels, low, high) of the shaded band.
    """

    title: str
    points: tuple[tuple[int, float, float | None], ...]
    fitted: tuple[tuple[float, float], ...] = ()
    beyond: tuple[tuple[float, float], ...] = ()
    expected: tuple[tuple[int, Measured], ...] = ()
    band: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class LearningCurvesPlot:
    """Learning curves of several backbones on one pair of axes."""

    curves: tuple[LearningCurve, ...]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The answers of one range of confidence.

    Attributes:
        low: Least confidence of the range.
        high: Largest confidence of the range.
        n: How many answers are in it, at least 1.
        confidence: Their mean confidence.
        accuracy: The share of them that is right.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class ReliabilityPanel:
    """The bins of one model at one temperature, ascending; empty ones are left out."""

    title: str
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class ReliabilityPlot:
    """Accuracy against confidence, with the number of answers below: panels side by side."""

    panels: tuple[ReliabilityPanel, ...]


Plot = (
    CurvesPlot
    | SweepPlot
    | HeatPlot
    | RankPlot
    | LabelsPlot
    | ConfusionPlot
    | TimePlot
    | CostPlot
    | TracePlot
    | EstimatePlot
    | LearningCurvesPlot
    | ReliabilityPlot
)
