"""What a process that works with Headstart imports, all at once: start-up, not work."""

import contextlib
import importlib

from headstart.features.engine import import_openvino

PACKAGES = ("headstart", "torch", "torchvision", "onnxruntime", "openvino", "numpy", "pillow")
_MODULES = (
    "torch",
    "torch.onnx",
    "torchvision.models",
    "timm",
    "onnxruntime",
    "sklearn.linear_model",
    "headstart.backbones.torchvision",
    "headstart.backbones.timm",
    "headstart.estimators",
    "headstart.runs.runner",
)


_TEXTS = (
    "transformers.models.auto",
    "transformers.models.bert.modeling_bert",
    "headstart.backbones.transformers",
    "headstart.runs.runner",
)


def import_texts() -> None:
    """Import what a network of texts is made of: transformers loads it when it is first asked."""
    for name in _TEXTS:
        importlib.import_module(name)


def import_all() -> None:
    """Import the libraries; engines that are not installed are left out."""
    for name in _MODULES:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    with contextlib.suppress(ModuleNotFoundError):
        import_openvino()
