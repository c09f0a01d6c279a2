"""A trained model as two plain files: weights (safetensors) and everything else (JSON).

What was trained is in the file: the head, and the backbone's stages from the first trained one on.
The frozen stages before it are not copied: the backbone is named, and the digest of what they
compute is kept, so that loading notices if they are not the ones the model was trained on.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from headstart._util import files
from headstart.backbones.base import Backbone, SeriesOptions, TextOptions
from headstart.backbones.shared import first_names
from headstart.errors import WeightsError
from headstart.heads import BatchedHead, HeadSpec, build_head
from headstart.predict.strict_json import parse_json
from headstart.types import Goal, InputSpec, JsonDict, SeriesSpec, Spec, TextSpec

FORMAT_VERSION = 5
# Read too: 2 is of pictures only, 2 and 3 have no temperature, and their pictures, like those of 4,
# are resized by Pillow.
_OLDER = (2, 3, 4)
WEIGHTS_NAME = "model.safetensors"
RECORD_NAME = "model.json"
TOKENIZER_NAME = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class BackboneOptions:
    """How a backbone was asked for besides its name and weights.

    Attributes:
        text: How texts are read; the tokenizer is the one in the model's folder.
        series: What sequences of numbers are read.
    """

    text: TextOptions | None = None
    series: SeriesOptions | None = None


@dataclass(frozen=True, slots=True)
class SavedModel:
    """Everything that says how a sample becomes class probabilities, or a number.

    Attributes:
        backbone: Registry name of the network.
        backbone_weights: How its weights were asked for: ``pretrained``, ``random`` or a path.
        backbone_seed: Seed of random weights.
        backbone_digest: Digest of the frozen prefix; must be equal when the model is loaded.
        cut: Last frozen stage; ``input`` where all of the network was trained.
        head_cut: The stage that the head reads.
        input_spec: How samples are prepared.
        classes: Class names in the order of the logits; of a regression the name of its number.
        head: Architecture of the head.
        width: Number of features that enter the head.
        options: How else the network was asked for.
        goal: What the model tells.
        temperature: What the logits are divided by before they become probabilities.
    """

    backbone: str
    backbone_weights: str
    backbone_seed: int
    backbone_digest: str
    cut: str
    head_cut: str
    input_spec: Spec
    classes: tuple[str, ...]
    head: HeadSpec
    width: int
    options: BackboneOptions = field(default_factory=BackboneOptions)
    goal: Goal = "classification"
    temperature: float = 1.0

    @property
    def outputs(self) -> int:
        """Numbers that the head gives."""
        return 1 if self.goal == "regression" else len(self.classes)


_TYPES = TypeAdapter(SavedModel)


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A description and the trained weights.

    Attributes:
        model: The description.
        tensors: ``head.…``, and ``backbone.STAGE.…`` for each stage after the cut; on the CPU.
    """

    model: SavedModel
    tensors: Mapping[str, Tensor]

    def head(self) -> BatchedHead:
        """Return the head, in eval mode on the CPU."""
        head = build_head(self.model.head, self.model.width, self.model.outputs, seeds=[0])
        head.load_state_dict(_under(self.tensors, "head"))
        return head.eval()

    def load_into(self, backbone: Backbone) -> None:
        """Put the trained stages' weights into a backbone.

        Args:
            backbone: A network of the same architecture.

        Raises:
            WeightsError: The weights are of another network.
        """
        stages = backbone.modules(self.model.cut, self.model.head_cut)
        owners = _owners(stages)
        for name, module in stages:
            prefix = f"backbone.{name}"
            # What two stages share was saved with the first of them.
            state = {k: self.tensors.get(owners[f"{prefix}.{k}"]) for k in module.state_dict()}
            try:
                module.load_state_dict({k: t for k, t in state.items() if t is not None})
            except RuntimeError as error:
                raise WeightsError(
                    f"{self.model.backbone}: the trained weights of {name} do not fit: {error}"
                ) from error


def trained_tensors(
    backbone: Backbone, cut: str, head_cut: str, head: nn.Module
) -> dict[str, Tensor]:
    """Return copies of what was trained, named as in `TrainedModel`.

    Args:
        backbone: The network.
        cut: Last frozen stage.
        head_cut: The stage that the head reads.
        head: A head with one member.

    Returns:
        Tensors on the CPU, contiguous.
    """
    stages = backbone.modules(cut, head_cut)
    owners = _owners(stages)
    modules = {f"backbone.{name}": module for name, module in stages}
    modules["head"] = head
    return {
        f"{prefix}.{name}": value.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for name, value in module.state_dict().items()
        if owners.get(f"{prefix}.{name}", f"{prefix}.{name}") == f"{prefix}.{name}"
    }


def _owners(stages: Sequence[tuple[str, nn.Module]]) -> dict[str, str]:
    """Return, for each tensor's full name, that under which it is saved: its first."""
    return first_names(
        {
            f"backbone.{stage}.{name}": value
            for stage, module in stages
            for name, value in module.state_dict().items()
        }
    )


def save_model(folder: Path, trained: TrainedModel) -> None:
    """Write a trained model into a folder, atomically, weights first.

    Args:
        folder: Where; it is made.
        trained: The model.
    """
    files.write_bytes(folder / WEIGHTS_NAME, safetensors.torch.save(dict(trained.tensors)))
    record = {"format_version": FORMAT_VERSION, **asdict(trained.model)}
    spec = trained.model.input_spec
    if isinstance(spec, TextSpec):
        files.write_text(folder / TOKENIZER_NAME, spec.tokenizer)
        del record["input_spec"]["tokenizer"]
    if trained.model.options.text is not None:
        record["options"]["text"]["tokenizer"] = TOKENIZER_NAME
    files.write_json(folder / RECORD_NAME, record)


def load_model(folder: Path) -> TrainedModel:
    """Read a trained model.

    Args:
        folder: Where `save_model` wrote it.

    Returns:
        The description and the weights.

    Raises:
        WeightsError: A file is missing or not of a version that this Headstart reads.
    """
    model = load_description(folder)
    try:
        tensors = safetensors.torch.load((folder / WEIGHTS_NAME).read_bytes())
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{_expected(folder)}, but {error}") from error
    return TrainedModel(model, tensors)


def load_description(folder: Path) -> SavedModel:
    """Read what a trained model is, without its weights.

    Args:
        folder: Where `save_model` wrote it.

    Returns:
        The description.

    Raises:
        WeightsError: A file is missing, not of a version that this Headstart reads, or says what
            no model is.
    """
    try:
        record = parse_json((folder / RECORD_NAME).read_bytes())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{_expected(folder)}, but {error}") from error
    if not isinstance(record, dict):
        raise WeightsError(f"{_expected(folder)}, but {RECORD_NAME} holds no object")
    version = record.pop("format_version", None)
    if version not in (*_OLDER, FORMAT_VERSION):
        raise WeightsError(
            f"{folder}: expected format version {FORMAT_VERSION}, got {version}; "
            "use the version of Headstart that wrote it"
        )
    try:
        record["input_spec"] = _spec(record["input_spec"], folder)
        record["options"] = _options(record.get("options", {}), folder)
        head_spec = record["head"]
        record["head"] = HeadSpec(**{**head_spec, "hidden": tuple(head_spec["hidden"])})
        record["classes"] = tuple(record["classes"])
        model = SavedModel(**record)
        _check(model)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise WeightsError(f"{folder / RECORD_NAME}: expected a model, but {found}") from error
    return model


def _check(model: SavedModel) -> None:
    """Make sure that what came from a file is of the types and in the ranges of a model.

    Args:
        model: The description.

    Raises:
        ValueError: An entry is not; it is named.
    """
    content = json.dumps(asdict(model), default=str, allow_nan=False)
    try:
        _TYPES.validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    spec, head, classes = model.input_spec, model.head, model.classes
    if isinstance(spec, InputSpec):
        sizes = [spec.height, spec.width, *([spec.resize] if spec.fit == "crop" else [])]
    else:
        sizes = [spec.max_length, spec.channels if isinstance(spec, SeriesSpec) else 1]
    for name, usual in (
        ("temperature", math.isfinite(model.temperature) and model.temperature > 0),
        ("classes", len(classes) > 0 and len(set(classes)) == len(classes)),
        ("width", model.width > 0),
        ("head", min(head.hidden, default=1) > 0 and 0 <= head.dropout < 1),
        ("input_spec", min(sizes) > 0),
        ("input_spec.std", not isinstance(spec, InputSpec) or min(spec.std) > 0),
    ):
        if not usual:
            raise ValueError(f"{name}: out of range")


def _expected(folder: Path) -> str:
    return f"{folder}: expected a saved model ({RECORD_NAME} and {WEIGHTS_NAME})"


def _spec(raw: JsonDict, folder: Path) -> Spec:
    if "height" in raw:
        whole = {"resampling": "pillow", **raw}
        return InputSpec(**{**whole, "mean": tuple(raw["mean"]), "std": tuple(raw["std"])})
    if "channels" in raw:
        return SeriesSpec(**raw)
    return TextSpec(tokenizer=(folder / TOKENIZER_NAME).read_text(encoding="utf-8"), **raw)


def _options(raw: JsonDict, folder: Path) -> BackboneOptions:
    text, series = raw.get("text"), raw.get("series")
    if text is not None:
        text = TextOptions(**{**text, "tokenizer": folder / TOKENIZER_NAME})
    return BackboneOptions(text, None if series is None else SeriesOptions(**series))


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
