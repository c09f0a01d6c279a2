"""What several rows need, made once: weights for all contenders, and features for the sweep.

The weights are random numbers. In MobileNetV2 the statistics of every BatchNorm are those that 64
of the photographs have there; and what mixes everything up over 52 layers is toned down (see
`_clear`), so that a random network still tells pictures apart.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from benchmarks.contender import Answer, Job, answer, listed
from benchmarks.ours.libraries import PACKAGES, import_all
from headstart._util.progress import SilentProgress
from headstart.backbones.registry import load_backbone
from headstart.data.encode import converter
from headstart.estimators.pictures import open_pictures
from headstart.features.extract import extract
from headstart.features.store import FeatureStore

MOBILENET_FILE = "mobilenet-keras.npz"  # the last that is written of three
MOBILENET = "torchvision/mobilenet_v2.IMAGENET1K_V1"
FORWARD = ("mobilenetv2_100", "tf_efficientnet_lite0")
_SEEN = 64


def mobilenet(photos: list[str], folder: Path) -> None:
    """Write one MobileNetV2 for torchvision, for timm, and in the order of Keras' layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.mobilenet_v2()
    _clear(model)
    convert = converter(load_backbone(MOBILENET, weights="random").input_spec)
    chosen = photos[:: max(1, len(photos) // _SEEN)][:_SEEN]
    x = torch.from_numpy(np.stack([convert(Path(path).read_bytes()) for path in chosen]))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what is seen
    with torch.no_grad():
        model.train().features(x)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("classifier.")}
    save_file(state, folder / "mobilenet-torchvision.safetensors")
    other = timm.create_model("mobilenetv2_100").state_dict()
    names = [name for name in other if not name.startswith("classifier.")]
    assert [tuple(other[n].shape) for n in names] == [tuple(t.shape) for t in state.values()]
    renamed = {n: t.clone() for n, t in zip(names, state.values(), strict=True)}
    save_file(renamed, folder / "mobilenet-timm.safetensors")
    arrays = [t.numpy() for name, t in state.items() if not name.endswith("num_batches_tracked")]
    np.savez(folder / MOBILENET_FILE, **{str(i): array for i, array in enumerate(arrays)})


def _clear(model: nn.Module) -> None:
    """Let a random network pass on what it sees: a probe on it gains a third in accuracy."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.5)  # ReLU then cuts off less
        elif isinstance(module, nn.Conv2d) and module.groups > 1:
            module.weight.data += module.weight.data.std()  # means more than differences
        elif getattr(module, "use_res_connect", False):
            nn.init.constant_(module.conv[-1].weight, 0.1)  # more of the input than of the branch


def vgg16(folder: Path) -> None:
    """Write a VGG16 of random numbers, as torchvision draws them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.vgg16()
        for module in model.classifier.modules():
            if isinstance(module, nn.Linear):  # torchvision's own are so small that little arrives
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("classifier.6.")}
    save_file(state, folder / "vgg16-torchvision.safetensors")


def eager(network: str, folder: Path) -> None:
    """Write a network of random numbers, as timm draws them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = timm.create_model(network, num_classes=0).state_dict()
    save_file(state, folder / f"{network}.safetensors")


def features(job: Job, folder: Path) -> None:
    """Write the features of all photographs under MobileNetV2: the training photographs first."""
    (train, first), (val, second) = listed(job["train"]), listed(job["val"])
    backbone = load_backbone(MOBILENET, weights=folder / "mobilenet-torchvision.safetensors")
    pictures = open_pictures([*train, *val], workers=job["threads"])
    found = extract(
        pictures,
        range(len(pictures)),
        backbone,
        backbone.stages[-1],
        store=FeatureStore(folder / "features"),
        device=torch.device("cpu"),
        progress=SilentProgress(),
    )
    rows = found.features.load().reshape(len(pictures), -1)
    labels = np.unique([*first, *second], return_inverse=True)[1].astype(np.int64)
    np.savez(folder / "features.npz", features=rows, labels=labels, train=len(train))


def work(job: Job) -> Answer:
    """Write the files that are wanted and not there."""
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], None]] = {
        MOBILENET_FILE: lambda: mobilenet(listed(job["train"])[0], folder),
        "features.npz": lambda: features(job, folder),
        "vgg16-torchvision.safetensors": lambda: vgg16(folder),
    }
    makers |= {f"{name}.safetensors": partial(eager, name, folder) for name in FORWARD}
    for name in job["wanted"]:
        if not (folder / name).exists():
            makers[name]()
    return {}


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)
