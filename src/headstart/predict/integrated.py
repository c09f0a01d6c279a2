"""How much each word adds to a logit: gradients along the way from an empty text to this one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from headstart._util.imports import optional
from headstart.backbones.base import Backbone
from headstart.predict.inside import Inside
from headstart.predict.occlusion import Word
from headstart.types import FloatArray, TextSpec

CUT = "embeddings"
"""The cut where each token is a vector of its own and has not seen the others."""

POINTS = 24
"""Where the gradient is taken: an integral by Gauss and Legendre's rule."""

_AT_ONCE = 4
_NEUTRAL = ("[MASK]", "<mask>", "[PAD]", "<pad>", "[UNK]", "<unk>")


def offers(backbone: Backbone) -> bool:
    """Return whether a network reads texts and can be cut after its embeddings."""
    return isinstance(backbone.input_spec, TextSpec) and CUT in backbone.stages


def integrated_gradients(
    inside: Inside, row: FloatArray, texts: Sequence[str], words: Sequence[Word], output: int
) -> FloatArray | None:
    """Return what each word adds to a logit, measured from a text of masked words.

    With z the embeddings, z' those of the same text with a neutral token in each place, and y the
    logit: z's share is (z - z') times the integral over a in [0, 1] of dy/dz at z' + a (z - z'),
    summed over a word's tokens and channels. All shares add up to y(z) - y(z').

    Args:
        inside: The network.
        row: The prepared text, float32 [length, 2].
        texts: The text, or the two of a pair, from which it was prepared.
        words: The words of `texts`.
        output: Which of the logits.

    Returns:
        float32, one for each word, in units of the logit; words beyond the length that the network
        reads get 0. None where the tokens cannot be told to belong to words: the tokenizer knows no
        neutral token, or does not say where its tokens stand.

    Source:
        Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks (2017), equation 1.
    """
    assert isinstance(inside.spec, TextSpec)
    tokenizers = optional("tokenizers", "text", "texts")
    tokenizer = tokenizers.Tokenizer.from_str(inside.spec.tokenizer)
    neutral = next((i for t in _NEUTRAL if (i := tokenizer.token_to_id(t)) is not None), None)
    owners = _owners(tokenizer, inside.spec, row, texts, words)
    if neutral is None or owners is None:
        return None
    empty = row.copy()
    empty[owners >= 0, 0] = neutral
    pair = torch.from_numpy(np.stack([empty, row])).to(inside.device)
    start, stop = inside.activation(pair, CUT)
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    total = torch.zeros_like(stop)
    for first in range(0, POINTS, _AT_ONCE):
        chosen = slice(first, first + _AT_ONCE)
        steps = torch.from_numpy((nodes[chosen] + 1) / 2).to(stop).view(-1, 1, 1)
        _, gradient = inside.gradient(start + steps * (stop - start), CUT, output)
        share = torch.from_numpy(weights[chosen] / 2).to(stop).view(-1, 1, 1)
        total += (share * gradient).sum(dim=0)
    # The last channel says which text a position is of: the same at both ends, so it adds nothing.
    of_token = ((stop - start) * total).sum(dim=-1).cpu().numpy()
    found = np.zeros(len(words), np.float32)
    np.add.at(found, owners[owners >= 0], of_token[owners >= 0])
    return found


def _owners(
    tokenizer: Any, spec: TextSpec, row: FloatArray, texts: Sequence[str], words: Sequence[Word]
) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Return the word of each token, -1 for special tokens; None where it cannot be told."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(spec.max_length, strategy="longest_first")
    together = spec.pairs == "together"
    read = [tokenizer.encode(*texts)] if together else [tokenizer.encode(t) for t in texts]
    ids = [i for one in read for i in one.ids]
    if not np.array_equal(ids, row[:, 0]):
        return None
    owners = []
    for number, one in enumerate(read):
        for place, (start, end) in enumerate(one.offsets):
            side = one.sequence_ids[place] if together else number
            owners.append(-1 if one.special_tokens_mask[place] else _at(words, side, start, end))
    return np.array(owners, dtype=np.int64)


def _at(words: Sequence[Word], side: int | None, start: int, end: int) -> int:
    """Return the word that a token's characters lie in; some tokens begin with the space before."""
    for i, word in enumerate(words):
        if word.side == side and word.start < end and start < word.end:
            return i
    return -1
