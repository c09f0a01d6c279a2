"""TensorBoard: RUN/tensorboard, one sub-run for each part, and one for each member of a sweep."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart._util.imports import optional
from headstart.report.text import setting
from headstart.runs.trackers import Point, final_figures, shown_members
from headstart.types import JsonDict

FOLDER_NAME = "tensorboard"
_FINAL = "final"  # the sub-run of a part that holds its settings and final figures


class TensorBoardTracker:
    """Writes event files.

    A part that is trained again, from a checkpoint or from its beginning, yields its whole history
    again: its sub-run is written anew, so that no point is there twice.
    """

    def __init__(self) -> None:
        optional("tensorboard", "track", "showing a run in TensorBoard")
        self._folder = Path()
        self._part: str | None = None
        self._seen: set[str] = set()
        self._writers: dict[str, Any] = {}

    def start(self, folder: Path, experiment: str, settings: Mapping[str, object]) -> None:
        """Make the folder; what it held of parts that are done is kept.

        Args:
            folder: The run folder.
            experiment: Name of the study; the folder says it already.
            settings: Every setting of the study; each part's own are shown with its figures.
        """
        del experiment, settings
        self._folder = folder / FOLDER_NAME
        self._folder.mkdir(exist_ok=True)

    def log(self, point: Point) -> None:
        """Write a point to the sub-run of its part or member."""
        if point.part != self._part:
            self._close_writers()
            self._part = point.part
            if point.part not in self._seen:
                self._seen.add(point.part)
                shutil.rmtree(self._folder / point.part, ignore_errors=True)
        if point.place not in self._writers:
            self._writers[point.place] = _writer(self._folder / point.place)
        for name, value in point.figures.items():
            self._writers[point.place].add_scalar(name, value, point.step)

    def finish(self, results: JsonDict) -> None:
        """Write the settings and final figures of every part and member.

        Args:
            results: The content of results.json.
        """
        self._close_writers()
        for model in results["models"]:
            settings = {"mode": model["mode"], "backbone": model["backbone"]}
            settings |= model["hyperparameters"]
            self._write_final(model["name"], settings, final_figures(model))
        for place, member in shown_members(results):
            scores = (member.get("metrics") or {}).get("val") or {}
            # Members were measured on training and validation alone.
            figures = {f"final/val/{k}": _value(v) for k, v in scores.items()}
            known = {k: v for k, v in figures.items() if v is not None}
            self._write_final(place, member["values"], known)

    def close(self) -> None:
        """Write what is left."""
        self._close_writers()

    def _write_final(
        self, place: str, settings: Mapping[str, object], figures: Mapping[str, float]
    ) -> None:
        from torch.utils.tensorboard.summary import hparams

        folder = self._folder / place / _FINAL
        shutil.rmtree(folder, ignore_errors=True)
        known = {k: _plain(v) for k, v in settings.items() if v is not None}
        writer = _writer(folder)
        summaries = hparams(known, dict.fromkeys(figures, 0.0))  # type: ignore[no-untyped-call]
        for summary in summaries:
            writer.file_writer.add_summary(summary)
        for name, value in figures.items():
            writer.add_scalar(name, value, 0)
        writer.close()

    def _close_writers(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self._part = None


def _writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), flush_secs=5)


def _plain(value: object) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else setting(value)


def _value(score: Any) -> float | None:
    """Return the value of a score, or of a plain number."""
    found = score.get("value") if isinstance(score, Mapping) else score
    return float(found) if isinstance(found, int | float) else None
