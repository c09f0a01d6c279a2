"""A trained model as two plain files: weights (safetensors) and everything else (JSON).

What was trained is in the file: the head, and the backbone's stages from the first trained one on.
The frozen stages before it are not copied: the backbone is named, and the digest of what they
compute is kept, so that loading notices if they are not the ones the model was trained on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from headstart._util import files
from headstart.backbones.base import Backbone
from headstart.errors import WeightsError
from headstart.heads import BatchedHead, HeadSpec, build_head
from headstart.types import InputSpec, JsonDict

FORMAT_VERSION = 2
WEIGHTS_NAME = "model.safetensors"
RECORD_NAME = "model.json"


@dataclass(frozen=True, slots=True)
class SavedModel:
    """Everything that says how a picture becomes class probabilities.

    Attributes:
        backbone: Registry name of the network.
        backbone_weights: How its weights were asked for: ``pretrained``, ``random`` or a path.
        backbone_seed: Seed of random weights.
        backbone_digest: Digest of the frozen prefix; must be equal when the model is loaded.
        cut: Last frozen stage; ``input`` where all of the network was trained.
        head_cut: The stage that the head reads.
        input_spec: How pictures are prepared.
        classes: Class names in the order of the logits.
        head: Architecture of the head.
        width: Number of features that enter the head.
    """

    backbone: str
    backbone_weights: str
    backbone_seed: int
    backbone_digest: str
    cut: str
    head_cut: str
    input_spec: InputSpec
    classes: tuple[str, ...]
    head: HeadSpec
    width: int


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
        head = build_head(self.model.head, self.model.width, len(self.model.classes), seeds=[0])
        head.load_state_dict(_under(self.tensors, "head"))
        return head.eval()

    def load_into(self, backbone: Backbone) -> None:
        """Put the trained stages' weights into a backbone.

        Args:
            backbone: A network of the same architecture.

        Raises:
            WeightsError: The weights are of another network.
        """
        for name, module in backbone.modules(self.model.cut, self.model.head_cut):
            try:
                module.load_state_dict(_under(self.tensors, f"backbone.{name}"))
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
    modules = {f"backbone.{name}": module for name, module in backbone.modules(cut, head_cut)}
    modules["head"] = head
    return {
        f"{prefix}.{name}": value.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for name, value in module.state_dict().items()
    }


def save_model(folder: Path, trained: TrainedModel) -> None:
    """Write a trained model into a folder, atomically, weights first.

    Args:
        folder: Where; it is made.
        trained: The model.
    """
    files.write_bytes(folder / WEIGHTS_NAME, safetensors.torch.save(dict(trained.tensors)))
    record = {"format_version": FORMAT_VERSION, **asdict(trained.model)}
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
    try:
        record: JsonDict = files.read_json(folder / RECORD_NAME)
        tensors = safetensors.torch.load((folder / WEIGHTS_NAME).read_bytes())
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise WeightsError(
            f"{folder}: expected a saved model ({RECORD_NAME} and {WEIGHTS_NAME}), but {error}"
        ) from error
    version = record.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{folder}: expected format version {FORMAT_VERSION}, got {version}; "
            "use the version of Headstart that wrote it"
        )
    spec = record["input_spec"]
    record["input_spec"] = InputSpec(
        **{**spec, "mean": tuple(spec["mean"]), "std": tuple(spec["std"])}
    )
    head_spec = record["head"]
    record["head"] = HeadSpec(**{**head_spec, "hidden": tuple(head_spec["hidden"])})
    record["classes"] = tuple(record["classes"])
    return TrainedModel(SavedModel(**record), tensors)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
