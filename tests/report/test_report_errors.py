"""Near-copies and doubtful labels are told with what they do, and nothing more is claimed."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_analyses import analysis, near_duplicates, suspicious_labels
from report_makers import changed, model, results, tables
from report_worlds import wilson

from headstart.report import (
    advise,
    build_view,
    error_advice,
    near_duplicate_tables,
    suspicious_tables,
)
from headstart.report.load import Run
from headstart.report.records import Advice, Paragraph, Sheet, Table
from headstart.types import JsonDict

Make = Callable[[str], Path]
CLASSES = ["daisy", "dandelion", "rose", "sunflower", "tulip"]


def run(**parts: Any) -> JsonDict:
    nothing = analysis(near_duplicates=None, suspicious_labels=None, learning_curves=[])
    models = [model("d", 0.9, 0.89), model("a", 0.8, 0.83)]
    network = {"key": "lite0", "name": "packaged/efficientnet-lite0"}
    return results(
        analysis={**nothing, **parts},
        models=models,
        backbones=[network],
        data={"classes": CLASSES},
    )


def suspicious(found: JsonDict) -> list[Any]:
    return suspicious_tables.blocks(Run(found, {}, {}, {}))


def only_text(found: JsonDict) -> str:
    (sentence,) = error_advice.sentences(found)
    return str(sentence["text"]).replace("\u00a0", " ")


def test_old_runs_without_an_analysis_show_nothing() -> None:
    for found in (results(), results(analysis=None), run(), results(analysis={"mistakes": []})):
        assert near_duplicate_tables.blocks(found) == []
        assert suspicious(found) == []
        assert error_advice.sentences(found) == []


def test_near_copies_are_counted_and_their_effect_is_told() -> None:
    found = run(near_duplicates=near_duplicates())
    text = only_text(found)
    assert "20 of 200 test pictures (10.0%) have a near-copy" in text
    assert "With them “D” is right on 89.0% (83.9–92.6%), without them on 87.8%" in text
    assert "they lift it by 1.2 points, which is less than the interval leaves open" in text
    assert "1 pair carries two different labels: perhaps one of the two labels is wrong." in text
    assert "Quote the accuracy without them, and look at them: where they are copies, keep" in text
    assert "at least one" not in text
    assert "remove" not in text
    (sentence,) = error_advice.near_duplicates(found)
    assert sentence["topic"] == "data"
    assert sentence["rows"] == [
        *("analysis/near_duplicates", "analysis/near_duplicates/models", "models/d")
    ]


@pytest.mark.parametrize(
    ("right", "right_without", "words"),
    [
        (178, 118, "they lift it by 23.4 points."),
        (180, 162, "they change nothing."),
        (178, 166, "they lower it by 3.2 points, which is less than the interval leaves open."),
    ],
)
def test_an_effect_is_called_large_only_beyond_the_interval(
    right: int, right_without: int, words: str
) -> None:
    near = near_duplicates(right=right, right_without=right_without)
    assert words in only_text(run(near_duplicates=near))


def test_the_worst_near_copies_stand_first_and_the_rest_is_counted() -> None:
    pairs, scores = near_duplicate_tables.blocks(run(near_duplicates=near_duplicates()))
    assert isinstance(pairs, Table)
    assert isinstance(scores, Table)
    assert pairs.refs == ("analysis/near_duplicates",)
    first, *others = pairs.rows
    assert first.cells[:5] == ("test/00007.jpg", "train/00007.jpg", "training", "rose", "daisy")
    assert first.strong
    assert not any(row.strong for row in others)
    alike = [float(row.cells[5]) for row in others]
    assert alike == sorted(alike, reverse=True)
    assert "12 of 20 pairs" in pairs.note
    assert "at least 0.90" in pairs.note
    assert scores.rows[0].cells == ("D", "89.0", "83.9–92.6", "87.8", "82.2–91.8", "+1.22")
    assert scores.rows[1].cells[0] == "A"


def test_contents_are_said_to_agree_only_where_they_were_compared() -> None:
    found = run(near_duplicates=near_duplicates())
    for noun, compared in (("picture", True), ("text", True), ("sequence", False)):
        found["data"]["noun"] = noun
        table = near_duplicate_tables.blocks(found)[0]
        assert isinstance(table, Table)
        assert ("contents that agree" in table.note) == compared


def test_a_search_without_a_find_says_so_and_gives_no_advice() -> None:
    near = near_duplicates(0)
    (paragraph,) = near_duplicate_tables.blocks(run(near_duplicates=near))
    assert isinstance(paragraph, Paragraph)
    assert "None of the 200 pictures of the test split has a near-copy" in paragraph.text
    assert "the 700 pictures of training and validation" in paragraph.text
    assert error_advice.sentences(run(near_duplicates=near)) == []


def test_suspicious_labels_are_called_suspicions() -> None:
    found = run(suspicious_labels=suspicious_labels())
    text = only_text(found)
    assert "Of 700 labels of training and validation 37 are suspicious" in text
    assert "an estimated 4.6% of all are wrong" in text
    assert "suspicions, no proof" in text
    assert "agrees with 90.1% (87.7–92.1%) of the labels" in text
    assert "weak" not in text
    assert "only what you see to be wrong" in text
    (table,) = suspicious(found)
    assert table.refs == ("analysis/suspicious_labels",)
    assert table.rows[0].cells == ("train/00000.jpg", "training", "daisy", "0.2", "tulip", "98.7")
    assert table.rows[3].cells[1] == "validation"
    assert "The 20 most suspicious of 37 labels" in table.caption
    assert "no proof" in table.caption
    assert "in 5 folds" in table.note


def test_a_weak_probe_is_called_weak() -> None:
    doubted = suspicious_labels()
    doubted["probe_accuracy"] = wilson(430, 700)
    assert "As weak a probe accuses many labels that are right" in only_text(
        run(suspicious_labels=doubted)
    )


def test_no_suspicion_gives_no_advice_but_says_who_looked() -> None:
    found = run(suspicious_labels=suspicious_labels(0))
    assert error_advice.sentences(found) == []
    (paragraph,) = suspicious(found)
    assert isinstance(paragraph, Paragraph)
    assert "No label is under suspicion" in paragraph.text
    assert "700 pictures" in paragraph.text


def test_texts_are_quoted_beside_their_labels() -> None:
    doubted = suspicious_labels(2, text="so bad " * 60, second="a sequel")
    found = run(suspicious_labels=doubted)
    found["data"]["noun"] = "pair"
    (table,) = suspicious(found)
    assert [c.title for c in table.columns][:3] == ["Pair", "Text", "Split"]
    assert table.rows[0].cells[1].startswith("so bad so bad")
    assert len(table.rows[0].cells[1]) < 110


def test_class_names_for_people_are_used() -> None:
    found = run(suspicious_labels=suspicious_labels(), near_duplicates=near_duplicates())
    found["data"]["class_names"] = {"daisy": "oxeye daisy, marguerite"}
    (table,) = suspicious(found)
    assert table.rows[0].cells[2] == "oxeye daisy"
    pairs = near_duplicate_tables.blocks(found)[0]
    assert isinstance(pairs, Table)
    assert pairs.rows[0].cells[3:5] == ("rose", "oxeye daisy")


def test_pictures_of_doubted_labels_are_shown_with_both_classes(
    run_folder: Make, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(buffer, "JPEG")
    folder = tmp_path / "run"

    def change(found: JsonDict) -> None:
        found["analysis"] = analysis()
        for i, entry in enumerate(found["analysis"]["suspicious_labels"]["list"]):
            entry["image"] = f"analysis/{i}.jpg"
        (folder / "analysis").mkdir()
        for i in range(2):
            (folder / "analysis" / f"{i}.jpg").write_bytes(buffer.getvalue())

    view = changed(run_folder("flowers"), folder, change)
    (sheet,) = [
        b
        for s in view.sections
        for b in s.blocks
        if isinstance(b, Sheet) and b.key.startswith("suspicious")
    ]
    assert sheet.shots[0].picture is not None
    assert sheet.shots[2].picture is None  # its file is missing: a frame stands in its place
    lines = ("tulip?", "labelled daisy", "98.7% against 0.2%", "train/00000.jpg")
    assert sheet.shots[0].lines == lines
    # The table, which sentences cite, stays, shorter.
    assert len(tables(view)["suspicious-labels"].rows) == 8


def test_sentences_of_the_analysis_cite_tables_that_are_there(
    run_folder: Make, tmp_path: Path
) -> None:
    def change(found: JsonDict) -> None:
        found["analysis"] = analysis()
        found["recommendation"] = advise(found, {})

    folder = tmp_path / "run"
    changed(run_folder("flowers"), folder, change)
    view = build_view(folder)
    keys = {f"Table\u00a0{t.number}": key for key, t in tables(view).items()}
    said = [
        s for s in view.sections for b in s.blocks if isinstance(b, Advice) for s in b.sentences
    ]
    wanted = {"near-copy": "near-duplicates", "suspicious": "suspicious-labels"}
    for word, key in {**wanted, "power law": "learning-curve-0"}.items():
        (sentence,) = [s for s in said if word in s.text]
        assert key in {keys[c.text.partition(",")[0]] for c in sentence.citations}
