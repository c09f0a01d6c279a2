"""Bundles for other engines and libraries: ONNX, OpenVINO, timm, torchvision, transformers."""

from headstart.export.graphs import Exported, export_graph
from headstart.export.libraries import Library, export_library

__all__ = ["Exported", "Library", "export_graph", "export_library"]
