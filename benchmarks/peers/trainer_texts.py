"""Hugging Face's Trainer: features of texts filled up to a length, and fine-tuning by its defaults.

Features come from `Trainer.predict` with a network that pools itself. The library's
`pipeline("feature-extraction")` gives the same numbers a little slower: it tokenizes between the
batches.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)
from transformers.models.bert import modeling_bert  # noqa: F401 - else loaded within the clock
from transformers.utils import logging

from benchmarks.contender import Answer, Job, answer, corner

BATCH = 32


class Pooled(nn.Module):
    """A network and the mean of its vectors over a text."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return features [b, width] of tokens [b, length]."""
        hidden = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        mask = attention_mask.unsqueeze(-1)
        return {"features": (hidden * mask).sum(1) / mask.sum(1)}


def rows(path: str) -> tuple[list[str], list[int]]:
    """Return the texts of a file of JSON lines, and their labels."""
    found = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [row["text"] for row in found], [row["label"] for row in found]


def features(job: Job) -> Answer:
    """Compute features of all texts in batches of 32, each text filled up to the longest length."""
    texts, _ = rows(job["texts"])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        tokenizer = AutoTokenizer.from_pretrained(job["weights"])
        network = Pooled(AutoModel.from_pretrained(job["weights"]).eval())
        encoded = tokenizer(
            texts, padding="max_length", truncation=True, max_length=job["max_length"]
        )
        data = [{key: encoded[key][i] for key in encoded} for i in range(len(texts))]
        settings = TrainingArguments(
            folder,
            per_device_eval_batch_size=BATCH,
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        )
        trainer = Trainer(network, settings, data_collator=default_data_collator)
        found = trainer.predict(data).predictions
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "samples": len(found), "sample": corner(found, 50, 20)}


def fine_tuning(job: Job) -> Answer:
    """Train all weights by the library's defaults; its accuracy on validation is not timed."""
    (texts, labels), (held_out, expected) = rows(job["texts"]), rows(job["validation"])
    set_seed(job["seed"])
    start = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(job["weights"])
    model = AutoModelForSequenceClassification.from_pretrained(
        job["weights"], num_labels=len({*labels})
    )

    def encode(some: list[str], answers: list[int]) -> list[dict[str, object]]:
        found = tokenizer(some, truncation=True, max_length=job["max_length"])
        return [
            {**{key: found[key][i] for key in found}, "labels": label}
            for i, label in enumerate(answers)
        ]

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            num_train_epochs=job["epochs"],
            per_device_train_batch_size=job["batch_size"],
            learning_rate=job["learning_rate"],
            seed=job["seed"],
            use_cpu=True,
            save_strategy="no",  # ours keeps its weights in memory as well
            disable_tqdm=True,
            report_to="none",
        )
        trainer = Trainer(
            model,
            settings,
            train_dataset=encode(texts, labels),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.train()
        seconds = time.perf_counter() - start
        logits = trainer.predict(encode(held_out, expected)).predictions
    return {
        "seconds": seconds,
        "accuracy": float((logits.argmax(axis=1) == np.array(expected)).mean()),
        "samples": len(expected),
    }


def work(job: Job) -> Answer:
    """Do what is asked: ``features`` or ``fine-tuning``."""
    torch.set_num_threads(job["threads"])
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return {"features": features, "fine-tuning": fine_tuning}[job["work"]](job)


if __name__ == "__main__":
    answer(work, ("transformers", "accelerate", "tokenizers", "torch"))
