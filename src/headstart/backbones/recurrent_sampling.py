"""Text that a language model makes up, in a form that people can read."""

import re
from collections.abc import Sequence

import torch

from headstart._util.seeding import seed_of
from headstart.backbones.frozen import evaluating
from headstart.backbones.recurrent import LanguageNetwork
from headstart.errors import ConfigError

_UNK, _EOS = "<unk>", "<eos>"

_REPAIRS = (
    (r" @([-.,])@ ", r"\1"),  # WikiText's joined words: 1 @,@ 000
    (r" ([.,;:!?%)\]]|\.\.\.)(?=\s|$)", r"\1"),
    (r"([(\[$£€]) ", r"\1"),
    (r" ('(?:s|t|re|ve|ll|d|m)|n't)\b", r"\1"),
    (r'" ([^"\n]*?) "', r'"\1"'),
    (r" *\n *", "\n"),
    (r"\n{3,}", "\n\n"),
)


@torch.no_grad()
def sample_text(
    network: LanguageNetwork,
    vocabulary: Sequence[str],
    *,
    seed: int,
    words: int = 60,
    temperature: float = 1.0,
    start: str = "",
    unknown: bool = False,
) -> str:
    """Let a language model go on from some words.

    Args:
        network: The model; its mode and its carried state are left as they are.
        vocabulary: Its words; a word's position is its number.
        seed: Decides the draws.
        words: How many words are drawn.
        temperature: The logits are divided by it: below 1 gives more probable text; 0 takes the
            most probable word each time.
        start: Words to begin with, separated by white space; empty for the beginning of a line.
        unknown: Whether ``<unk>`` may be drawn.

    Returns:
        The text with its beginning, with punctuation as people write it.

    Raises:
        ConfigError: A value is out of its range.
    """
    if temperature < 0 or words < 1:
        raise ConfigError(
            f"samples: expected temperature >= 0 and words >= 1, got {temperature} and {words}"
        )
    number = {word: i for i, word in enumerate(vocabulary)}
    device = network.decoder.bias.device
    random = torch.Generator().manual_seed(seed_of("sample text", seed))
    ids = [number[_EOS], *(number.get(word, number[_UNK]) for word in start.split())]
    written = start.split()
    carried = network.random_state()
    with evaluating(network):
        network.reset()
        for _ in range(words):
            logits = network(torch.tensor([ids], device=device))[0, -1].float().cpu()
            if not unknown:
                logits[number[_UNK]] = -torch.inf
            ids = [_draw(logits, temperature, random)]
            written.append(vocabulary[ids[0]])
    network.load_random_state(carried)
    return readable(written)


def readable(words: Sequence[str]) -> str:
    """Return words as a text: ``<eos>`` as a new line, punctuation where it belongs."""
    text = " ".join("\n" if word == _EOS else word for word in words)
    for pattern, into in _REPAIRS:
        text = re.sub(pattern, into, text)
    return text.strip()


def _draw(logits: torch.Tensor, temperature: float, random: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    shares = torch.softmax(logits / temperature, dim=0)
    return int(torch.multinomial(shares, 1, generator=random))
