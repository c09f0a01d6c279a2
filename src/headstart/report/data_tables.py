"""Tables about the data and about what is needed to repeat a run."""

import statistics
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from headstart.report import kinds, looks, lookup, measures, nouns
from headstart.report.records import Column, Facts, Row, Table
from headstart.report.text import count, duration, listing, plural, setting, size
from headstart.types import JsonDict

_SEVERITIES = ("error", "warning", "note")
_MANY_CLASSES = 15
_NAMED_CLASSES = 12
_DIGEST_DIGITS = 16

# What happens to pictures of another shape than the input.
FITS: Mapping[str, str] = MappingProxyType(
    {"crop": "cropped", "resize": "stretched", "pad": "padded"}
)


def caveats(results: JsonDict) -> Table | None:
    """Return what must be known before the figures are read: problems of the data, and notes."""
    problems = list(enumerate((results.get("data") or {}).get("problems") or ()))
    rows = []
    for severity in _SEVERITIES:
        if severity == "warning" and (text := looks.sentence(results)):
            cells = ("warning", count(len(looks.earlier(results))), text)
            rows.append(Row(cells, refs=("test_looks",)))
        rows += [_problem(i, p) for i, p in problems if p.get("severity", "note") == severity]
        if severity == "warning":
            notes = (results.get("experiment") or {}).get("notes") or ()
            rows += [
                Row(("note", "–", str(note)), refs=(f"experiment/notes/{i}",))
                for i, note in enumerate(notes)
            ]
    if not rows:
        return None
    return Table(
        key="caveats",
        caption="What to know before reading the figures.",
        columns=(Column("Severity"), Column("Count", "right"), Column("What")),
        rows=tuple(rows),
        priority=1,
    )


def _problem(index: int, problem: Mapping[str, Any]) -> Row:
    examples = [str(e) for e in problem.get("examples") or ()]
    text = str(problem.get("text") or problem.get("kind") or "").strip().rstrip(".") + "."
    if examples:
        text += f" For example: {', '.join(examples[:3])}."
    cells = (str(problem.get("severity", "note")), count(problem.get("count")), text)
    return Row(cells, refs=(f"data/problems/{index}",), strong=problem.get("severity") == "error")


def left_out(results: JsonDict) -> Table | None:
    """Return the files that took no part."""
    files = (results.get("data") or {}).get("left_out") or ()
    if not files:
        return None
    return Table(
        key="left-out",
        caption="Files left out, and why.",
        columns=(Column("File", code=True), Column("Reason")),
        rows=tuple(Row((str(f.get("name")), str(f.get("reason")))) for f in files),
        refs=("data/left_out",),
        priority=4,
    )


def counts(results: JsonDict) -> Table | None:
    """Return samples per class and split; with many classes, only how they are spread."""
    sizes = lookup.split_sizes(results)
    if not sizes or measures.goal(results) != "classification":
        return None
    samples = nouns.heading(results)
    classes = [str(c) for c in (results.get("data") or {}).get("classes") or ()]
    classes = classes or list(dict.fromkeys(c for of in sizes.values() for c in of))
    words = lookup.class_words(results)
    common: dict[str, Any] = {"key": "counts", "refs": ("data/counts",), "priority": 3}
    if len(classes) > _MANY_CLASSES:
        rows = []
        for split, of in sizes.items():
            numbers = [of.get(c, 0) for c in classes]
            spread = (sum(numbers), min(numbers), statistics.median_low(numbers), max(numbers))
            rows.append(Row((lookup.split_word(split), *(count(n) for n in spread))))
        heads = (
            (samples, ""),
            *((h, f"{samples} per class") for h in ("least", "median", "most")),
        )
        return Table(
            caption=f"{samples} per split, in {count(len(classes))} classes.",
            columns=(Column("Split"), *(Column(h, "right", g) for h, g in heads)),
            rows=tuple(rows),
            **common,
        )
    rows = [
        Row(
            (
                words.get(c, c),
                *(count(of.get(c, 0)) for of in sizes.values()),
                count(_total(sizes, c)),
            )
        )
        for c in classes
    ]
    totals = [sum(of.values()) for of in sizes.values()]
    rows.append(Row(("all", *(count(t) for t in totals), count(sum(totals))), strong=True))
    return Table(
        caption=f"{samples} per class and split.",
        columns=(
            Column("Class"),
            *(Column(lookup.split_word(s), "right") for s in sizes),
            Column("all", "right"),
        ),
        rows=tuple(rows),
        **common,
    )


def _total(sizes: Mapping[str, Mapping[str, int]], name: str) -> int:
    return sum(of.get(name, 0) for of in sizes.values())


def description(results: JsonDict) -> Facts:
    """Return where the data came from and what its samples are like."""
    data = results.get("data") or {}
    items = []
    if data.get("origin"):
        items.append(("Origin", str(data["origin"])))
    sizes = lookup.split_sizes(results)
    if sizes:
        parts = [f"{count(sum(of.values()))} {lookup.split_word(s)}" for s, of in sizes.items()]
        total = sum(sum(of.values()) for of in sizes.values())
        items.append((nouns.heading(results), f"{count(total)}: {listing(parts)}"))
    labelled = measures.goal(results) == "classification"
    classes = [str(c) for c in data.get("classes") or ()] if labelled else []
    if classes:
        words = lookup.class_words(results)
        named = (
            f": {', '.join(words[c] for c in classes)}" if len(classes) <= _NAMED_CLASSES else ""
        )
        items.append(("Classes", count(len(classes)) + named))
    extent = _extent(results)
    if extent:
        items.append(("Sizes" if nouns.one(results) == nouns.PICTURE else "Lengths", extent))
    modes = data.get("modes") or {}
    if modes:
        items.append(("Modes", ", ".join(f"{m} ({count(n)})" for m, n in modes.items())))
    files = data.get("left_out") or ()
    if files:
        items.append(("Left out", plural(len(files), "file")))
    return Facts(tuple(items), priority=2)


def _extent(results: JsonDict) -> str:
    """Return how large pictures are, in pixels, or how long texts or sequences."""
    extent = (results.get("data") or {}).get("sizes") or {}
    given = [extent.get(k) for k in ("min", "median", "max")]
    if any(v is None or v == [] for v in given):
        return ""
    low, middle, high = (
        " × ".join(count(edge) for edge in v) if isinstance(v, list) else count(v) for v in given
    )
    unit = {nouns.PICTURE: "pixels", "sequence": "steps"}.get(nouns.one(results), "words")
    return f"{middle} {unit} each" if low == high else f"{low} to {high} {unit}, median {middle}"


def backbones(results: JsonDict) -> Table | None:
    """Return the pretrained networks and how samples enter them."""
    entries = results.get("backbones") or ()
    if not entries:
        return None
    rows = []
    for entry in entries:
        weights = entry.get("weights") or {}
        dims = entry.get("feature_shape") or ()
        shape = " × ".join("length" if n is None else count(n) for n in dims)
        rows.append(
            Row(
                (
                    str(entry.get("name") or entry.get("key")),
                    str(weights.get("kind") or "–"),
                    _input(entry.get("input") or {}),
                    str(entry.get("cut") or "–"),
                    shape or "–",
                    count(entry.get("parameters_total")),
                )
            )
        )
    return Table(
        key="backbones",
        caption="Backbones, and the cut that the features of a new head come from."
        if kinds.staged(results) or kinds.zero_shots(results)
        else "Backbones: frozen up to the cut, whose output is the features.",
        columns=(
            Column("Backbone"),
            Column("Weights"),
            Column("Input, pixels" if nouns.one(results) == nouns.PICTURE else "Input"),
            Column("Cut"),
            Column("Features", "right"),
            Column("Parameters", "right"),
        ),
        rows=tuple(rows),
        priority=2,
    )


def _input(spec: Mapping[str, Any]) -> str:
    """Write how a sample becomes a network's input: pixels, tokens or steps."""
    if spec.get("pairs"):
        text = f"{count(spec.get('max_length'))} tokens at most"
        text += {
            "together": ", pairs together",
            "separately": ", each text of a pair by itself",
        }.get(str(spec["pairs"]), "")
        return text + (", markup taken out" if spec.get("strip_markup") else "")
    if spec.get("channels"):
        steps = count(spec.get("max_length"))
        return f"{plural(spec['channels'], 'channel')}, {steps} steps at most"
    if not spec.get("height") or not spec.get("width"):
        return "–"
    text = f"{count(spec['height'])} × {count(spec['width'])}"
    if spec.get("fit") == "crop" and spec.get("resize"):
        text += f", cropped from {count(spec['resize'])}"
    elif spec.get("fit"):
        text += {k: f", {word}" for k, word in FITS.items()}.get(str(spec["fit"]), "")
    return text + (f", {spec['interpolation']}" if spec.get("interpolation") else "")


def weights(results: JsonDict) -> Table | None:
    """Return where the pretrained weights came from, under which licence."""
    rows = []
    entries = results.get("backbones") or ()
    if all((b.get("weights") or {}).get("kind") == "random" for b in entries):
        return None
    for entry in entries:
        origin = entry.get("weights") or {}
        digest = str(entry.get("digest") or "")
        rows.append(
            Row(
                (
                    str(entry.get("name") or entry.get("key")),
                    str(origin.get("origin") or "–"),
                    str(origin.get("license") or "unknown"),
                    size(entry.get("size_bytes")),
                    shortened(digest),
                )
            )
        )
    if not rows:
        return None
    return Table(
        key="weights",
        caption="Pretrained weights: origin, licence and digest of the frozen part.",
        columns=(
            Column("Backbone"),
            Column("Origin"),
            Column("Licence"),
            Column("Size", "right"),
            Column("Digest", code=True),
        ),
        rows=tuple(rows),
        priority=2,
    )


def environment(results: JsonDict) -> Facts:
    """Return what the run was computed with."""
    known = results.get("environment") or {}
    names = {
        "headstart": "Headstart",
        "python": "Python",
        "torch": "PyTorch",
        "platform": "Platform",
        "cpu": "Processor",
        "cores": "Cores",
        "device": "Device",
    }
    # Versions and names are shown as they are: 2,025 would be no version.
    items = [(word, str(known[key])) for key, word in names.items() if known.get(key) is not None]
    items += [
        (str(k), setting(v)) for k, v in known.items() if k not in names and not isinstance(v, dict)
    ]
    fingerprint = (results.get("data") or {}).get("fingerprint")
    if fingerprint:
        items.append(("Data fingerprint", shortened(str(fingerprint))))
    if results.get("wall_seconds") is not None:
        items.append(("Time of the run", duration(results["wall_seconds"])))
    if results.get("created"):
        items.append(("Results written", str(results["created"])))
    return Facts(tuple(items), priority=1)


def shortened(digest: str) -> str:
    """Return the first digits of a digest, enough to compare by eye."""
    return digest if len(digest) <= _DIGEST_DIGITS else digest[:_DIGEST_DIGITS] + "…"
