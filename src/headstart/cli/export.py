"""`headstart export`: a bundle for another engine or library."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from headstart.cli import options

if TYPE_CHECKING:  # torch comes with them: not for --help
    from headstart.export import Exported
    from headstart.predict import Bundle
    from headstart.runs.export_samples import LabelledSamples

Format = Literal["onnx", "openvino", "timm", "torchvision", "transformers"]

_GRAPHS = ("onnx", "openvino")


def export(
    bundle: Annotated[Path, typer.Argument(help="Of `headstart bundle`.", metavar="BUNDLE")],
    format_: Annotated[Format, typer.Option("--format", help="For what.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Weights in 8 bits; needs --run. Of onnx and openvino.")
    ] = False,
    preprocessing: Annotated[
        bool,
        typer.Option("--preprocessing", help="The graph takes pictures as they are, uint8 RGB."),
    ] = False,
    run: Annotated[
        Path | None, typer.Option(help="The bundle's run: validation samples for --int8.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the run's data are now. Default: where they were.")
    ] = None,
    calibration: Annotated[int, typer.Option(help="Samples to calibrate int8 on at most.")] = 200,
    out: Annotated[
        Path | None,
        typer.Option(help="Default: beside the bundle; a folder, or a .headstart file."),
    ] = None,
    allow_network: options.AllowNetwork = False,
) -> None:
    """Write a bundle for another engine or library, and check that it predicts the same."""
    from headstart._util import progress
    from headstart.errors import ConfigError
    from headstart.export import export_library
    from headstart.predict import load_bundle
    from headstart.predict.placing import check_free
    from headstart.runs.export_samples import validation_samples

    if format_ not in _GRAPHS and (int8 or preprocessing):
        option = "--int8" if int8 else "--preprocessing"
        raise ConfigError(f"{option} is of --format onnx and openvino, not of {format_}")
    if int8 and run is None:
        raise ConfigError(
            "--int8 is calibrated and measured on validation samples: name the bundle's run with "
            "--run"
        )
    if calibration < 1:
        raise ConfigError(f"--calibration: expected at least 1, got {calibration}")
    target = out if out is not None else _target(bundle, format_, int8, preprocessing)
    check_free(target)
    with load_bundle(bundle) as source:
        if format_ not in _GRAPHS:
            _say(export_library(source, target, format_))  # type: ignore[arg-type]
            return
        samples = None
        if run is not None and int8:
            samples = validation_samples(
                source,
                run,
                data=data,
                calibration=calibration,
                allow_network=allow_network,
                show=progress.for_terminal(),
            )
        _graph(bundle, source, target, format_, samples, preprocessing=preprocessing)


def _graph(
    path: Path,
    source: "Bundle",
    target: Path,
    format_: Format,
    samples: "LabelledSamples | None",
    *,
    preprocessing: bool,
) -> None:
    from headstart.export import export_graph
    from headstart.predict import load_bundle
    from headstart.runs.export_samples import cost_of

    engine: Literal["onnxruntime", "openvino"] = "onnxruntime" if format_ == "onnx" else "openvino"
    found = export_graph(
        source,
        target,
        engine,
        preprocessing=preprocessing,
        calibration=None if samples is None else samples.calibration,
    )
    _say(found)
    if samples is None:
        return
    # In float32 on the same engine, so that nothing but int8 makes the difference.
    with load_bundle(found.path) as made, load_bundle(path, engine=engine) as plain:
        cost = cost_of(plain, made, samples)
    for name, score in (("before", cost.before), ("in int8", cost.after)):
        typer.echo(
            f"{cost.metric} {name}: {score.value:.4f} (95% {score.low:.4f} to {score.high:.4f}, "
            f"{score.n:,} validation samples)"
        )
    change = cost.difference
    typer.echo(f"difference: {change.value:+.4f} (95% {change.low:+.4f} to {change.high:+.4f})")
    typer.echo(f"size: {cost.bytes_before / 1e6:.1f} MB -> {cost.bytes_after / 1e6:.1f} MB")
    typer.echo(f"a sample, in batches: {cost.ms_before:.1f} ms -> {cost.ms_after:.1f} ms")


def _say(found: "Exported") -> None:
    typer.echo(
        f"checked: {found.samples} stored samples, largest difference {found.difference:.2g}"
    )
    for note in found.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{found.path} ({found.size_bytes / 1e6:.1f} MB)")


def _target(bundle: Path, format_: Format, int8: bool, preprocessing: bool) -> Path:
    stem = bundle.name.removesuffix(".headstart")
    ends = [format_, *(["int8"] if int8 else []), *(["pixels"] if preprocessing else [])]
    zipped = ".headstart" if format_ in _GRAPHS and bundle.suffix == ".headstart" else ""
    return bundle.with_name(f"{'-'.join([stem, *ends])}{zipped}")
