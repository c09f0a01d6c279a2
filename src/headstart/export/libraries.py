"""A bundle's network as a model of timm, torchvision or transformers, checked as it is loaded."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import torch

from headstart._util import files
from headstart._util.imports import optional
from headstart.backbones.transformers_save import tokenizer_config
from headstart.errors import ConfigError, EngineError
from headstart.export.graphs import AGREES, Exported
from headstart.export.linear import Source, source_of
from headstart.export.text_classifier import text_classifier
from headstart.export.vision import LibraryModel, VisionLibrary, vision_model
from headstart.predict import Bundle
from headstart.predict.bundle_samples import largest_difference
from headstart.predict.graphs import IDS, MASK, TYPES, feeds
from headstart.predict.placing import check_free, place_folder
from headstart.types import FloatArray, InputSpec, JsonDict, TextSpec

Library = Literal["timm", "torchvision", "transformers"]

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"

_PROBES = ("A word, and another one: naïve 123!", "Ein Satz. 東京 (2024) — “quoted”\n")


def export_library(bundle: Bundle, target: Path, library: Library) -> Exported:
    """Write a bundle's network as a folder that another library loads.

    The folder is loaded by that library before it appears, and what it then says of the bundle's
    stored samples is compared with what the bundle says.

    Args:
        bundle: A torch bundle.
        target: The folder.
        library: The library.

    Returns:
        What was written, and how far it is from the bundle.

    Raises:
        ConfigError: The network cannot be a model of that library, or the target exists.
        EngineError: The library's model says something else.
        MissingExtraError: The library is not installed.
    """
    check_free(target)
    source = source_of(bundle)
    samples = bundle.stored_samples()
    rows = [bundle.prepare(sample.data) for sample in samples]
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        write = _transformers if library == "transformers" else _vision
        said, notes = write(bundle, source, folder, library, rows)
        difference = largest_difference(said, samples)
        if not difference <= AGREES:
            raise EngineError(
                f"{bundle.info.name}: loaded by {library} it differs by up to {difference:.2g} on "
                f"the stored samples, expected at most {AGREES:g}: nothing was written; export "
                "with --format onnx"
            )
        size = sum(path.stat().st_size for path in folder.iterdir())
        place_folder(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Exported(target, difference, len(samples), size, notes)


_Write = Callable[
    [Bundle, Source, Path, Library, Sequence[FloatArray]], tuple[FloatArray, tuple[str, ...]]
]


@torch.inference_mode()
def _vision(
    bundle: Bundle, source: Source, folder: Path, library: Library, rows: Sequence[FloatArray]
) -> tuple[FloatArray, tuple[str, ...]]:
    """Write a folder for timm or torchvision; return what the model loaded from it says."""
    spec = source.inside.spec
    if not isinstance(spec, InputSpec):
        raise ConfigError(f"{library} is of pictures: export texts with --format transformers")
    kind: VisionLibrary = "timm" if library == "timm" else "torchvision"
    made = vision_model(source, kind)
    _save(folder / WEIGHTS, dict(made.state))
    config = (
        _timm_config(made, source, spec) if kind == "timm" else _plain_config(made, source, spec)
    )
    files.write_json(folder / CONFIG, config)
    lines = _timm_lines if kind == "timm" else _torchvision_lines
    files.write_text(folder / "README.md", _readme(bundle, library, lines(made, source)))
    model = _loaded_timm(folder, made, source) if kind == "timm" else _loaded(folder, made, source)
    logits = torch.cat([model(torch.from_numpy(row)[None]) for row in rows])
    return _answers(logits, source), ()


def _loaded_timm(folder: Path, made: LibraryModel, source: Source) -> Any:
    import timm

    return timm.create_model(
        made.architecture,
        pretrained=False,
        num_classes=source.outputs,
        checkpoint_path=str(folder / WEIGHTS),
    ).eval()


def _loaded(folder: Path, made: LibraryModel, source: Source) -> Any:
    import safetensors.torch
    from torchvision.models import get_model

    model = get_model(made.architecture, weights=None, num_classes=source.outputs, **made.arguments)
    model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    return model.eval()


@torch.inference_mode()
def _transformers(
    bundle: Bundle, source: Source, folder: Path, library: Library, rows: Sequence[FloatArray]
) -> tuple[FloatArray, tuple[str, ...]]:
    """Write a folder for transformers; return what the model loaded from it says."""
    transformers = optional("transformers", "text", "the export for transformers")
    made = text_classifier(source, list(rows))
    spec = source.inside.spec
    assert isinstance(spec, TextSpec), "checked with the network"
    _save(folder / WEIGHTS, dict(made.state))
    files.write_json(folder / CONFIG, made.config)
    files.write_text(folder / TOKENIZER, spec.tokenizer)
    files.write_json(folder / "tokenizer_config.json", tokenizer_config(spec, made.config))
    notes = []
    if made.added_layer:
        notes.append(
            "transformers classifies by the first token, and this network was trained on all: one "
            "layer was added that computes the same (see docs/guides/export.md). Use the model in "
            "float32"
        )
    if spec.strip_markup:
        notes.append("take markup such as <br /> out of the texts first, as this network's were")
    lines = _transformers_lines(spec)
    files.write_text(folder / "README.md", _readme(bundle, library, lines, notes))
    with contextlib.redirect_stderr(io.StringIO()):  # it shows a bar
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    _check_tokens(tokenizer, spec)
    logits = []
    for row in rows:
        inputs = feeds(row[None], spec)
        given = {IDS: inputs[IDS], MASK: inputs[MASK]}
        if TYPES in tokenizer.model_input_names and TYPES in inputs:
            given[TYPES] = inputs[TYPES]
        logits.append(model(**{k: torch.from_numpy(v) for k, v in given.items()}).logits)
    return _answers(torch.cat(logits), source), tuple(notes)


def _check_tokens(tokenizer: Any, spec: TextSpec) -> None:
    """Make sure that the library reads texts as the network's own tokenizer does."""
    tokenizers = optional("tokenizers", "text", "the export for transformers")
    own = tokenizers.Tokenizer.from_str(spec.tokenizer)
    own.no_truncation()
    own.no_padding()
    probes = _PROBES if spec.pairs == "single" else (_PROBES,)
    for probe in probes:
        texts = (probe,) if isinstance(probe, str) else probe
        if tokenizer(*texts)[IDS] != own.encode(*texts).ids:
            raise EngineError(
                "transformers reads texts in another way than this network's tokenizer: export "
                "with --format onnx"
            )


def _answers(logits: torch.Tensor, source: Source) -> FloatArray:
    """Return probabilities of logits, [n, K]; or values of a regression, [n]."""
    if source.goal == "regression":
        values: FloatArray = logits[:, 0].numpy()
        return values
    probabilities: FloatArray = torch.softmax(logits.float(), dim=-1).numpy()
    return probabilities


def _save(path: Path, state: dict[str, torch.Tensor]) -> None:
    import safetensors.torch

    content = {key: value.contiguous() for key, value in state.items()}
    files.write_bytes(path, safetensors.torch.save(content, metadata={"format": "pt"}))


def _timm_config(made: LibraryModel, source: Source, spec: InputSpec) -> JsonDict:
    """Return config.json as timm's own ``push_to_hf_hub`` writes it."""
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(made.architecture)
    modes = {"crop": "center", "resize": "squash", "pad": "border"}
    return {
        "architecture": made.architecture,
        "num_classes": source.outputs,
        "label_names": list(source.classes),
        "pretrained_cfg": {
            "num_classes": source.outputs,
            "input_size": [3, spec.height, spec.width],
            # Some, such as transformers, take pictures of one size alone.
            "fixed_input_size": known is not None and known.fixed_input_size,
            "interpolation": spec.interpolation,
            "crop_pct": min(spec.height, spec.width) / spec.resize if spec.fit == "crop" else 1.0,
            "crop_mode": modes[spec.fit],
            "mean": list(spec.mean),
            "std": list(spec.std),
            "label_names": list(source.classes),
        },
    }


def _plain_config(made: LibraryModel, source: Source, spec: InputSpec) -> JsonDict:
    return {
        "architecture": made.architecture,
        "arguments": {"num_classes": source.outputs, **made.arguments},
        "labels": list(source.classes),
        "input": spec.describe(),
    }


def _timm_lines(made: LibraryModel, source: Source) -> str:
    return (
        "model = timm.create_model(\n"
        f"    {json.dumps(made.architecture)}, pretrained=False, num_classes={source.outputs},\n"
        f"    checkpoint_path={json.dumps(WEIGHTS)},\n"
        ").eval()"
    )


def _torchvision_lines(made: LibraryModel, source: Source) -> str:
    arguments = {"weights": None, "num_classes": source.outputs, **made.arguments}
    named = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return (
        f"model = torchvision.models.get_model({made.architecture!r}, {named}).eval()\n"
        f"model.load_state_dict(safetensors.torch.load_file({WEIGHTS!r}))"
    )


def _transformers_lines(spec: TextSpec) -> str:
    texts = "text" if spec.pairs == "single" else "first, second"
    return (
        'model = AutoModelForSequenceClassification.from_pretrained(".").eval()\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        f'logits = model(**tokenizer({texts}, truncation=True, return_tensors="pt")).logits'
    )


def _readme(bundle: Bundle, library: str, lines: str, notes: Sequence[str] = ()) -> str:
    info = bundle.info
    said = "softmax of the logits gives its probabilities"
    if info.goal == "regression":
        said = "the logit is its value"
    listed = "".join(f"\n- {note}" for note in notes)
    return (
        f"# {info.title}\n\nExported from the Headstart bundle {info.name!r} for {library}; {said}."
        f"\n\n```python\n{lines}\n```\n\nClasses, in order: {', '.join(info.classes)}.\n{listed}\n"
    )
