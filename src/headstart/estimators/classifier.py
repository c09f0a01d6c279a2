"""Pictures in, classes out: a frozen network and a head, as one scikit-learn classifier."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self, final, get_args

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d

from headstart._util.devices import resolve_device
from headstart._util.files import cache_root
from headstart._util.progress import SilentProgress, for_terminal
from headstart.backbones.base import Backbone
from headstart.backbones.registry import load_backbone
from headstart.errors import ConfigError, WeightsError
from headstart.estimators import state as states
from headstart.estimators.arrays import Labels, encode_labels, expect_one_of, seed_of_state
from headstart.estimators.logistic import LogisticProbe
from headstart.estimators.pictures import Pictures, decode_all, open_pictures
from headstart.estimators.softmax import SoftmaxProbe
from headstart.features.engine import EngineName
from headstart.features.extract import extract
from headstart.features.key import feature_key
from headstart.features.store import FeatureStore
from headstart.types import Fit, FloatArray, InputSpec, Resampling

HeadKind = Literal["logistic", "linear", "mlp"]

_FITTED = ("classes_", "probe_", "cut_", "digest_", "seed_", "_backbone")


@final
class HeadstartClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of pictures: the features of a pretrained, frozen network, and a head on them.

    A picture is a path, a Pillow image, a uint8 array [height, width, 3] or [height, width], or
    the bytes of an encoded file. Features are kept in Headstart's store under the content of the
    picture: a cross-validation or a search over settings of the head extracts each picture once.

    Attributes:
        classes_: The classes, sorted, [classes].
        probe_: The fitted head: a `LogisticProbe` or a `SoftmaxProbe`.
        cut_: The last frozen stage.
        digest_: Digest of the frozen network, by which it is known again when a model is loaded.
        seed_: The seed that `random_state` stood for.
    """

    def __init__(
        self,
        backbone: str = "packaged/efficientnet-lite0",
        *,
        weights: str | Path = "pretrained",
        cut: str | None = None,
        head: HeadKind = "logistic",
        C: float = 1.0,
        hidden: Sequence[int] = (256,),
        dropout: float = 0.0,
        epochs: int = 50,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        batch_size: int = 32,
        image_size: int | None = None,
        image_fit: Fit | None = None,
        device: str = "auto",
        engine: EngineName | Literal["auto"] = "auto",
        cache: str | Path | None = None,
        workers: int = 2,
        allow_network: bool = False,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ) -> None:
        """Say what shall be fitted.

        Args:
            backbone: Name of the network; `headstart.backbones.registry.available_names` lists
                them.
            weights: ``pretrained``, ``random``, or the path of a .safetensors or .pth file.
            cut: The stage whose output is the features; the last one where None.
            head: ``logistic``: the optimum of multinomial logistic regression; ``linear``: a
                softmax layer trained by gradient steps; ``mlp``: one with hidden layers.
            C: Logistic head: inverse strength of the penalty.
            hidden: MLP head: widths of the hidden layers.
            dropout: Linear and MLP head: probability that a feature or unit is dropped in training.
            epochs: Linear and MLP head: passes over the training data.
            learning_rate: Linear and MLP head: step size of SGD.
            momentum: Linear and MLP head: momentum of SGD.
            batch_size: Linear and MLP head: samples per step.
            image_size: Height and width of the network's input in pixels; its own where None.
            image_fit: How a picture is fitted to the input: ``crop``, ``resize`` or ``pad``; the
                network's own way where None.
            device: ``auto``, ``cpu``, ``cuda`` …
            engine: What computes the features: ``auto`` measures and takes the fastest.
            cache: Folder of the feature store; Headstart's cache folder where None.
            workers: Threads that read and decode.
            allow_network: Whether weights that are not on this machine may be downloaded.
            random_state: Decides random weights and the training of a linear or MLP head.
            verbose: Whether to say what is extracted, with a bar.
        """
        self.backbone = backbone
        self.weights = weights
        self.cut = cut
        self.head = head
        self.C = C
        self.hidden = hidden
        self.dropout = dropout
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.image_size = image_size
        self.image_fit = image_fit
        self.device = device
        self.engine = engine
        self.cache = cache
        self.workers = workers
        self.allow_network = allow_network
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: npt.ArrayLike) -> Self:
        """Extract the features that the store lacks, and fit the head.

        Args:
            X: Pictures: a sequence of n, or uint8 pixels [n, height, width, 3] or
                [n, height, width].
            y: Labels, [n]: texts or whole numbers, of at least two classes.

        Returns:
            The estimator.

        Raises:
            DataError: A picture is missing or cannot be decoded: its place is named, before
                anything is extracted.
            ValueError: The labels or a setting are not as they should be.
            ConfigError: The backbone, its cut, the image size or the device is unknown.
            WeightsError: The backbone's weights are missing or damaged.
            RunError: The training of a linear or MLP head diverged.
        """
        labels = column_or_1d(y, warn=True)
        encode_labels(labels)
        seed = seed_of_state(self.random_state)
        probe = self._probe(seed)
        pictures = open_pictures(X, self.workers)
        if len(pictures) != len(labels):
            raise ValueError(f"expected one label per picture, got {len(pictures)}, {len(labels)}")
        backbone = self._load_backbone(seed, self.allow_network)
        cut = backbone.stages[-1] if self.cut is None else backbone.resolve(self.cut)
        probe.fit(self._features(pictures, backbone, cut), labels)
        self.classes_, self.probe_ = probe.classes_, probe
        self.cut_, self.digest_, self.seed_ = cut, backbone.digest(cut), seed
        self._backbone = backbone
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return class probabilities.

        Args:
            X: Pictures, n of them, as for `fit`.

        Returns:
            float64, [n, classes], in the order of ``classes_``; rows sum to 1.

        Raises:
            DataError: A picture is missing or cannot be decoded: its place is named.
        """
        check_is_fitted(self)
        features = self._features(open_pictures(X, self.workers), self._backbone, self.cut_)
        return self.probe_.predict_proba(features)

    def predict(self, X: Any) -> Labels:
        """Return the most probable classes, [n], of n pictures (see `predict_proba`)."""
        probabilities = self.predict_proba(X)
        labels: Labels = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def save(self, folder: Path | str) -> None:
        """Write the model into a folder, as JSON and safetensors.

        The network is named, not copied; its digest is kept, and checked when the model is loaded.

        Args:
            folder: Where; it is made.
        """
        states.save(folder, self._state())

    @classmethod
    def load(cls, folder: Path | str, *, allow_network: bool = False) -> Self:
        """Read a model and load its network.

        Args:
            folder: Where `save` wrote it.
            allow_network: Whether missing weights of the network may be downloaded.

        Returns:
            The classifier, ready to predict.

        Raises:
            WeightsError: There is no such model, or the network is not the one it was fitted on.
        """
        classifier = cls.__new__(cls)
        classifier._restore(states.load(cls.__name__, folder), allow_network)
        return classifier

    def __getstate__(self) -> dict[str, str | bytes]:
        return states.pack(self._state())

    def __setstate__(self, state: object) -> None:
        # Whoever reads somebody else's pickle has not agreed to a download.
        self._restore(states.unpack(type(self).__name__, state), allow_network=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags

    def _probe(self, seed: int) -> LogisticProbe | SoftmaxProbe:
        expect_one_of("head", self.head, get_args(HeadKind))
        if self.head == "logistic":
            return LogisticProbe(self.C, device=self.device)
        return SoftmaxProbe(
            self.hidden if self.head == "mlp" else (),
            dropout=self.dropout,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            epochs=self.epochs,
            batch_size=self.batch_size,
            device=self.device,
            random_state=seed,
        )

    def _load_backbone(
        self, seed: int, allow_network: bool, resampling: Resampling | None = None
    ) -> Backbone:
        return load_backbone(
            self.backbone,
            weights=self.weights,
            seed=seed,
            allow_network=allow_network,
            fit=self.image_fit,
            image_size=self.image_size,
            resampling=resampling,
        )

    def _features(self, pictures: Pictures, backbone: Backbone, cut: str) -> FloatArray:
        """Return float32 features, [n, width]."""
        store = FeatureStore(
            (cache_root() if self.cache is None else Path(self.cache)) / "features"
        )
        # What is stored has been decoded before.
        stored = store.index(feature_key(backbone, cut, "float32")).rows
        if not isinstance(backbone.input_spec, InputSpec):
            raise ConfigError(f"backbone: expected a network of pictures, got {backbone.name}")
        with ThreadPoolExecutor(1, thread_name_prefix="headstart-shape") as aside:
            # Found by the interpreter alone, and kept: done by the way.
            shape = aside.submit(backbone.shape, cut)
            fitted = decode_all(pictures, stored, backbone.input_spec, self.workers)
            shape.result()
        extraction = extract(
            pictures,
            range(len(pictures)),
            backbone,
            cut,
            store=store,
            engine=self.engine,
            device=resolve_device(self.device),
            workers=self.workers,
            progress=for_terminal() if self.verbose else SilentProgress(),
            fitted=fitted,
        )
        return extraction.features.load().reshape(len(pictures), -1)

    def _state(self) -> states.State:
        states.expect_only(self, _FITTED)
        params = states.plain_params(self.get_params(deep=False))
        if not hasattr(self, "classes_"):
            return states.State(type(self).__name__, params, None, {})
        probe = self.probe_._state()
        fitted = {
            "cut": self.cut_,
            "digest": self.digest_,
            "seed": self.seed_,
            "input": asdict(self._backbone.input_spec),
            "head": {"kind": probe.kind, "params": probe.params, "fitted": probe.fitted},
        }
        return states.State(type(self).__name__, params, fitted, probe.arrays)

    def _restore(self, state: states.State, allow_network: bool) -> None:
        states.restore_params(self, state.params)
        fitted = state.fitted
        if fitted is None:
            return
        # Models of before have no entry for it, and their pictures were resized by Pillow.
        wanted = {"resampling": "pillow", **fitted["input"]}
        backbone = self._load_backbone(fitted["seed"], allow_network, wanted["resampling"])
        digest = backbone.digest(fitted["cut"])
        if digest != fitted["digest"]:
            raise WeightsError(
                f"{self.backbone}: expected the weights that this model was fitted on (digest "
                f"{fitted['digest'][:12]}…), got {digest[:12]}…"
            )
        spec = states.through_json(asdict(backbone.input_spec))
        if spec != wanted:
            raise WeightsError(
                f"{self.backbone}: this model was fitted on pictures prepared as "
                f"{fitted['input']}, this version of the network prepares them as {spec}"
            )
        probe = LogisticProbe() if fitted["head"]["kind"] == "LogisticProbe" else SoftmaxProbe()
        probe._restore(states.State(**fitted["head"], arrays=state.arrays))
        self.classes_, self.probe_ = probe.classes_, probe
        self.cut_, self.digest_, self.seed_ = fitted["cut"], digest, fitted["seed"]
        self._backbone = backbone
