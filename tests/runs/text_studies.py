"""Made-up texts, tiny networks that read them, and studies of both: seconds on one core."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from headstart import RunResult, resume, run
from headstart._util.progress import SilentProgress
from headstart._util.stopping import Stop
from headstart.errors import StoppedError

WORDS = [f"w{i}" for i in range(5, 30)]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "vocab_size": 30,
    "initializer_range": 0.3,
}


def tiny_network(folder: Path, kind: str = "bert", **changes: object) -> Path:
    """Write a transformer with random weights and its tokenizer; dropout is 0.1 where usual."""
    configs = {
        "bert": lambda: transformers.BertConfig(**{**SIZES, **changes}),
        "albert": lambda: transformers.AlbertConfig(**{**SIZES, "embedding_size": 8, **changes}),
    }
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = transformers.AutoModel.from_config(configs[kind]()).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=float("norm" in name.lower()), std=0.1)
    model.save_pretrained(folder)
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _text(random: np.random.Generator, words: Sequence[str], longest: int = 24) -> str:
    return " ".join(random.choice(words, random.integers(3, longest)))


def write_texts(path: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Write texts of two classes, each with words of its own among others."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label", "split"])
        for split, count in counts.items():
            for number in range(count):
                label = number % 2
                own = WORDS[10 * label : 10 * label + 10]
                table.writerow([_text(random, own + WORDS[20:]), ("bad", "good")[label], split])
    return path


def write_pairs(path: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Write pairs: their words are the same, or others."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["premise", "hypothesis", "label", "split"])
        for split, count in counts.items():
            for number in range(count):
                first = _text(random, WORDS[:12], 12)
                same = number % 2
                second = _text(random, first.split() if same else WORDS[12:], 8)
                table.writerow([first, second, ("differs", "agrees")[same], split])
    return path


def write_place(folder: Path, counts: dict[str, int]) -> Path:
    """Write a table of texts, one of pairs, and a BERT and an ALBERT of a few thousand numbers."""
    write_texts(folder / "texts.csv", counts)
    write_pairs(folder / "pairs.csv", counts)
    tiny_network(folder / "bert")
    tiny_network(folder / "albert", "albert")
    return folder


def write_corpus(folder: Path, lines: int = 60, seed: int = 0) -> Path:
    """Write running text in WikiText's layout: each word is mostly followed by the same one."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", lines), ("valid", lines // 6), ("test", lines // 6)):
        text = []
        for _ in range(count):
            at = int(random.integers(0, 25))
            words = []
            for _ in range(int(random.integers(4, 14))):
                words.append(WORDS[at])
                at = (at + 1) % 25 if random.random() < 0.9 else int(random.integers(0, 25))
            text.append(" " + " ".join(words) + " ")
        (folder / f"wiki.{split}.tokens").write_text("\n".join(text) + "\n")
    return folder


def go(folder: Path, study: str, **options: object) -> RunResult:
    """Run a study that is given as YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(study)
    return run(path, **{"out": folder / "runs", "show": SilentProgress(), **options})  # type: ignore[arg-type]


class StopAfter(Stop):
    """Asks to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        if self.looks <= 0:
            self.request()
        return super().requested


def stop_and_resume(folder: Path, study: str, looks: int, **options: object) -> tuple[Path, bool]:
    """Run until somebody asks to stop, and go on; return the folder and whether it stopped."""
    try:
        result = go(folder, study, stop=StopAfter(looks), **options)
    except StoppedError:
        (where,) = (folder / "runs").glob("*-*")
        return resume(where, show=SilentProgress()).folder, True
    return result.folder, False


def what_lasts(folder: Path) -> dict[str, object]:
    """Weights, histories, predictions and scores: everything but times."""
    out: dict[str, object] = {}
    for path in sorted((folder / "models").rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors" or path.name in ("model.json", "tokenizer.json"):
            out[name] = path.read_bytes()
        elif path.suffix == ".parquet":
            table: pd.DataFrame = pq.read_table(path).to_pandas()
            out[name] = table.drop(columns="seconds", errors="ignore").to_csv()
    results = json.loads((folder / "results.json").read_text())
    out["metrics"] = {m["name"]: m["metrics"] for m in results["models"]}
    out["language"] = {m["name"]: m["language"] for m in results["models"]}
    out["examples"] = {m["name"]: m["examples"] for m in results["models"]}
    return out


def model_of(result: RunResult, name: str) -> dict:
    """Return a part's entry in the results."""
    (found,) = [m for m in result.results["models"] if m["name"] == name]
    return found
