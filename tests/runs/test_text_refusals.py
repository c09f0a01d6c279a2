"""What a study of texts is refused for: before anything is trained, in words that help."""

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from text_studies import go, write_place

from headstart.config import load_experiment, schema
from headstart.errors import ConfigError, DataError, HeadstartError, StoppedError
from headstart.runs.inputs import Samples, build_backbone
from headstart.runs.study import Study

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = {"train": 24, "val": 8, "test": 8}
SPLIT = "split: {train: 0.5, val: 0.25, test: 0.25}"
DATA = {
    "texts": "{kind: text, path: texts.csv}",
    "pairs": "{kind: text, path: pairs.csv}",
    "pictures": f"{{kind: auto, path: photos, {SPLIT}}}",
    "hub": f"{{kind: huggingface, name: hub, {SPLIT}}}",
    "odd hub": f"{{kind: huggingface, name: odd, {SPLIT}}}",
    "odd hub, column": f"{{kind: huggingface, name: odd, text_column: words, {SPLIT}}}",
}
RESNET = "{name: headstart/resnet20, weights: random}"
BERT = "{name: transformers/./bert, max_length: 20}"
ALBERT = "{name: transformers/./albert}"
ATTENTION = "{name: transformers/./bert, pooling: attention}"
MODEL = "{a: {kind: model, epochs: 1}}"
BASELINE = "{a: {kind: baseline}}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, pairs, photos, a data set of the hub, a BERT and an ALBERT."""
    folder = write_place(tmp_path_factory.mktemp("place"), COUNTS)
    random = np.random.default_rng(0)
    for name in ("red", "green"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    kind = datasets.ClassLabel(names=["bad", "good"])
    for name, column in (("hub", "text"), ("odd", "words")):
        values = {column: [f"w5 w{i}" for i in range(24)], "label": [i % 2 for i in range(24)]}
        features = datasets.Features({column: datasets.Value("string"), "label": kind})
        datasets.Dataset.from_dict(values, features=features).save_to_disk(folder / name)
    # What a run of language models leaves, as far as its name is looked up.
    (folder / "lm" / "models" / "plain").mkdir(parents=True)
    (folder / "lm" / "models" / "plain" / "part.json").write_text("{}")
    return folder


@pytest.fixture
def study(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., schema.Experiment]:
    """Prepare a study in the place, and return the experiment that its folder keeps."""

    def stop(study: Study, *args: object) -> None:
        del study, args
        raise StoppedError("everything is prepared")

    monkeypatch.setattr("headstart.runs.runner.assemble", stop)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))

    def start(data: str, backbone: str, parts: str = MODEL, more: str = "") -> schema.Experiment:
        header = f"name: x\ntitle: X\ndata: {DATA[data]}\nbackbones: {{main: {backbone}}}\n"
        with pytest.raises(StoppedError, match="everything is prepared"):
            go(tmp_path, f"{header}parts: {parts}\n{more}")
        (path,) = tmp_path.glob("runs/*/experiment.yaml")
        return load_experiment(path)

    return start


@pytest.fixture
def refused(study: Callable[..., object], tmp_path: Path) -> Callable[..., str]:
    """Return the error of a study that does not even get a folder."""

    def start(*args: str, error: type[HeadstartError] = ConfigError, **options: str) -> str:
        with pytest.raises(error) as caught:
            study(*args, **options)
        assert not (tmp_path / "runs").exists()
        return str(caught.value)

    return start


def part(stage: str) -> str:
    return f"{{a: {{kind: model, epochs: 1, stages: [{stage}]}}}}"


def test_a_language_model_reads_with_its_own_words_alone(refused: Callable[..., str]) -> None:
    message = refused("texts", "{name: 'run:lm/plain', tokenizer: bert}")
    assert message.startswith("backbones.main.tokenizer: expected nothing, for a language model")


@pytest.mark.parametrize("parts", [MODEL, part("{trainable: head}")])
def test_attention_that_nobody_would_learn_is_refused(
    refused: Callable[..., str], parts: str
) -> None:
    message = refused("texts", ATTENTION, parts)
    assert message.startswith("backbones.main.pooling: expected a part that trains the stage pool")
    assert "parts.a does not: give it a stage with trainable: [pooled], or choose mean" in message


@pytest.mark.parametrize(
    "parts",
    [
        part("{trainable: [pooled]}"),
        part("{trainable: head}, {trainable: {last: 1}}"),
        "{a: {kind: model, epochs: 1, from_scratch: true}}",
    ],
)
def test_attention_that_a_part_learns_is_accepted(
    study: Callable[..., schema.Experiment], parts: str
) -> None:
    assert study("texts", ATTENTION, parts)


@pytest.mark.parametrize("name", ["layer.1", "layer.2"])
def test_one_set_of_weights_has_one_learning_rate(refused: Callable[..., str], name: str) -> None:
    stage = f"{{trainable: all, learning_rates: {{{name}: 0.1}}}}"
    message = refused("texts", ALBERT, part(stage))
    assert message.startswith("parts.a.stages: learning_rates: transformers/")
    assert f"so one rate, given to layer.0; got one for {name}" in message


@pytest.mark.parametrize("name", ["layer.0", "layer", "embeddings"])
def test_the_rate_of_shared_weights_is_given_to_the_first_or_to_all(
    study: Callable[..., schema.Experiment], name: str
) -> None:
    assert study("texts", ALBERT, part(f"{{trainable: all, learning_rates: {{{name}: 0.01}}}}"))


@pytest.mark.parametrize(("data", "noun"), [("texts", "texts"), ("pairs", "pairs")])
def test_an_engine_for_pictures_is_refused(
    refused: Callable[..., str], data: str, noun: str
) -> None:
    message = refused(data, BERT, more="cache: {engine: onnxruntime}\n")
    assert message == (
        f"cache.engine: expected auto or torch, for the data are {noun}, got 'onnxruntime'"
    )


@pytest.mark.parametrize(
    ("data", "examples", "message"),
    [
        ("texts", "[w5, '']", "examples.1: empty: no words"),
        ("texts", "[' \t ']", "examples.0: empty: no words"),
        ("pairs", "[[w5, w6], [w5, ' ']]", "examples.1: empty: no words in the second text"),
        ("pairs", "[['', w6]]", "examples.0: empty: no words in the first text"),
        ("texts", "[[w5, w6]]", "examples.0: expected one text"),
        ("pairs", "[w5]", "examples.0: expected [first text, second text]"),
    ],
)
def test_an_example_without_a_word_or_of_another_kind_is_refused(
    refused: Callable[..., str], data: str, examples: str, message: str
) -> None:
    assert refused(data, BERT, more=f"examples: {examples}\n").startswith(message)


@pytest.mark.parametrize(
    ("data", "backbone", "message"),
    [
        ("texts", RESNET, "headstart/resnet20 takes pictures, and is asked to read texts"),
        ("pairs", RESNET, "headstart/resnet20 takes pictures, and is asked to read texts"),
        ("pictures", BERT, "backbones.main.max_length: expected nothing"),
        ("pictures", "{name: transformers/./bert}", "takes texts, and the data are pictures: "),
        ("texts", "{name: headstart/gru, weights: random}", "reads sequences of numbers, and"),
        ("pictures", "{name: headstart/gru, weights: random}", "reads sequences of numbers, and"),
    ],
)
def test_a_network_for_other_samples_is_refused(
    refused: Callable[..., str], data: str, backbone: str, message: str
) -> None:
    assert message in refused(data, backbone)


@pytest.mark.parametrize(
    ("backbone", "parts"),
    [(BERT, MODEL), ("{name: transformers/./bert}", MODEL), (RESNET, MODEL), (RESNET, BASELINE)],
)
def test_texts_of_the_hub_want_their_column_named(
    refused: Callable[..., str], backbone: str, parts: str
) -> None:
    assert "set data.text_column" in refused("hub", backbone, parts)


def test_texts_of_the_hub_in_an_unusual_column_want_it_named_too(
    study: Callable[..., schema.Experiment], refused: Callable[..., str]
) -> None:
    assert "set data.text_column" in refused("odd hub", BERT)
    message = refused("odd hub", RESNET, error=DataError)
    assert "data.text_column where the samples are texts, to one of: words: " in message
    assert study("odd hub, column", BERT)


@pytest.mark.parametrize("tokenizer", ["bert", "./bert/tokenizer.json", "../PLACE/bert"])
def test_a_run_keeps_whole_paths_of_networks_and_tokenizers(
    study: Callable[..., schema.Experiment],
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: str,
) -> None:
    tokenizer = tokenizer.replace("PLACE", place.name)
    backbone = f"{{name: transformers/./albert, tokenizer: {tokenizer}}}"
    kept = study("texts", backbone, BASELINE).backbones["main"]
    assert kept.name == f"transformers/{place / 'albert'}"
    assert kept.tokenizer == str((place / tokenizer).resolve())
    monkeypatch.chdir(tmp_path)
    assert build_backbone("main", kept, Samples("text"), allow_network=False)[1] == "pooled"


def test_names_that_are_no_paths_are_kept_as_they_are(
    study: Callable[..., schema.Experiment],
) -> None:
    backbone = "{name: transformers/albert-base-v2, tokenizer: packaged/minilm-l6}"
    kept = study("texts", backbone, BASELINE).backbones["main"]
    assert kept.name == "transformers/albert-base-v2"
    assert kept.tokenizer == "packaged/minilm-l6"
