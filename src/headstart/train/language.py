"""Batches for language models: a long text in parallel streams, read on from batch to batch."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from headstart._util.devices import full_float32
from headstart._util.seeding import generator
from headstart.backbones.recurrent import LanguageNetwork
from headstart.errors import DataError
from headstart.train.team import ALONE, Team
from headstart.types import FloatArray, IntArray

_SHORTEST = 5  # tokens of a random piece at least
_SPREAD = 5.0  # standard deviation of a random piece's length, in tokens
_HALVED = 0.05  # share of pieces that are half as long


class LanguageSource:
    """Pieces of a text, and the words that follow: a `headstart.train.FeatureSource`.

    For training the text is cut into `batch_size` streams of equal length, side by side; what
    remains at its end, less than `batch_size` tokens, is left out. Batch k holds the next T tokens
    of each stream, z [b, T], and the tokens after each of them, y [b · T], stream by stream, as
    `LanguageNetwork` gives its logits. The network carries its state from batch to batch, and is
    told here to forget it where an epoch or an evaluation begins.
    """

    def __init__(
        self,
        network: LanguageNetwork,
        splits: Mapping[str, IntArray],
        *,
        batch_size: int,
        bptt: int,
        seed: int,
        random_lengths: bool = False,
        evaluation_batch_size: int = 10,
        device: torch.device | None = None,
    ) -> None:
        """Prepare the batches.

        Args:
            network: The model that reads them.
            splits: Word numbers of each split in order; ``train`` is what training reads.
            batch_size: Streams in training.
            bptt: Tokens of a piece, T.
            seed: Decides random lengths.
            random_lengths: Whether T is drawn for each batch, so that the pieces do not end at the
                same places in each epoch: normal around `bptt`, or in 5% of the batches around half
                of it, with a standard deviation of 5, at least 5. All are then stretched or shrunk
                a little, so that each epoch has the same number of batches.
            evaluation_batch_size: Streams in an evaluation; with 1 each word is predicted from all
                words before it in the split, with more the first words of each stream are not.
            device: Where the batches shall be; None for the CPU.

        Raises:
            DataError: A split is too short.

        Source of random lengths: Merity, Keskar, Socher (2017), section 4.1.
        """
        self._network = network
        self._device = torch.device("cpu") if device is None else device
        self._splits = {
            name: torch.as_tensor(tokens, device=self._device) for name, tokens in splits.items()
        }
        self._bptt, self._seed, self._random = bptt, seed, random_lengths
        self._evaluation = evaluation_batch_size
        self._rate = 1.0
        if min(batch_size, bptt, evaluation_batch_size) < 1:
            raise ValueError(
                "expected batch_size, bptt and evaluation_batch_size >= 1, got "
                f"{batch_size}, {bptt}, {evaluation_batch_size}"
            )
        for name, tokens in splits.items():
            least = 2 * batch_size if name == "train" else 2
            if len(tokens) < least:
                raise DataError(
                    f"the {name} text: expected at least {least:,} tokens"
                    + (f" for a batch of {batch_size}" if name == "train" else "")
                    + f", got {len(tokens):,}: give a longer text, or lower the batch size"
                )
        train = self._splits["train"]
        length = len(train) // batch_size
        self._streams = train[: batch_size * length].view(batch_size, length)

    @property
    def width(self) -> int:
        """Numbers of one sample: a word's number is one."""
        return 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch of training."""
        tokens = self._streams.shape[1] - 1  # the last token is only predicted
        mean = max(self._bptt * (1 - _HALVED / 2), _SHORTEST) if self._random else self._bptt
        return int(np.ceil(tokens / mean))

    @property
    def ready(self) -> bool:
        """Whether batches lie ready: they do."""
        return True

    def rate(self) -> float:
        """Return the factor on the learning rate of the batch that was yielded last.

        With random lengths it is T / `bptt`, for short pieces would otherwise count too much;
        without it is 1.
        """
        return self._rate

    def train(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (z [b, T], y [b · T]) in order, without the first `skip` batches.

        At the beginning of an epoch the network forgets its state; where batches are skipped it has
        to be the one that it had after them (see `LanguageNetwork.load_random_state`).
        """
        if skip == 0:
            self._network.reset()
        for number, (start, stop) in enumerate(self._pieces(epoch)):
            if number >= skip:
                self._rate = (stop - start) / self._bptt if self._random else 1.0
                z, y = self._streams[:, start:stop], self._streams[:, start + 1 : stop + 1]
                yield z, y.reshape(-1)

    def split(self, name: str, team: Team = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a whole split, for any team: (z [b, T], y [b · T]); each token but the first once.

        The streams are as many as asked for, or fewer where the split has fewer tokens; those at
        the front may be one token longer than the others, and end with a batch of their own.
        """
        del team  # a text is one stream of words: it is not shared out
        self._network.reset()
        tokens = self._splits[name]
        starts, length = self._evaluation_streams(name)
        for start in range(0, length, self._bptt):
            size = min(self._bptt, length - start)
            index = starts.unsqueeze(1) + torch.arange(start, start + size, device=self._device)
            yield tokens[index], tokens[index + 1].reshape(-1)
        longer = (len(tokens) - 1) % len(starts)
        if longer:
            self._network.keep(longer)
            index = starts[:longer].unsqueeze(1) + length
            yield tokens[index], tokens[index + 1].reshape(-1)

    def order(self, name: str) -> IntArray | None:
        """Return None: `in_order` puts the figures of a split in order, for batches mix streams."""
        del name
        return None

    def in_order(self, name: str, pieces: list[Tensor]) -> Tensor:
        """Return figures of each y of `split`, one tensor a batch, in the order of the text."""
        starts, length = self._evaluation_streams(name)
        count = len(starts)
        whole = [piece.view(count, -1) for piece in pieces if len(piece) % count == 0]
        rows = list(torch.cat(whole, dim=1)[:, :length])
        longer = (len(self._splits[name]) - 1) % count
        if longer:
            rows[:longer] = [
                torch.cat([row, one.view(1)])
                for row, one in zip(rows[:longer], pieces[-1], strict=True)
            ]
        return torch.cat(rows)

    def _pieces(self, epoch: int) -> Iterator[tuple[int, int]]:
        """Yield where each piece of an epoch begins and ends in its stream."""
        last = self._streams.shape[1] - 1
        sizes = np.full(self.steps_per_epoch, float(self._bptt))
        if self._random:
            random = generator("bptt", self._seed, epoch)
            halved = random.random(len(sizes)) < _HALVED
            drawn = random.normal(np.where(halved, self._bptt / 2, self._bptt), _SPREAD)
            sizes = np.maximum(np.floor(drawn), _SHORTEST)
            sizes *= last / sizes.sum()
        stops = np.minimum(np.round(np.cumsum(sizes)), last).astype(np.int64).tolist()
        yield from zip([0, *stops[:-1]], stops, strict=True)

    def _evaluation_streams(self, name: str) -> tuple[Tensor, int]:
        """Return where each stream begins, and how many tokens of all of them are predicted."""
        predicted = len(self._splits[name]) - 1
        count = min(self._evaluation, predicted)
        length, longer = divmod(predicted, count)
        number = torch.arange(count, device=self._device)
        return number * length + number.clamp(max=longer), length


@torch.no_grad()
def token_nll(network: LanguageNetwork, source: LanguageSource, split: str) -> FloatArray:
    """Return how surprised a language model is by each word of a split.

    Args:
        network: The model; put in eval mode.
        source: Its batches.
        split: Which.

    Returns:
        Negative log-likelihood in nats of each token but the first, in the order of the text,
        float32, shape [tokens - 1].
    """
    network.eval()
    with full_float32():
        pieces = [
            torch.nn.functional.cross_entropy(network(z)[0].float(), y, reduction="none").cpu()
            for z, y in source.split(split)
        ]
    return np.asarray(source.in_order(split, pieces).numpy(), dtype=np.float32)
