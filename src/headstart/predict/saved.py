"""A trained model as two plain files: weights (safetensors) and everything else (JSON).

The backbone's weights are not copied: they are named, and their digest is kept, so that loading
notices if they are not the ones the head was trained on.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch

from headstart._util import files
from headstart.errors import WeightsError
from headstart.heads import BatchedHead, HeadSpec, build_head
from headstart.types import InputSpec, JsonDict

FORMAT_VERSION = 1
WEIGHTS_NAME = "model.safetensors"
RECORD_NAME = "model.json"


@dataclass(frozen=True, slots=True)
class SavedModel:
    """Everything that says how a picture becomes class probabilities.

    Attributes:
        backbone: Registry name of the frozen network.
        backbone_weights: How its weights were asked for: ``pretrained``, ``random`` or a path.
        backbone_seed: Seed of random weights.
        backbone_digest: Digest of the frozen prefix; must be equal when the model is loaded.
        cut: Last frozen stage.
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
    input_spec: InputSpec
    classes: tuple[str, ...]
    head: HeadSpec
    width: int


def save_model(folder: Path, model: SavedModel, head: BatchedHead) -> None:
    """Write a trained model into a folder, atomically, weights first.

    Args:
        folder: Where; it is made.
        model: The description.
        head: A head with one member.
    """
    assert len(head.seeds) == 1, "a saved model is one model"
    tensors = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
    files.write_bytes(folder / WEIGHTS_NAME, safetensors.torch.save(tensors))
    files.write_json(folder / RECORD_NAME, {"format_version": FORMAT_VERSION, **asdict(model)})


def load_model(folder: Path) -> tuple[SavedModel, BatchedHead]:
    """Read a trained model.

    Args:
        folder: Where `save_model` wrote it.

    Returns:
        The description, and the head in eval mode on the CPU.

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
    model = SavedModel(**record)
    head = build_head(model.head, model.width, len(model.classes), seeds=[0])
    head.load_state_dict({name: torch.as_tensor(value) for name, value in tensors.items()})
    return model, head.eval()
