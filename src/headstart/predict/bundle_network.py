"""A bundle's network on torch: written whole, and built again with nothing but the bundle's files.

A model of a run holds what was trained; a bundle holds every stage. What building the network takes
besides its name is kept in ``architecture/``: the configuration of a transformer, the specification
of a recurrent network.
"""

import dataclasses
import re
from pathlib import Path

from headstart._util import files
from headstart.backbones.base import INPUT, Backbone, TextOptions
from headstart.backbones.chain import Chain
from headstart.backbones.recurrent_saved import (
    build_unloaded,
    load_language_model,
    recurrent_spec,
)
from headstart.backbones.registry import RUN_PREFIX, load_backbone
from headstart.backbones.transformers_files import CONFIG
from headstart.backbones.transformers_save import configuration
from headstart.backbones.weights import RANDOM
from headstart.errors import BundleError, MissingExtraError
from headstart.predict.saved import (
    TOKENIZER_NAME,
    BackboneOptions,
    SavedModel,
    TrainedModel,
    load_model,
    save_model,
    trained_tensors,
)
from headstart.predict.strict_json import parse_json
from headstart.types import InputSpec, SeriesSpec, TextSpec

ARCHITECTURE = "architecture"
_RECURRENT = "recurrent.json"
# Networks whose architecture is known by name. Other names lead to folders, to hubs, to other runs.
_KNOWN = re.compile(r"(timm|torchvision|packaged|headstart)/[\w-]+(\.[\w-]+)?", re.ASCII)


def write_network(folder: Path, trained: TrainedModel, backbone: Backbone) -> SavedModel:
    """Write a whole network: ``model.json``, ``model.safetensors`` and ``architecture/``.

    Args:
        folder: Where.
        trained: The model.
        backbone: The network with the trained weights in it (see `TrainedModel.load_into`).

    Returns:
        The description that was written: of the same function, with nothing frozen.
    """
    model = trained.model
    whole = dataclasses.replace(
        model,
        backbone=public_name(model.backbone),
        backbone_weights=RANDOM,  # the file holds every weight
        backbone_seed=0,
        backbone_digest=backbone.digest(INPUT),
        cut=INPUT,
    )
    tensors = trained_tensors(backbone, INPUT, model.head_cut, trained.head())
    save_model(folder, TrainedModel(whole, tensors))
    config = configuration(backbone)
    if config is not None:
        files.write_json(folder / ARCHITECTURE / CONFIG, config)
    elif model.backbone.startswith(RUN_PREFIX):
        spec = load_language_model(_model_folder(model.backbone)).spec
        files.write_json(folder / ARCHITECTURE / _RECURRENT, spec.describe())
    return whole


def public_name(backbone: str) -> str:
    """Return a network's name without folders of the machine on which it was trained."""
    if backbone.startswith(RUN_PREFIX):
        return f"{RUN_PREFIX}{backbone.rpartition('/')[2]}"
    library, _, rest = backbone.partition("/")
    local = library == "transformers" and rest.startswith((".", "/", "~"))
    return f"{library}/{Path(rest).name}" if local else backbone


def load_network(folder: Path) -> tuple[TrainedModel, Backbone]:
    """Build a whole network from its files.

    Args:
        folder: Where `write_network` wrote it; its files are verified.

    Returns:
        The model, and its backbone with the model's weights in it, on the CPU.

    Raises:
        BundleError: The files are not those of one network.
    """
    try:
        trained = load_model(folder)
        model = trained.model
        if model.cut != INPUT:
            raise BundleError(
                f"{folder}: expected all weights, got those behind {model.cut!r}: this is a run's "
                "model; `headstart bundle` makes a bundle of it"
            )
        backbone = _build(folder, model)
        if backbone.digest(INPUT) != model.backbone_digest:
            raise BundleError(
                f"{folder}: {model.backbone} is built in another way than when this was written: "
                "use the version of Headstart that wrote it, or write it again"
            )
        trained.load_into(backbone)
        trained.head()
    except (BundleError, MissingExtraError):
        raise
    except Exception as error:  # libraries raise of many kinds for files that they did not write
        reason = " ".join(str(error).split())
        raise BundleError(f"{folder}: the network cannot be built: {reason}") from error
    return trained, backbone


def _build(folder: Path, model: SavedModel) -> Backbone:
    spec, place = model.input_spec, folder / ARCHITECTURE
    if isinstance(spec, TextSpec):
        options = _text_options(spec, model.options, folder)
        if (place / CONFIG).is_file():
            # Its files from this folder, and not those of a package or of the hub.
            name = f"transformers/{place.resolve()}"
            return load_backbone(name, weights=RANDOM, text=options)
        if (place / _RECURRENT).is_file():
            architecture = recurrent_spec(parse_json((place / _RECURRENT).read_bytes()))
            pooling = None if options.pooling == "pooler" else options.pooling
            network = build_unloaded(model.backbone, architecture, pooling, spec)
            return Chain(model.backbone, network)
        raise BundleError(f"{folder}: {ARCHITECTURE}/{CONFIG} of {model.backbone} is missing")
    series = model.options.series
    if not _KNOWN.fullmatch(model.backbone) or isinstance(spec, SeriesSpec) != (series is not None):
        raise BundleError(
            f"{folder}: the network {model.backbone!r:.80} is none that a bundle can hold: it is "
            "built from the bundle's own files, and nothing else is read; do not use this bundle"
        )
    pictures = spec if isinstance(spec, InputSpec) else None
    square = pictures is not None and pictures.height == pictures.width
    return load_backbone(
        model.backbone,
        weights=RANDOM,
        fit=None if pictures is None else pictures.fit,
        image_size=pictures.height if pictures is not None and square else None,
        series=series,
    )


def _text_options(spec: TextSpec, options: BackboneOptions, folder: Path) -> TextOptions:
    """Return how texts are read, with nothing left to the network's own way."""
    return TextOptions(
        max_length=spec.max_length,
        pooling=None if options.text is None else options.text.pooling,
        pairs=spec.pairs,
        tokenizer=folder / TOKENIZER_NAME,
        strip_markup=spec.strip_markup,
    )


def _model_folder(backbone: str) -> Path:
    run, _, part = backbone.removeprefix(RUN_PREFIX).rpartition("/")
    return Path(run) / "models" / part
