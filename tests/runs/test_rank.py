"""`headstart rank`: real networks on little data, and its rules on made-up figures."""

import html
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from sklearn.linear_model import LogisticRegression
from text_studies import tiny_network, write_texts
from typer.testing import CliRunner

from headstart._util.progress import SilentProgress
from headstart._util.stopping import Stop
from headstart.backbones.registry import load_backbone
from headstart.cli.rank import rank as command
from headstart.data.checks import scan
from headstart.data.dataset import Dataset, prepare
from headstart.data.loader import load_batches
from headstart.data.source import open_source
from headstart.errors import ConfigError, DataError, RunError, StoppedError
from headstart.evaluate.transferability import leep, logme
from headstart.runs import rank_costs
from headstart.runs.folds import make_folds
from headstart.runs.index import read_rows
from headstart.runs.peak import Peak
from headstart.runs.rank import RankResult, rank
from headstart.runs.rank_scores import cross_validated_probe
from headstart.runs.rank_verdict import agreement, judge

LITE = "packaged/efficientnet-lite0"
SMALL = "timm/mobilenetv3_small_050"

Go = Callable[..., RankResult]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Few calls are timed, no process is started to measure memory, and no engine is tried."""
    monkeypatch.setattr("headstart.features.work.trial_images", lambda: 1000)
    monkeypatch.setattr(rank_costs, "_SECONDS", {1: 0.1, 32: 0.1})
    monkeypatch.setattr(rank_costs, "_LEAST_CALLS", {1: 2, 32: 2})
    monkeypatch.setattr(
        rank_costs,
        "measure_peaks",
        lambda subjects, sizes, **_: tuple(
            RunError("no memory") if one.weights == "random" else Peak(1, dict.fromkeys(sizes, 9))
            for one in subjects
        ),
    )


@pytest.fixture
def go(quick: None, tmp_path: Path) -> Go:
    def run(place: Path, **options: object) -> RankResult:
        return rank(str(place), out=tmp_path / "runs", show=SilentProgress(), **options)

    return run


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, str, str]:
    """A table of texts, and two tiny networks that read them."""
    one = tiny_network(tmp_path / "one")
    two = tiny_network(tmp_path / "two", "albert")
    table = write_texts(tmp_path / "texts.csv", {"train": 40, "val": 20, "test": 20})
    return table, f"transformers/{one}", f"transformers/{two}"


def _by_hand(photos: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, what the network's own classifier says, and labels of train and val."""
    source = open_source("auto", str(photos))
    preflight = scan(source, workers=1, progress=SilentProgress())
    dataset = prepare(source, preflight, fractions=None, seed=0)
    rows = np.concatenate([dataset.splits["train"], dataset.splits["val"]])
    backbone = load_backbone(LITE)
    batches = load_batches(dataset, rows, backbone.input_spec, 8, workers=1)
    with torch.inference_mode():
        z = torch.cat([backbone.prefix("pooled")(torch.from_numpy(b)) for b in batches])
        theta = torch.softmax(backbone.classifier(z), dim=1)
    return z.flatten(1).numpy(), theta.numpy(), dataset.labels[rows]


def test_pictures_are_scored_by_real_weights_and_random_ones_are_only_timed(go, photos):
    result = go(photos, backbones=(LITE,), random=(SMALL,))
    record = json.loads((result.folder / "rank.json").read_text())
    assert record == json.loads(json.dumps(result.record))
    assert result.folder.name.startswith("rank-photos-")
    lite, small = record["candidates"]
    assert record["recommendation"]["name"] == LITE
    assert lite["scores"]["probe"]["accuracy"]["value"] > 0.9  # colours are easy
    assert lite["scores"]["knn"]["value"] > 0.9
    features, theta, labels = _by_hand(photos)
    assert lite["scores"]["logme"] == pytest.approx(logme(features, labels, 3), abs=1e-3)
    assert lite["scores"]["leep"] == pytest.approx(leep(theta, labels, 3), abs=1e-3)
    assert (small["key"], small["random"], small["scores"]) == (f"{SMALL} (random)", True, None)
    assert small["indistinguishable"] is None
    # timm's count without the classifier of 1,000 classes, and a head of three classes on 1,280.
    assert lite["parameters_total"] == 4_652_008 - 1281 * 1000 + 1281 * 3
    assert lite["macs"] == pytest.approx(385e6, rel=0.05)
    for one in (lite, small):
        for size in ("1", "32"):
            timed = one["latency"][size]
            assert 0 < timed["p50_ms"] <= timed["slowest_ms"]
            rate = 1e3 * int(size) / timed["p50_ms"]
            assert timed["samples_per_second"] == pytest.approx(rate, rel=1e-3)
    assert lite["peak_bytes"] == {"1": 9, "32": 9}
    assert small["peak_bytes"] is None


def test_no_test_sample_enters_a_score(go, texts, monkeypatch):
    table, one, _ = texts
    read: list[str] = []
    original = Dataset.read

    def watched(self: Dataset, index: int) -> bytes:
        split = next(s for s, rows in self.splits.items() if index in rows)
        read.append(split)
        return original(self, index)

    monkeypatch.setattr(Dataset, "read", watched)
    record = go(table, backbones=(one,)).record
    assert set(read) == {"train", "val"}  # besides the checks, which read the files themselves
    assert record["method"]["test_samples_scored"] == 0
    assert record["method"]["samples"] == 60
    assert record["candidates"][0]["scores"]["probe"]["accuracy"]["n"] == 60


def test_texts_are_ranked_too_and_every_network_sees_the_same_texts(go, texts):
    table, one, two = texts
    record = go(table, backbones=(one, two), random=(one,)).record
    first, second, random = record["candidates"]
    assert record["data"]["noun"] == "text"
    assert first["scores"]["leep"] is None  # there is no classifier
    tokens = {c["latency"]["1"]["tokens"] for c in record["candidates"]}
    assert len(tokens) == 1
    assert min(tokens) > 2
    assert random["key"] == f"{one} (random)"
    assert {a["score"]: a["n"] for a in record["agreement"]} == {"logme": 2, "leep": 0, "knn": 2}
    # The smallest BERT's own tokenizer is not here: the packaged one stands in.
    published = "transformers/google/bert_uncased_L-2_H-128_A-2"
    timed = go(table, backbones=(one,), random=(published,)).record["candidates"][1]
    assert timed["parameters_total"] > 4_000_000
    assert second["against_best"] is None or first["against_best"] is None


def test_a_second_ranking_reuses_the_features(go, texts):
    table, one, _ = texts
    first, again = (go(table, backbones=(one,)).record["candidates"][0] for _ in range(2))
    assert (first["extraction"]["extracted"], again["extraction"]["extracted"]) == (60, 0)
    assert first["scores"]["logme"] == again["scores"]["logme"]
    assert first["scores"]["probe"] == again["scores"]["probe"]


def test_the_command_prints_tables_or_the_file_itself(quick, texts, tmp_path):
    table, one, two = texts
    app = typer.Typer()
    app.command()(command)
    asked = [str(table), "--backbone", one, "--backbone", two, "--out", str(tmp_path / "runs")]
    printed = CliRunner().invoke(app, [*asked, "--format", "json"])
    assert printed.exit_code == 0, printed.output
    (file,) = (tmp_path / "runs").glob("rank-texts-*/rank.json")
    assert printed.stdout == file.read_text()
    assert (file.parent / "rank.html").is_file()
    record = json.loads(printed.stdout)
    (row,) = read_rows(tmp_path / "runs")
    chosen = record["recommendation"]["name"]
    (best,) = [one for one in record["candidates"] if one["key"] == chosen]
    assert (row.kind, row.state, row.model.text) == ("rank", "complete", chosen)
    assert row.score.order == best["scores"]["probe"]["accuracy"]["value"]
    assert row.report.endswith("/rank.html")
    assert record["command"] in html.unescape((tmp_path / "runs/index.html").read_text())
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*asked, "--limit-per-class", "10"])
    assert shown.exit_code == 0, shown.output
    assert "Accuracy out of fold, 40 texts of train and val" in shown.stdout
    assert "with so few it means little" in shown.stdout or "rho" not in shown.stdout
    for name in (one, two):
        assert Path(name).name in shown.stdout
    assert record["command"].startswith(f"headstart rank {table} --backbone transformers/")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbones": (LITE, LITE)}, "each name once"),
        ({"backbones": ("timm/no-such-net",)}, "no model 'no-such-net'"),
        ({"backbones": ("packaged/minilm-l6",)}, "takes texts"),
        ({"limit_per_class": 3}, "at least 5"),
        ({"kind": "auto", "columns": {"text": "a"}}, "--kind text"),
    ],
)
def test_what_cannot_be_ranked_is_refused_before_any_work(go, photos, options, message):
    with pytest.raises(ConfigError, match=message):
        go(photos, **options)
    assert not (photos.parent / "runs").exists()


def test_classes_that_are_too_small_are_named(go, tmp_path):
    table = write_texts(tmp_path / "few.csv", {"train": 4, "val": 4, "test": 4})
    network = f"transformers/{tiny_network(tmp_path / 'net')}"
    with pytest.raises(DataError, match=r"bad \(4\), good \(4\)"):
        go(table, backbones=(network,))


def test_it_ends_where_somebody_asks(quick, texts, tmp_path):
    table, one, _ = texts
    stop = Stop()
    stop.request()
    with pytest.raises(StoppedError):
        rank(str(table), backbones=(one,), out=tmp_path, show=SilentProgress(), stop=stop)


def test_no_figure_of_a_fold_depends_on_its_own_labels():
    """Labels of noise are told no better than by chance, however many settings are tried."""
    random = np.random.default_rng(0)
    features = random.standard_normal((300, 50)).astype(np.float32)
    labels = random.integers(0, 2, 300)
    folds = np.arange(300) % 5
    cpu = torch.device("cpu")
    found = cross_validated_probe(features, labels, 2, folds, device=cpu)
    assert found.accuracy.low < 0.5 < found.accuracy.high
    # Where the features do tell, other labels in one fold change neither the penalty that is chosen
    # for it nor what is said of it: only whether that was right.
    labels = (features[:, 0] > 0).astype(np.int64)
    turned = np.where(folds == 2, 1 - labels, labels)
    found, other = (
        cross_validated_probe(features, y, 2, folds, device=cpu) for y in (labels, turned)
    )
    assert found.cs[2] == other.cs[2]
    assert found.cs[0] != other.cs[0]
    assert (found.right[folds == 2] == ~other.right[folds == 2]).all()


def test_the_probe_is_scikit_learns_with_the_chosen_penalty():
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 200)
    features = random.standard_normal((200, 8)).astype(np.float32)
    features[np.arange(200), labels] += 2.0
    folds = np.arange(200) % 5
    found = cross_validated_probe(features, labels, 3, folds, device=torch.device("cpu"))
    right = np.zeros(200, dtype=bool)
    for fold, c in enumerate(found.cs):
        test = folds == fold
        reference = LogisticRegression(C=c, max_iter=2000).fit(features[~test], labels[~test])
        right[test] = reference.predict(features[test]) == labels[test]
    assert (found.right == right).mean() > 0.99
    assert found.accuracy.value > 0.7


def test_copies_and_groups_are_never_parted(tmp_path):
    lines = ["text,label,group"]
    lines += [f"some words number{i // 2},{'ab'[i // 2 % 2]},g{i // 4}" for i in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    source = open_source("text", str(tmp_path / "t.csv"), columns={"group": "group"})
    preflight = scan(source, workers=1, progress=SilentProgress())
    dataset = prepare(source, preflight, fractions=None, seed=0)
    rows = np.sort(np.concatenate([dataset.splits["train"], dataset.splits["val"]]))
    folds = make_folds(dataset, rows)
    of_group: dict[object, set[int]] = {}
    for place, fold in zip(dataset.positions[rows], folds, strict=True):
        of_group.setdefault(dataset.report.rows[int(place)].group, set()).add(int(fold))
    assert len(of_group) > 10
    assert all(len(found) == 1 for found in of_group.values())
    assert len(set(folds)) == 5


def _entry(key: str, accuracy: float, n: int, p50_ms: float, right: np.ndarray) -> dict:
    from headstart.evaluate import wilson

    score = wilson(round(accuracy * n), n)
    right[key] = np.arange(n) < round(accuracy * n)
    return {
        "key": key,
        "latency": {"1": {"p50_ms": p50_ms}},
        "scores": {
            "logme": accuracy,
            "leep": None,
            "knn": {"value": 1 - accuracy},
            "probe": {
                "accuracy": {"value": score.value, "low": score.low, "high": score.high, "n": n}
            },
        },
    }


@pytest.fixture
def made() -> tuple[list[dict], dict]:
    right: dict = {}
    entries = [
        _entry("slow-best", 0.92, 500, 40.0, right),
        _entry("quick", 0.91, 500, 10.0, right),
        _entry("beaten", 0.88, 500, 20.0, right),
        _entry("bad", 0.70, 500, 1.0, right),
    ]
    return [*entries, {"key": "random", "scores": None, "latency": {"1": {"p50_ms": 0.5}}}], right


def test_the_fastest_of_those_that_cannot_be_told_from_the_best_is_recommended(made):
    entries, right = made
    found = judge(entries, right, "picture")
    assert (found["name"], found["best"]) == ("quick", "slow-best")
    assert found["indistinguishable"] == ["slow-best", "quick"]
    # 20 of 500 told right by the best alone: told apart, though the intervals overlap.
    intervals = [entries[i]["scores"]["probe"]["accuracy"] for i in (0, 2)]
    assert intervals[1]["high"] > intervals[0]["low"]
    assert entries[2]["indistinguishable"] is False
    assert entries[2]["against_best"]["p_holm"] == pytest.approx(2 * 2 * 2.0**-20, rel=1e-3)
    assert [e["dominated_by"] for e in entries] == [None, None, "quick", None, None]
    assert entries[3]["indistinguishable"] is False
    assert entries[4]["indistinguishable"] is None
    # 5 of 500 told right by the best alone, none by the other alone: 2 * 2^-5 by hand.
    assert entries[1]["against_best"] == {"only": 0, "best_only": 5, "p_holm": 0.0625}
    assert 0 < entries[3]["against_best"]["p_holm"] < 1e-20  # rounding does not make it nothing
    for part in ("quick", "91.0%", "10.0 ms", "slow-best", "92.0%", "40.0 ms", "of 2"):
        assert part in found["sentence"]


def test_networks_whose_intervals_are_apart_may_still_be_indistinguishable():
    """Of 12 samples one tells all right, the others 6: by hand p = 2 / 2^6."""
    right: dict = {}
    entries = [_entry("a", 1.0, 12, 9.0, right), _entry("b", 0.5, 12, 1.0, right)]
    entries += [_entry("c", 0.5, 12, 2.0, right)]
    low = entries[0]["scores"]["probe"]["accuracy"]["low"]
    assert entries[1]["scores"]["probe"]["accuracy"]["high"] < low
    found = judge(entries, right, "picture")
    assert entries[1]["against_best"]["p_holm"] == pytest.approx(2 * 2 / 2**6)  # two tests
    assert found["name"] == "b"


@pytest.mark.parametrize(("calls", "known"), [(19, False), (20, True)])
def test_a_95th_percentile_is_given_of_20_calls_at_least(calls, known):
    record = rank_costs._latency(np.linspace(0.001, 0.002, calls), 32)
    assert (record["p95_ms"] is not None) == known
    assert record["slowest_ms"] == pytest.approx(2.0)
    assert (record["calls"], record["batch_size"]) == (calls, 32)


def test_a_fast_and_accurate_network_is_recommended_as_the_best(made):
    entries, right = made
    entries.append(_entry("both", 0.95, 500, 5.0, right))
    found = judge(entries, right, "text")
    assert found["name"] == found["best"] == "both"
    assert entries[0]["dominated_by"] == "both"
    assert "most accurate" in found["sentence"]


def test_cheap_scores_are_held_against_the_order_of_the_probe(made):
    entries, _ = made
    found = {one["score"]: one for one in agreement(entries)}
    assert found["logme"]["spearman"]["value"] == pytest.approx(1.0)
    assert found["knn"]["kendall"]["value"] == pytest.approx(-1.0)
    assert found["leep"] == {
        "score": "leep",
        "n": 0,
        "spearman": {"value": None, "p": None},
        "kendall": {"value": None, "p": None},
    }
    # Of 24 orders of four two agree as much, or disagree as much.
    assert found["logme"]["spearman"]["p"] == pytest.approx(2 / 24)
