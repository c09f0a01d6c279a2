"""Why a bundle says what it says of one sample: a heat map of a picture, a weight for each word."""

import io
import itertools
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from headstart.data.image import decode
from headstart.data.text import decode_text, pair_bytes, pair_of, strip_markup, text_bytes
from headstart.errors import ConfigError, DataError, nearest
from headstart.predict import integrated
from headstart.predict.grad_cam import grad_cam, map_cut
from headstart.predict.inside import Inside
from headstart.predict.occlusion import WINDOWS, Word, occlude_picture, occlude_words, words_of
from headstart.types import FloatArray, Goal, InputSpec, JsonDict, SeriesSpec, Spec, TextSpec

Method = Literal["grad-cam", "integrated-gradients", "occlusion"]

# Changes of the log odds below this are noise: they are not blown up to the full colour.
_LEAST = 0.1
_SMALL = 512  # pixels of the longer edge of a picture that is prepared many times
_SURE = 1e-6  # probabilities are kept this far from 0 and 1, where float32 knows no odds


class Known(Protocol):
    """What must be known of a bundle to explain what it says."""

    @property
    def goal(self) -> Goal:
        """What it tells."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the columns."""
        ...

    @property
    def spec(self) -> Spec:
        """How samples are prepared."""
        ...


class Explained(Protocol):
    """What a bundle must do so that what it says can be explained."""

    @property
    def info(self) -> Known:
        """What it is."""
        ...

    @property
    def batch_size(self) -> int:
        """Samples that it computes best at a time."""
        ...

    def prepare(self, data: bytes) -> FloatArray:
        """Make of a sample's bytes what the network takes."""
        ...

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        """Return probabilities [n, classes], or values [n]."""
        ...

    def explainer(self) -> Inside | None:
        """Return the torch network with its cuts, or None where there is none."""
        ...


def explanations(bundle: Explained) -> tuple[Method, ...]:
    """Return the ways in which a bundle's answers can be explained, the one to prefer first.

    Args:
        bundle: A bundle.

    Returns:
        ``grad-cam`` for pictures whose network has a map to show; ``integrated-gradients`` for
        texts whose network can be cut after its embeddings; ``occlusion`` for all pictures and
        texts; none for sequences of numbers.
    """
    return _offered(bundle, bundle.explainer())


def explain_sample(
    bundle: Explained,
    data: bytes,
    *,
    label: str | None = None,
    method: Method | Literal["auto"] = "auto",
) -> JsonDict:
    """Explain what a bundle says of one sample.

    Args:
        bundle: The bundle.
        data: The sample's bytes, as `Bundle.predict` takes them.
        label: The class to speak of; None: the most probable one. A regression has none.
        method: How; ``auto`` takes the first of `explanations`, and for a text with more words than
            are left out one at a time ``integrated-gradients`` where it is offered.

    Returns:
        JSON-like values: ``label``, ``probability`` (of a regression ``value``), ``method``, and

        - of a picture ``grid``, rows of numbers from 0 to 1, and ``box``, the part of the upright
          picture that the network saw, [left, top, right, bottom] as shares of its width and
          height: below 0 or above 1 where the network saw a border around the picture;
        - of a text ``text`` (without markup where the model reads it so; of a pair ``texts``), and
          ``words``, each with ``text``, ``start`` and ``end`` (characters, counted as code points),
          ``weight`` from -1 to 1, positive where it speaks for the label, ``seen`` false where the
          network did not read so far, and ``side`` 1 or 2 in a pair; ``scale`` is what a weight of
          1 means, ``unit`` its unit, and ``window`` how many words were left out at a time.

    Raises:
        DataError: The sample cannot be read.
        ConfigError: The label is unknown, or the method is not offered.
    """
    inside = bundle.explainer()
    offered = _offered(bundle, inside)
    if not offered:
        raise ConfigError("sequences of numbers have no explanation yet: ask for a prediction only")
    if method not in ("auto", *offered):
        raise ConfigError(
            f"method: expected 'auto' or one that this model offers ({', '.join(offered)}), "
            f"got {method!r}"
        )
    texts = _texts(bundle.info.spec, data)
    row = bundle.prepare(data if texts is None else _bytes(texts))
    answer, output = _answer(bundle, row, label)
    if texts is not None:
        return answer | _words(bundle, inside, texts, row, output, method)
    if "grad-cam" in offered and method != "occlusion":
        assert inside is not None
        return answer | _grad_cam(inside, data, row, output)
    return answer | _occlusion(bundle, data, row, output)


def picture_box(size: tuple[int, int], spec: InputSpec) -> tuple[float, float, float, float]:
    """Return which part of a picture the network sees, as `headstart.data.image.transform` cuts it.

    Args:
        size: Width and height of the upright picture, in pixels.
        spec: How it is prepared.

    Returns:
        Left, top, right and bottom as shares of its width and height; beyond 0 and 1 where there is
        a border around it.
    """
    if spec.fit == "resize":
        return (0.0, 0.0, 1.0, 1.0)
    width, height = size
    scale = spec.resize / min(size)
    if spec.fit == "pad":
        scale = min(1.0, spec.width / width, spec.height / height)
    # In pixels after resizing: the input lies in the middle of the picture, or around it.
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    left, top = (width - spec.width) / 2, (height - spec.height) / 2
    return (
        left / width,
        top / height,
        (left + spec.width) / width,
        (top + spec.height) / height,
    )


def _answer(bundle: Explained, row: FloatArray, label: str | None) -> tuple[JsonDict, int]:
    """Return what is said of the sample, and which column is explained."""
    said = bundle.predict_prepared([row])[0]
    if bundle.info.goal == "regression":
        if label is not None:
            raise ConfigError(
                f"label: a regression tells a number and has no classes, got {label!r}"
            )
        return {"label": None, "probability": None, "value": float(said)}, 0
    classes = bundle.info.classes
    if label is not None and label not in classes:
        hint = nearest(label, classes)
        raise ConfigError(f"label: expected one of the classes, got {label!r}; {hint}".rstrip("; "))
    output = int(said.argmax()) if label is None else classes.index(label)
    return {"label": classes[output], "probability": float(said[output])}, output


def _offered(bundle: Explained, inside: Inside | None) -> tuple[Method, ...]:
    if isinstance(bundle.info.spec, SeriesSpec):
        return ()
    if inside is not None and map_cut(inside.backbone, inside.head_cut) is not None:
        return ("grad-cam", "occlusion")
    if inside is not None and integrated.offers(inside.backbone):
        return ("occlusion", "integrated-gradients")
    return ("occlusion",)


def _grad_cam(inside: Inside, data: bytes, row: FloatArray, output: int) -> JsonDict:
    assert isinstance(inside.spec, InputSpec)
    cut = map_cut(inside.backbone, inside.head_cut)
    assert cut is not None
    box = picture_box(decode(data).size, inside.spec)
    return _heat("grad-cam", grad_cam(inside, cut, row, output), box, least=0.0)


def _occlusion(bundle: Explained, data: bytes, row: FloatArray, output: int) -> JsonDict:
    spec = bundle.info.spec
    assert isinstance(spec, InputSpec)
    picture = decode(data)
    if row.shape == (3, spec.height, spec.width):
        box = picture_box(picture.size, spec)
        size = (spec.height, spec.width)

        def covered(rows: slice, columns: slice) -> FloatArray:
            changed = row.copy()
            changed[:, rows, columns] = 0  # the mean colour, for the picture is normalised
            return changed
    else:
        # A graph that prepares pictures itself, or networks that want different inputs: the picture
        # is changed, and prepared anew each time.
        box = (0.0, 0.0, 1.0, 1.0)
        picture.thumbnail((_SMALL, _SMALL))
        size = (picture.height, picture.width)
        pixels = np.asarray(picture)
        mean = pixels.mean(axis=(0, 1)).round().astype(np.uint8)

        def covered(rows: slice, columns: slice) -> FloatArray:
            changed = pixels.copy()
            changed[rows, columns] = mean
            file = io.BytesIO()
            Image.fromarray(changed).save(file, "BMP")
            return bundle.prepare(file.getvalue())

    lost = occlude_picture(lambda rows: _scores(bundle, rows, output), size, covered)
    least = _LEAST if bundle.info.goal == "classification" else 0.0
    return _heat("occlusion", np.maximum(lost, 0), box, least)


def _heat(
    method: Method, found: FloatArray, box: tuple[float, float, float, float], least: float
) -> JsonDict:
    top = max(float(found.max()), least)
    grid = found / top if top else found
    return {"method": method, "grid": _rounded(grid), "box": _rounded(np.array(box))}


def _words(
    bundle: Explained,
    inside: Inside | None,
    texts: list[str],
    row: FloatArray,
    output: int,
    method: Method | Literal["auto"],
) -> JsonDict:
    words = [word for side, text in enumerate(texts) for word in words_of(text, side)]
    seen = _seen(bundle, texts, words, row)
    effects, window = None, None
    wanted = method == "integrated-gradients" or (method == "auto" and len(seen) > WINDOWS)
    if wanted and inside is not None and integrated.offers(inside.backbone):
        effects = integrated.integrated_gradients(inside, row, texts, words, output)
    how: Method = "occlusion" if effects is None else "integrated-gradients"
    if effects is None:
        effects = np.zeros(len(words), np.float32)
        effects[: len(seen)], window = occlude_words(
            lambda rows: _scores(bundle, rows, output),
            lambda parts: bundle.prepare(_bytes(parts)),
            texts,
            seen,
        )
    regression = bundle.info.goal == "regression"
    scale = max(float(np.abs(effects).max(initial=0)), 0.0 if regression else _LEAST)
    weights = effects / scale if scale else effects
    units = {"occlusion": "log odds", "integrated-gradients": "logit"}
    pair = len(texts) > 1
    return {
        "method": how,
        **({"texts": texts} if pair else {"text": texts[0]}),
        "words": [
            {
                "text": word.text,
                "start": word.start,
                "end": word.end,
                "weight": round(float(weight), 4),
                "seen": i < len(seen),
                **({"side": word.side + 1} if pair else {}),
            }
            for i, (word, weight) in enumerate(zip(words, weights, strict=True))
        ],
        "scale": scale,
        "unit": "value" if regression else units[how],
        "window": window,
    }


def _seen(bundle: Explained, texts: list[str], words: list[Word], row: FloatArray) -> list[Word]:
    """Return the words that the network reads: those after its longest length change nothing."""
    if len(texts) > 1:
        return words
    low, high = 0, len(words)  # the first `high` words give what all of them give
    while high - low > 1:
        middle = (low + high) // 2
        part = bundle.prepare(text_bytes(texts[0][: words[middle - 1].end]))
        low, high = (low, middle) if np.array_equal(part, row) else (middle, high)
    return words[:high]


def _scores(bundle: Explained, rows: Iterable[FloatArray], output: int) -> FloatArray:
    """Return what is explained, of each prepared sample: log odds, or the value of a regression."""
    left, outputs = iter(rows), []
    while batch := list(itertools.islice(left, bundle.batch_size)):
        outputs.append(bundle.predict_prepared(batch))
    said = np.concatenate(outputs)
    if said.ndim == 1:
        return said
    p = np.clip(said[:, output].astype(np.float64), _SURE, 1 - _SURE)
    odds: FloatArray = np.log(p / (1 - p)).astype(np.float32)
    return odds


def _texts(spec: Spec, data: bytes) -> list[str] | None:
    """Return the text, or the two of a pair, as the network reads them; None for a picture."""
    if not isinstance(spec, TextSpec):
        return None
    texts = [decode_text(data)[0]] if spec.pairs == "single" else list(pair_of(data))
    found = [strip_markup(text) if spec.strip_markup else text for text in texts]
    if not any(text.strip() for text in found):
        raise DataError("there is no word in it")
    return found


def _bytes(texts: Sequence[str]) -> bytes:
    return text_bytes(texts[0]) if len(texts) == 1 else pair_bytes(*texts)


def _rounded(values: FloatArray) -> list[object]:
    rounded: list[object] = np.round(values.astype(np.float64), 4).tolist()
    return rounded
