"""Experiment files of texts, sequences and language: what goes together, and how errors read."""

from pathlib import Path

import pytest
import yaml

from headstart.config import Experiment, load_experiment
from headstart.errors import ConfigError

DATA = {
    "pictures": "{kind: auto, path: d}",
    "texts": "{kind: text, path: d}",
    "hub": "{kind: huggingface, name: d, text_column: t, pair_column: p}",
    "numbers": "{kind: sequence, target: adding, max_length: 12}",
    "words": "{kind: language, path: d}",
}
LABELLED = [key for key in DATA if key != "words"]


def load(tmp_path: Path, data: str, parts: str, more: str = "", backbones: str = "") -> Experiment:
    path = tmp_path / "study.yaml"
    networks = backbones or ("{}" if data == "words" else "{main: {name: some/network}}")
    path.write_text(
        f"name: x\ntitle: X\ndata: {DATA[data]}\nbackbones: {networks}\nparts: {parts}\n{more}"
    )
    return load_experiment(path)


def refused(tmp_path: Path, data: str, parts: str, *lines: str, **options: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, data, parts, **options)
    problems = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert len(problems) == len(lines), problems
    for problem, line in zip(problems, lines, strict=True):
        assert problem.startswith(line), problem


@pytest.mark.parametrize("data", LABELLED)
def test_labelled_data_want_models_and_no_language_models(tmp_path: Path, data: str) -> None:
    assert load(tmp_path, data, "{a: {kind: model}, b: {kind: baseline}}").parts["a"]
    refused(
        tmp_path,
        data,
        "{a: {kind: language_model}}",
        "parts.a.kind: expected a part for samples with labels",
    )


def test_running_text_wants_language_models_and_no_backbone(tmp_path: Path) -> None:
    study = load(tmp_path, "words", "{a: {kind: language_model}}")
    assert study.parts["a"].kind == "language_model"
    assert study.backbones == {}
    for kind in ("model", "baseline", "zero_shot"):
        refused(
            tmp_path,
            "words",
            f"{{a: {{kind: {kind}}}}}",
            "parts.a.kind: expected language_model where data.kind is language",
        )


@pytest.mark.parametrize(
    ("more", "backbones", "line"),
    [
        ("examples: [a text]\n", "{}", "examples: expected nothing where data.kind is language"),
        ("", "{main: {name: some/network}}", "backbones: expected nothing where data.kind is lang"),
        ("comparisons: [{a: a, b: b}]\n", "{}", "comparisons: expected nothing: language models"),
    ],
)
def test_what_would_be_ignored_beside_language_models_is_refused(
    tmp_path: Path, more: str, backbones: str, line: str
) -> None:
    parts = "{a: {kind: language_model}, b: {kind: language_model}}"
    assert load(tmp_path, "words", parts)
    refused(tmp_path, "words", parts, line, more=more, backbones=backbones)


def test_a_model_needs_a_backbone_and_a_baseline_does_not(tmp_path: Path) -> None:
    assert load(tmp_path, "texts", "{a: {kind: baseline}}", backbones="{}")
    refused(
        tmp_path,
        "texts",
        "{a: {kind: model}}",
        "backbones: expected at least one, for parts.a",
        backbones="{}",
    )


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("{kind: zero_shot}", "parts.a.kind: expected a part that tells numbers"),
        ("{kind: model, head: {kind: logistic}}", "parts.a.head.kind: expected linear or mlp"),
        (
            "{kind: model, early_stopping: {metric: accuracy}}",
            "parts.a.early_stopping.metric: expected loss",
        ),
        (
            "{kind: model, stages: [{trainable: all, early_stopping: {metric: accuracy}}]}",
            "parts.a.stages.0.early_stopping.metric: expected loss",
        ),
        ("{kind: model, loss: {label_smoothing: 0.1}}", "parts.a.loss.label_smoothing: expected"),
        (
            "{kind: model, stages: [{loss: {class_weights: balanced}}]}",
            "parts.a.stages.0.loss.class_weights: expected nothing: the loss of a number",
        ),
    ],
)
def test_numbers_have_no_classes(tmp_path: Path, part: str, line: str) -> None:
    refused(tmp_path, "numbers", f"{{a: {part}}}", line)


@pytest.mark.parametrize("data", ["texts", "hub", "numbers"])
@pytest.mark.parametrize("setting", ["mixup: 0.2", "cutmix: 1.0", "augmentation: {flip: true}"])
def test_what_changes_pictures_is_for_pictures(tmp_path: Path, data: str, setting: str) -> None:
    parts = f"{{a: {{kind: model, stages: [{{trainable: all, {setting}}}]}}}}"
    key = setting.partition(":")[0]
    refused(tmp_path, data, parts, f"parts.a.stages.0.{key}: expected nothing: it is for pictures")
    assert load(tmp_path, "pictures", parts)


@pytest.mark.parametrize(
    ("data", "metric", "fine"),
    [
        ("texts", "test.accuracy", True),
        ("texts", "test-mismatched.accuracy", True),
        ("texts", "test-mismatched.accurcy", False),
        ("texts", "test.perplexity", False),
        ("texts", "test.mse", False),
        ("numbers", "test.mse", True),
        ("numbers", "val.mae", True),
        ("numbers", "test.accuracy", False),
        ("words", "test.perplexity", True),
        ("words", "val.loss", True),
        ("words", "test.accuracy", False),
    ],
)
@pytest.mark.parametrize("part", ["a", "recommended"])
def test_targets_are_of_what_is_measured(
    tmp_path: Path, data: str, metric: str, fine: bool, part: str
) -> None:
    kind = "language_model" if data == "words" else "model"
    more = f"targets: [{{part: {part}, metric: {metric}, value: 0.5}}]\n"
    parts = f"{{a: {{kind: {kind}}}}}"
    if fine:
        assert load(tmp_path, data, parts, more).targets[0].metric == metric
    else:
        refused(tmp_path, data, parts, "targets.0.metric: expected", more=more)


def test_gains_are_of_classes_and_numbers_and_agreement_of_classes(tmp_path: Path) -> None:
    two = "{a: {kind: model}, b: {kind: model}}"
    more = "targets: [{part: a, metric: METRIC, against: b, value: 0.5}]\n"
    for data, metric in (("texts", "gain"), ("texts", "agreement"), ("numbers", "gain")):
        assert load(tmp_path, data, two, more.replace("METRIC", metric))
    refused(
        tmp_path,
        "numbers",
        two,
        "targets.0.metric: expected SPLIT.METRIC, such as test.mse",
        more=more.replace("METRIC", "agreement"),
    )
    refused(
        tmp_path,
        "words",
        two.replace("model", "language_model"),
        "targets.0.metric: expected SPLIT.METRIC, such as test.perplexity",
        more=more.replace("METRIC", "gain"),
    )


def test_examples_are_texts_or_pairs_and_nothing_else(tmp_path: Path) -> None:
    study = load(tmp_path, "texts", "{a: {kind: model}}", 'examples: [One text, [first, "2nd"]]\n')
    assert study.examples == ("One text", ("first", "2nd"))
    for wrong in ("[one]", "[a, b, c]", "3"):
        with pytest.raises(ConfigError, match=r"examples\.0"):
            load(tmp_path, "texts", "{a: {kind: model}}", f"examples: [{wrong}]\n")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("pooling: middle", "backbones.main.pooling: expected one of mean, max, first"),
        ("pairs: apart", "backbones.main.pairs: expected one of together, separately"),
        ("max_length: 0", "backbones.main.max_length: expected a number of at least 1"),
        ("max_lenght: 9", "backbones.main.max_lenght: expected a known key"),
    ],
)
def test_settings_of_text_networks_are_checked(tmp_path: Path, change: str, line: str) -> None:
    backbones = f"{{main: {{name: packaged/minilm-l6, {change}}}}}"
    refused(tmp_path, "texts", "{a: {kind: model}}", line, backbones=backbones)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("dropout_hidden: 1.0", "parts.a.dropout_hidden: expected a number below 1"),
        ("bptt: 1", "parts.a.bptt: expected a number of at least 2"),
        ("cell: rnn", "parts.a.cell: expected one of elman, gru, lstm"),
        ("average_after: 0", "parts.a.average_after: expected a number of at least 1"),
        ("record_steps: 0", "parts.a.record_steps: expected a number of at least 1"),
        (
            "optimizer: {kind: sgd, weight_decay_on: biases}",
            "parts.a.optimizer.weight_decay_on: expected",
        ),
    ],
)
def test_settings_of_language_models_are_checked(tmp_path: Path, setting: str, line: str) -> None:
    refused(tmp_path, "words", f"{{a: {{kind: language_model, {setting}}}}}", line)


@pytest.mark.parametrize("data", DATA)
def test_a_resolved_experiment_loads_again_unchanged(tmp_path: Path, data: str) -> None:
    parts = {
        "words": "{a: {kind: language_model, references: [{name: n, perplexity: 9, source: s}]}}"
    }.get(data, "{a: {kind: model}, b: {kind: sweep, grid: {seed: [0, 1]}}, c: {kind: baseline}}")
    study = load(tmp_path, data, parts)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    assert load_experiment(again) == study


def test_the_command_line_says_where_texts_are(tmp_path: Path) -> None:
    load(tmp_path, "texts", "{a: {kind: model}}")
    study = load_experiment(tmp_path / "study.yaml", data="elsewhere")
    assert study.data.path == "elsewhere"
    load(tmp_path, "numbers", "{a: {kind: model}}")
    with pytest.raises(ConfigError, match="data"):
        load_experiment(tmp_path / "study.yaml", data="elsewhere")
