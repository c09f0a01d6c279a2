"""Who is best so far: each member's best weights, and which members still count."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from headstart.train.state import load_own_state, own_state
from headstart.train.team import Team
from headstart.types import FloatArray, JsonDict

Watched = Literal["loss", "accuracy"]


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stop a member whose validation figure has not improved for `patience` epochs."""

    patience: int
    metric: Watched = "loss"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one member's training ended.

    Attributes:
        state: ``complete``, or ``diverged`` where the loss was no longer a finite number.
        epochs: Epochs that count for this member.
        best_epoch: The epoch whose weights it ends with, from 1; 0 where it diverged at once.
        message: What happened and what to try, or None.
    """

    state: Literal["complete", "diverged"]
    epochs: int
    best_epoch: int
    message: str | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Mean loss and accuracy of each member over some samples, shape [M]."""

    loss: FloatArray
    accuracy: FloatArray


class Sums:
    """Sums over an epoch, kept on the device so that no step waits for it."""

    def __init__(self) -> None:
        """Start from nothing."""
        self._loss: Tensor | None = None
        self._right: Tensor | None = None
        self._count = 0

    def add(self, losses: Tensor, right: Tensor, count: int) -> None:
        """Add a batch.

        Args:
            losses: Mean loss of each member, [M].
            right: Right answers of each member, [M].
            count: Samples in the batch.
        """
        if self._loss is None or self._right is None:
            wide = torch.float64 if losses.device.type != "mps" else torch.float32
            self._loss = torch.zeros_like(losses, dtype=wide)
            self._right = torch.zeros_like(right)
        self._loss.add_(losses, alpha=count)
        self._right.add_(right)
        self._count += count

    def join(self, team: Team, device: torch.device) -> None:
        """Add what the others of a team have found; one of them may have had no batch.

        Args:
            team: The processes.
            device: Where sums are; each process has figures of as many members.
        """
        if team.size == 1:
            return
        members = torch.zeros(1, device=device)
        if self._loss is not None:
            members = members + len(self._loss)
        widest = int(team.add_up(members).item() / max(1, int(team.add_up((members > 0).float()))))
        mine = torch.zeros(2, widest, dtype=torch.float64, device=device)
        if self._loss is not None and self._right is not None:
            mine[0], mine[1] = self._loss, self._right
        whole = team.add_up(mine)
        count = team.add_up(torch.tensor([self._count], device=device))
        self._loss, self._right, self._count = whole[0], whole[1], int(count)

    def result(self) -> Tally:
        """Return the means."""
        assert self._loss is not None, "an epoch has at least one batch"
        assert self._right is not None
        return Tally(
            loss=(self._loss / self._count).cpu().numpy(),
            accuracy=(self._right.double().cpu() / self._count).numpy(),
        )

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        if self._loss is None or self._right is None:
            return {}
        return {"loss": self._loss, "right": self._right, "count": torch.tensor(self._count)}

    def load_state(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on from what `state` returned."""
        if state:
            self._loss = state["loss"].to(device, copy=True)
            self._right = state["right"].to(device, copy=True)
            self._count = int(state["count"])


class Aside(Protocol):
    """Has the weights of all members while the model's stay behind."""

    def remember(self, members: Sequence[int]) -> None:
        """Remember some members' weights as they are now."""
        ...

    def recall(self) -> None:
        """Set the model to the weights of each member that were remembered last."""
        ...


class Keeper:
    """Remembers each member's best weights, and which members still count."""

    def __init__(
        self,
        model: nn.Module,
        rates: Sequence[float],
        *,
        keep: Literal["best", "last"],
        best_by: Watched,
        early_stopping: EarlyStopping | None,
        aside: Aside | None = None,
    ) -> None:
        """Begin with the weights as they are.

        Args:
            model: The members' model; the first axis of its state is members where M > 1.
            rates: Each member's learning rate, for messages.
            keep: Which weights a member ends with.
            best_by: The figure that says which epoch is best, where early stopping names none.
            early_stopping: When to stop a member early.
            aside: Where weights are while the model's stay behind.
        """
        members = len(rates)
        self.aside = aside
        self._behind = False
        self._model = model
        self._rates = tuple(rates)
        self._keep = keep
        self._stopping = early_stopping
        self._watched = early_stopping.metric if early_stopping is not None else best_by
        self._best = np.full(members, math.inf)
        self._best_epoch = np.zeros(members, dtype=np.int64)
        self._epochs = np.zeros(members, dtype=np.int64)
        self._improved_at = np.zeros(members, dtype=np.int64)
        self._diverged: dict[int, str] = {}
        self._stopped: set[int] = set()
        self._snapshot = {k: v.detach().clone() for k, v in own_state(model).items()}

    @property
    def active(self) -> list[int]:
        """Members whose training still counts."""
        everyone = range(len(self._best))
        return [m for m in everyone if m not in self._diverged and m not in self._stopped]

    def look(self, epoch: int, train: Tally, val: Tally) -> None:
        """Take note of an epoch.

        The model, or what has its weights aside, holds those that `val` was measured with.

        Args:
            epoch: From 1.
            train: Figures of the training split.
            val: Figures of the validation split.
        """
        improved = []
        for member in self.active:
            self._epochs[member] = epoch
            if not (math.isfinite(train.loss[member]) and math.isfinite(val.loss[member])):
                self._diverged[member] = (
                    f"the loss was no longer a finite number in epoch {epoch} at learning rate "
                    f"{self._rates[member]:g}: try a lower learning rate, or less momentum, or "
                    "clipped gradients"
                )
                continue
            figure = float(val.loss[member] if self._watched == "loss" else -val.accuracy[member])
            if self._keep == "last" or figure < self._best[member]:
                self._best_epoch[member] = epoch
                improved.append(member)
            if figure < self._best[member]:
                self._best[member] = figure
                self._improved_at[member] = epoch
            elif self._out_of_patience(member, epoch):
                self._stopped.add(member)
        self._copy(improved)

    def restore(self) -> None:
        """Put each member's kept weights into the model."""
        self._catch_up()
        load_own_state(self._model, self._snapshot)

    def outcomes(self) -> tuple[Outcome, ...]:
        """Say how each member's training ended."""
        return tuple(
            Outcome(
                state="diverged" if m in self._diverged else "complete",
                epochs=int(self._epochs[m]),
                best_epoch=int(self._best_epoch[m]),
                message=self._diverged.get(m),
            )
            for m in range(len(self._best))
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the part of a checkpoint that is numbers; the model may get the kept weights."""
        self._catch_up()
        numbers = {
            ".best": self._best,
            ".best_epoch": self._best_epoch,
            ".epochs": self._epochs,
            ".improved_at": self._improved_at,
        }
        return {**self._snapshot, **{k: torch.from_numpy(v.copy()) for k, v in numbers.items()}}

    def words(self) -> JsonDict:
        """Return the part of a checkpoint that is words."""
        diverged = {str(m): message for m, message in self._diverged.items()}
        return {"diverged": diverged, "stopped": sorted(self._stopped)}

    def load(self, tensors: Mapping[str, Tensor], words: JsonDict) -> None:
        """Go on from what `tensors` and `words` returned."""
        self._best = tensors[".best"].numpy().copy()
        self._best_epoch = tensors[".best_epoch"].numpy().copy()
        self._epochs = tensors[".epochs"].numpy().copy()
        self._improved_at = tensors[".improved_at"].numpy().copy()
        for name, value in self._snapshot.items():
            value.copy_(tensors[name])
        self._diverged = {int(m): message for m, message in words["diverged"].items()}
        self._stopped = set(words["stopped"])

    def _out_of_patience(self, member: int, epoch: int) -> bool:
        if self._stopping is None:
            return False
        return bool(epoch - self._improved_at[member] >= self._stopping.patience)

    @torch.no_grad()
    def _copy(self, members: Sequence[int]) -> None:
        if not members:
            return
        if self.aside is not None:
            self.aside.remember(members)
            self._behind = True
            return
        state = own_state(self._model)
        if len(members) == len(self._best):
            for name, value in state.items():
                self._snapshot[name].copy_(value)
            return
        rows = torch.tensor(members)
        for name, value in state.items():
            index = rows.to(value.device)
            self._snapshot[name][index] = value[index]

    def _catch_up(self) -> None:
        """Keep the weights of what was remembered."""
        if self.aside is None or not self._behind:
            return
        self.aside.recall()
        for name, value in own_state(self._model).items():
            self._snapshot[name].copy_(value.detach())
        self._behind = False
