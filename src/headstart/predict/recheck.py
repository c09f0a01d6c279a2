"""Whether a bundle stands alone: it is opened where nothing else can be, and predicts its samples.

``python -I -m headstart.predict.recheck FOLDER`` is that process. It refuses connections, and files
of weights, configurations and tokenizers outside the bundle's folder: a bundle that needs the hub,
a package with weights or a run's folder fails here and not on the machine that it is copied to.
"""

import os
import sys
from pathlib import Path

from headstart.errors import BundleError, HeadstartError

_WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".onnx", ".npz")
_FILES = ("config.json", "tokenizer.json", "language.json", "vocab.txt", "spiece.model")


def check(folder: Path) -> float:
    """Open a bundle's folder and predict its stored samples.

    Args:
        folder: The bundle.

    Returns:
        The largest difference from what was stored.

    Raises:
        BundleError: It is not a whole bundle, or what it says is not what was stored.
    """
    import torch

    from headstart.predict.bundle import load_bundle
    from headstart.predict.bundle_samples import largest_difference

    with load_bundle(folder, device=torch.device("cpu")) as bundle:
        samples = bundle.stored_samples()
        if not samples:
            raise BundleError(f"{folder}: there are no stored samples: nothing can be checked")
        worst = largest_difference(bundle.predict([s.data for s in samples]), samples)
        if not worst <= bundle.info.tolerance:
            raise BundleError(
                f"{folder}: its network says something else of the stored samples than the model "
                f"did: largest difference {worst:.2g}, expected at most {bundle.info.tolerance:g}"
            )
    return worst


def _shut_in(folder: Path) -> None:
    """Refuse connections, and files that a bundle must bring itself, until the process ends."""
    inside = f"{folder.resolve()}{os.sep}"

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo"):
            raise BundleError(f"it wants to connect to {arguments[1]!r}")
        if event == "open" and isinstance(arguments[0], str):
            path = os.path.realpath(arguments[0])
            own = path.endswith(_WEIGHTS) or os.path.basename(path) in _FILES
            if own and not path.startswith(inside):
                raise BundleError(f"it wants to read {path}, which is not in the bundle")

    sys.addaudithook(refuse)


def main() -> int:
    """Check the bundle that the command line names; the difference is printed."""
    folder = Path(sys.argv[1])
    _shut_in(folder)
    try:
        print(check(folder))
    except HeadstartError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
