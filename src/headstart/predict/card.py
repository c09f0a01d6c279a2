"""The model card of a bundle: README.md with the front matter that the Hugging Face hub reads."""

from pathlib import PurePosixPath
from typing import Any

import yaml

from headstart.types import JsonDict

CARD = "README.md"

_PIPELINES = {
    "image": "image-classification",
    "text": "text-classification",
    "pair": "text-classification",
    "sequence": "other",
}
_SAMPLES = {"image": "picture", "text": "text", "pair": "pair of texts", "sequence": "sequence"}
_SHOWN_CLASSES = 30
_SHARES = ("accuracy", "top1", "top5")  # of all samples: told in percent
# What the hub knows as licences; others are named in words.
_LICENSES = {
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "bsd-3-clause": "bsd-3-clause",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
}


def card(manifest: JsonDict) -> str:
    """Return a bundle's model card.

    Args:
        manifest: bundle.json, with or without the list of files.

    Returns:
        Markdown, behind a front matter in YAML.
    """
    parts = [
        f"# {_line(manifest['title'])}",
        _what(manifest),
        "## Use\n\n" + _use(manifest),
        "## Figures\n\n" + _figures(manifest),
        "## How it was made\n\n" + _making(manifest),
        "## Licence\n\n" + _licences(manifest),
        "## Limits\n\n" + _limits(manifest),
    ]
    front = yaml.safe_dump(_front(manifest), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def _front(manifest: JsonDict) -> JsonDict:
    task = _PIPELINES[manifest["task"]]
    if manifest["goal"] == "regression" and task != "other":
        task = "other"
    tags = ["headstart", "transfer-learning", manifest["task"], manifest["goal"]]
    found: JsonDict = {
        **_license(manifest),
        "library_name": "headstart",
        "pipeline_tag": task,
        "tags": tags,
    }
    scores = manifest["metrics"].get("test", {})
    results = [
        {"type": name, "name": f"test {name.replace('_', ' ')}", "value": score["value"]}
        for name, score in scores.items()
        if isinstance(score, dict) and name in ("accuracy", "f1_macro", "mse", "mae")
    ]
    if results:
        found["metrics"] = [one["type"] for one in results]
        entry = {
            "task": {"type": task},
            "dataset": {"type": "own", "name": _line(manifest["data"]["name"])},
            "metrics": results,
        }
        found["model-index"] = [{"name": _line(manifest["name"]), "results": [entry]}]
    return found


def _license(manifest: JsonDict) -> JsonDict:
    stated = {str(b["weights"]["license"]).strip().lower() for b in manifest["backbones"]}
    if len(stated) == 1 and (one := next(iter(stated))) in _LICENSES:
        return {"license": _LICENSES[one]}
    return {"license": "other", "license_name": "see-the-licence-section-of-this-card"}


def _what(manifest: JsonDict) -> str:
    sample, classes = _SAMPLES[manifest["task"]], manifest["classes"]
    if manifest["goal"] == "regression":
        told = f"Tells a number ({_line(classes[0])}) of a {sample}."
    else:
        names = ", ".join(f"`{_line(name)}`" for name in classes[:_SHOWN_CLASSES])
        more = (
            f" and {len(classes) - _SHOWN_CLASSES:,} more" if len(classes) > _SHOWN_CLASSES else ""
        )
        told = f"Tells which of {len(classes):,} classes a {sample} is of: {names}{more}."
    network = manifest["network"]
    voting = manifest.get("voting")
    together = (
        ""
        if not voting
        else f" An ensemble of {len(voting['members'])} models ({voting['voting']} voting)."
    )
    return f"{told}{together} Network: {network['engine']}, {network['precision']}."


def _use(manifest: JsonDict) -> str:
    name = _line(manifest["name"])
    given, code = {
        "image": ("photo.jpg", 'Path("photo.jpg").read_bytes()'),
        "text": ('"a text"', '"a text".encode()'),
        "pair": ("pairs.jsonl", """'["a text", "another"]'.encode()"""),
        "sequence": ("sequences.jsonl", "numpy.float32([0.1, 0.2]).tobytes()"),
    }[manifest["task"]]
    return (
        f"```bash\npip install headstart\nheadstart predict {name} {given}\n"
        f"headstart serve {name}\n```\n\n"
        "```python\nfrom pathlib import Path\n\nfrom headstart.predict import load_bundle\n\n"
        f'with load_bundle(Path("{name}")) as bundle:\n'
        f"    print(bundle.info.classes, bundle.predict([{code}]))\n```\n\n"
        "It needs nothing but its own files: no download, no package with weights. Opening it "
        "compares every file with its SHA-256 in `bundle.json`, and reads no pickle."
    )


def _figures(manifest: JsonDict) -> str:
    rows = [
        f"| {split} | {name.replace('_', ' ')} | {_score(score, share=name in _SHARES)} "
        f"| {score['n']:,} |"
        for split, scores in manifest["metrics"].items()
        for name, score in scores.items()
        if isinstance(score, dict) and {"value", "low", "high", "n"} <= set(score)
    ]
    if not rows:
        return "None were measured."
    table = "| split | measure | value (95% interval) | samples |\n|---|---|---|---|\n"
    text = table + "\n".join(rows)
    calibration = manifest.get("calibration") or {}
    if calibration.get("ece"):
        text += (
            f"\n\nExpected calibration error: {_score(calibration['ece'])}; the logits are divided "
            f"by {calibration['temperature']:.4g} before they become probabilities."
        )
    latency = manifest.get("latency")
    if latency and latency.get("images_per_second"):
        text += (
            f"\n\nMeasured speed of the network alone: {latency['images_per_second']:,.1f} samples "
            f"a second on {_line(latency.get('device', 'cpu'))}, {latency.get('batch_size')} at a "
            "time."
        )
    return text


def _making(manifest: JsonDict) -> str:
    data, run, training = manifest["data"], manifest["run"], manifest["training"]
    counts = ", ".join(f"{count:,} {split}" for split, count in data["counts"].items())
    lines = [
        f"- data: {_line(data['name'])} ({counts}); fingerprint `{data['fingerprint'][:16]}`",
        f"- training: {_line(training['kind'])}"
        + "".join(
            f"\n    - {_line(stage['name'])}: {_line(stage.get('trainable', 'head'))}, "
            f"{stage['epochs']} epoch{'s' if stage['epochs'] != 1 else ''}"
            for stage in training["stages"]
        ),
        f"- study: {_line(run['experiment'])}, {run['created']}",
        f"- command: `{_line(run['command'])}`",
        f"- written by Headstart {manifest['headstart']} on {manifest['created']}",
    ]
    return "\n".join(lines)


def _licences(manifest: JsonDict) -> str:
    lines = [
        f"- `{_line(b['name'])}` ({b['parameters_total']:,} parameters): "
        f"{_line(b['weights']['license'])}; {_line(b['weights']['origin'])}"
        for b in manifest["backbones"]
    ]
    return (
        "As the publishers of the weights state it:\n\n"
        + "\n".join(lines)
        + "\n\nThe data that it was trained on may have terms of their own."
    )


def _limits(manifest: JsonDict) -> str:
    sample = _SAMPLES[manifest["task"]]
    known = (
        f"It gives a number for any {sample}"
        if manifest["goal"] == "regression"
        else f"It names one of its classes for any {sample}, also where none fits"
    )
    return (
        f"{known}. The figures above are of samples like those that it was trained on; measure it "
        "on your own before you rely on it."
    )


def _score(score: Any, *, share: bool = False) -> str:
    if share:
        low, high = 100 * score["low"], 100 * score["high"]
        return f"{100 * score['value']:.1f}% ({low:.1f} to {high:.1f})"
    return f"{score['value']:.4g} ({score['low']:.4g} to {score['high']:.4g})"


def _line(text: object) -> str:
    """Return a text that cannot break out of its line; paths by their last part."""
    plain = " ".join(str(text).split()).replace("`", "'").replace("|", "/").replace("<", "&lt;")
    is_path = plain.startswith("/") and " " not in plain
    return PurePosixPath(plain).name if is_path else plain
