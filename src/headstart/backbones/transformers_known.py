"""Published numbers of well-known encoders: enough to build them where no hub can be reached."""

from dataclasses import dataclass
from types import MappingProxyType

from headstart.types import JsonDict


@dataclass(frozen=True, slots=True)
class Known:
    """What is published of one network.

    Attributes:
        repository: Its full name on the hub, where a short one is in use too.
        license: As the publisher states it.
        config: The library's configuration, as in the repository's config.json.
    """

    repository: str
    license: str
    config: JsonDict


def _sizes(hidden: int, layers: int, heads: int, inner: int) -> JsonDict:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }


def _bert(vocabulary: int, hidden: int, layers: int, heads: int, inner: int) -> JsonDict:
    sizes = _sizes(hidden, layers, heads, inner)
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "pad_token_id": 0,
        **sizes,
    }


def _albert(hidden: int, layers: int, heads: int, inner: int) -> JsonDict:
    return {
        **_bert(30000, hidden, layers, heads, inner),
        "model_type": "albert",
        "embedding_size": 128,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.1,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }


def _roberta(kind: str, vocabulary: int, hidden: int, layers: int, heads: int) -> JsonDict:
    return {
        **_bert(vocabulary, hidden, layers, heads, 4 * hidden),
        "model_type": kind,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def _distilbert(vocabulary: int) -> JsonDict:
    return {
        "model_type": "distilbert",
        "vocab_size": vocabulary,
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "activation": "gelu",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "max_position_embeddings": 512,
        "sinusoidal_pos_embds": False,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    }


def _electra(embedding: int, hidden: int, heads: int) -> JsonDict:
    return {
        **_bert(30522, hidden, 12, heads, 4 * hidden),
        "model_type": "electra",
        "embedding_size": embedding,
    }


_APACHE = "apache-2.0"

# Sources: the config.json of each repository, and the papers: Devlin et al. 2018 (BERT), Lan et al.
# 2019 (ALBERT), Liu et al. 2019 (RoBERTa), Sanh et al. 2019 (DistilBERT), Clark et al. 2020
# (ELECTRA), Wang et al. 2020 (MiniLM), Turc et al. 2019 (small BERTs).
KNOWN = MappingProxyType(
    {
        "albert-base-v2": Known("albert/albert-base-v2", _APACHE, _albert(768, 12, 12, 3072)),
        "albert-large-v2": Known("albert/albert-large-v2", _APACHE, _albert(1024, 24, 16, 4096)),
        "bert-base-uncased": Known(
            "google-bert/bert-base-uncased", _APACHE, _bert(30522, 768, 12, 12, 3072)
        ),
        "bert-base-cased": Known(
            "google-bert/bert-base-cased", _APACHE, _bert(28996, 768, 12, 12, 3072)
        ),
        "bert-base-multilingual-cased": Known(
            "google-bert/bert-base-multilingual-cased", _APACHE, _bert(119547, 768, 12, 12, 3072)
        ),
        "bert-large-uncased": Known(
            "google-bert/bert-large-uncased", _APACHE, _bert(30522, 1024, 24, 16, 4096)
        ),
        "distilbert-base-uncased": Known(
            "distilbert/distilbert-base-uncased", _APACHE, _distilbert(30522)
        ),
        "distilbert-base-cased": Known(
            "distilbert/distilbert-base-cased", _APACHE, _distilbert(28996)
        ),
        "roberta-base": Known(
            "FacebookAI/roberta-base", "mit", _roberta("roberta", 50265, 768, 12, 12)
        ),
        "roberta-large": Known(
            "FacebookAI/roberta-large", "mit", _roberta("roberta", 50265, 1024, 24, 16)
        ),
        "xlm-roberta-base": Known(
            "FacebookAI/xlm-roberta-base", "mit", _roberta("xlm-roberta", 250002, 768, 12, 12)
        ),
        "google/electra-small-discriminator": Known(
            "google/electra-small-discriminator", _APACHE, _electra(128, 256, 4)
        ),
        "google/electra-base-discriminator": Known(
            "google/electra-base-discriminator", _APACHE, _electra(768, 768, 12)
        ),
        "sentence-transformers/all-MiniLM-L6-v2": Known(
            "sentence-transformers/all-MiniLM-L6-v2", _APACHE, _bert(30522, 384, 6, 12, 1536)
        ),
        "sentence-transformers/all-MiniLM-L12-v2": Known(
            "sentence-transformers/all-MiniLM-L12-v2", _APACHE, _bert(30522, 384, 12, 12, 1536)
        ),
        "google/bert_uncased_L-2_H-128_A-2": Known(
            "google/bert_uncased_L-2_H-128_A-2", _APACHE, _bert(30522, 128, 2, 2, 512)
        ),
    }
)


def known(name: str) -> Known | None:
    """Return what is published of a network, by its short or its full name."""
    matches = (k for short, k in KNOWN.items() if name in (short, k.repository))
    return next(matches, None)


def spellings(name: str) -> tuple[str, ...]:
    """Return the names under which the hub's cache may hold a network, the given one first."""
    same = [short for short, k in KNOWN.items() if name in (short, k.repository)]
    full = [KNOWN[short].repository for short in same]
    return tuple(dict.fromkeys([name, *same, *full]))
