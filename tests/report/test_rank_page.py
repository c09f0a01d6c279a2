"""The page of a ranking, from made-up figures."""

import copy
from html.parser import HTMLParser

import pytest

from headstart.report.rank_page import DISTURBED, disturbed, rank_html, rank_view
from headstart.report.rank_tables import in_order, verdict_words
from headstart.types import JsonDict


def _score(value: float) -> JsonDict:
    return {"value": value, "low": value - 0.02, "high": value + 0.015, "n": 850}


def _latency(p50_ms: float, size: int, calls: int = 40) -> JsonDict:
    return {
        "batch_size": size,
        "calls": calls,
        "p50_ms": p50_ms,
        "p95_ms": 1.3 * p50_ms if calls >= 20 else None,
        "slowest_ms": 1.5 * p50_ms,
        "low_ms": 0.95 * p50_ms,
        "high_ms": 1.05 * p50_ms,
        "samples_per_second": 1e3 * size / p50_ms,
        "tokens": None,
        "cores_used": 1.9,
    }


def _entry(key: str, accuracy: float | None, p50_ms: float) -> JsonDict:
    scores = None
    if accuracy is not None:
        scores = {
            "logme": -0.123,
            "leep": None if key == "slow" else -0.456,
            "knn": _score(accuracy - 0.05),
            "probe": {"accuracy": _score(accuracy), "loss": 0.3, "c": [1.0] * 5},
            "cheap_seconds": 0.1,
            "probe_seconds": 1.0,
        }
    extraction = {"extracted": 800, "reused": 50, "engine": "openvino", "wall_seconds": 12.0}
    return {
        "key": key,
        "name": key.removesuffix(" (random)"),
        "random": accuracy is None,
        "weights": {"kind": "pretrained", "origin": f"weights of {key}", "license": "MIT"},
        "features": 1280,
        "parameters_total": 3_400_000,
        "size_bytes": 13_600_000,
        "macs": 390_000_000,
        "extraction": None if accuracy is None else extraction,
        "scores": scores,
        "latency": {"1": _latency(p50_ms, 1), "32": _latency(20 * p50_ms, 32)},
        "peak_bytes": None if accuracy is None else {"1": 30 * 2**20, "32": 321 * 2**20},
        "dominated_by": None,
        "indistinguishable": None if accuracy is None else True,
        "against_best": None,
    }


def _agreement(n: int) -> list[JsonDict]:
    known, none = {"value": 0.5, "p": 0.6667}, {"value": None, "p": None}
    return [
        {"score": "logme", "n": n, "spearman": known, "kendall": known},
        {"score": "leep", "n": 1, "spearman": none, "kendall": none},
        {"score": "knn", "n": n, "spearman": known, "kendall": known},
    ]


@pytest.fixture
def record() -> JsonDict:
    quick, slow = _entry("quick", 0.90, 10.0), _entry("slow", 0.91, 40.0)
    beaten = _entry("<b>beaten", 0.80, 20.0)
    quick["against_best"] = {"only": 5, "best_only": 9, "p_holm": 0.42}
    beaten["against_best"] = {"only": 1, "best_only": 99, "p_holm": 1e-9}
    beaten |= {"dominated_by": "quick", "indistinguishable": False}
    return {
        "schema_version": 1,
        "kind": "rank",
        "created": "2026-01-02T03:04:05+00:00",
        "command": "headstart rank flowers",
        "environment": {"device": "cpu", "cpu": "A <fast> one"},
        "data": {"noun": "picture", "origin": "/data/flowers", "classes": ["a", "b"]},
        "method": {
            "folds": 5,
            "neighbours": 20,
            "samples": 850,
            "timing": {"engine": "torch", "threads": 2, "precision": "float32"},
        },
        "candidates": [beaten, _entry("timed (random)", None, 5.0), quick, slow],
        "agreement": _agreement(3),
        "recommendation": {
            "name": "quick",
            "best": "slow",
            "indistinguishable": ["slow", "quick"],
            "sentence": "Take quick.",
        },
        "wall_seconds": 123.0,
    }


class _Page(HTMLParser):
    """Collects what a page loads, and whether its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [v or "" for k, v in attrs if k in ("src", "href") and (v or "")[:1] != "#"]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_stands_alone_and_shows_every_network(record):
    html = rank_html(record)
    page = _Page()
    page.feed(html)
    assert (page.loads, page.open) == ([], [])
    assert "<script" not in html
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    text = " ".join(page.texts)
    for words in ("quick", "slow", "<b>beaten", "timed (random)", "Take quick.", "850"):
        assert words in text
    assert "<b>beaten" not in html  # names are never read as markup
    assert html.count("<svg") == 2  # one for screens, one for phones


def test_random_weights_are_timed_and_never_ranked(record):
    view = rank_view(record)
    tables = {b.key: b for s in view.sections for b in s.blocks if b.kind == "table"}
    assert [r.cells[0] for r in tables["accuracies"].rows] == ["slow", "quick", "<b>beaten"]
    for key in ("times", "sizes"):
        assert [r.cells[0] for r in tables[key].rows][-1] == "timed (random)"
    (figure,) = [b for s in view.sections for b in s.blocks if b.kind == "figure"]
    assert {p.title for p in figure.plot.points} == {"slow", "quick", "<b>beaten"}
    assert {p.title for p in figure.plot.points if p.front} == {"slow", "quick"}
    assert [one["key"] for one in in_order(record)][-1] == "timed (random)"


def test_names_in_the_chart_are_short_where_that_is_clear(record):
    for one, key in zip(
        record["candidates"], ("timm/a", "t (random)", "timm/b", "own/b"), strict=True
    ):
        one["key"] = key
    record["recommendation"] |= {"name": "timm/b", "best": "own/b"}
    (figure,) = [b for s in rank_view(record).sections for b in s.blocks if b.kind == "figure"]
    assert {p.title for p in figure.plot.points} == {"a", "timm/b", "own/b"}


def test_verdicts_say_who_is_recommended_who_is_beaten_and_by_whom(record):
    words = {o["key"]: verdict_words(o, record["recommendation"]) for o in record["candidates"]}
    assert words == {
        "quick": "recommended",
        "slow": "most accurate",
        "<b>beaten": "dominated by quick",
        "timed (random)": "random weights: cost only",
    }


def _said(record: JsonDict) -> str:
    blocks = [b for s in rank_view(record).sections for b in s.blocks]
    return " ".join(b.text for b in blocks if hasattr(b, "text")).replace("\u00a0", " ")


def test_the_paired_test_decides_and_says_so_where_intervals_overlap(record):
    text = _said(record)
    assert "Indistinguishable from the best by the paired test" in text
    assert "(McNemar, Holm): quick (p = 0.42)." in text
    assert "although" not in text  # the interval of the third is apart as well
    for one in record["candidates"]:
        if one["key"] == "quick":
            one["indistinguishable"] = False
            one["against_best"]["p_holm"] = 0.0032
    text = _said(record)
    assert "Indistinguishable" not in text
    assert "although the intervals overlap: quick (p = 0.0032)." in text


def test_of_few_calls_no_95th_percentile_is_shown(record):
    for one in record["candidates"]:
        one["latency"]["32"] = _latency(640.0, 32, calls=6)
    view = rank_view(record)
    (times,) = [b for s in view.sections for b in s.blocks if getattr(b, "key", "") == "times"]
    for row in times.rows:
        assert float(row.cells[3]) > 0
        assert row.cells[4:6] == ("20.0", "–")
    assert "too few calls" in times.note
    assert "6 calls in batches" in times.note
    assert "95% within" in rank_html(record)
    for one in record["candidates"]:
        one["latency"]["1"] = _latency(10.0, 1, calls=12)
    assert "95% within" not in rank_html(record)
    assert not disturbed(record)
    for one in record["candidates"]:
        one["latency"]["1"]["slowest_ms"] = 25.0
    assert disturbed(record)


def test_few_networks_are_said_to_prove_little_about_the_cheap_scores(record):
    assert "means little" in rank_html(record)
    more = copy.deepcopy(record)
    added = [_entry(f"net{i}", 0.7 + 0.01 * i, 11.0 + i) for i in range(5)]
    for one in added:
        one |= {"indistinguishable": False, "against_best": {"p_holm": 1e-6}}
    more["candidates"] += added
    more["agreement"] = _agreement(8)
    assert "means little" not in rank_html(more)


def test_times_of_a_busy_machine_are_said_to_be_too_long(record):
    assert not disturbed(record)
    assert DISTURBED not in rank_html(record)
    record["candidates"][0]["latency"]["1"]["cores_used"] = 0.4
    assert DISTURBED in rank_html(record)
    record["environment"]["device"] = "cuda"  # there the processor waits
    assert not disturbed(record)
    for one in record["candidates"]:
        one["latency"]["32"]["p95_ms"] *= 2
    assert disturbed(record)


def test_one_network_has_a_page_too(record):
    record["candidates"] = [_entry("quick", 0.9, 10.0)]
    record["recommendation"] = {
        "name": "quick",
        "best": "quick",
        "indistinguishable": ["quick"],
        "sentence": "quick is the only candidate.",
    }
    assert "One backbone has no order" in rank_html(record)
