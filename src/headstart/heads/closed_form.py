"""Multinomial logistic regression solved to its optimum: the linear probe without a learning rate.

Minimises, over W [classes, features] and b [classes],

    C · Σᵢ −log softmax(W zᵢ + b)[yᵢ]  +  ½ ‖W‖²

which is scikit-learn's objective for `LogisticRegression(C=C)`; it is convex, and strictly so in
W, so both find the same W. Divided by C·n it is mean loss + ½ λ ‖W‖², λ = 1/(C·n).

Features of networks are far from centred and their variances span many orders of magnitude, which
costs plain L-BFGS thousands of iterations. So it runs in other coordinates, with the same optimum:

1. z is centred, which only moves b.
2. W is written in the eigenbasis V of the centred features' Gram matrix, with eigenvalues e; what
   lies outside of that basis is zero at the optimum, since only the penalty sees it. If there are
   fewer samples than features the basis has as many vectors as samples.
3. The Hessian is at most ½ · diag(e/n) + λ (Böhning 1992), so each coordinate is scaled by
   d = (e/2n + λ)^−½: there the bound is the identity, and L-BFGS needs tens of steps.

Sums run in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from headstart._util.devices import threads_for
from headstart.types import FloatArray, IntArray

_CHECK_EVERY = 10  # iterations between two looks at the gradient


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """One solved probe.

    Attributes:
        c: Inverse strength of the penalty.
        weight: float64, shape [classes, features].
        bias: float64, shape [classes].
        objective: The minimum that was reached.
        iterations: L-BFGS iterations, in tens.
        converged: Whether the optimum is provably within the tolerance.
    """

    c: float
    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    objective: float
    iterations: int
    converged: bool

    def probabilities(self, features: FloatArray) -> npt.NDArray[np.float64]:
        """Return what the probe says of samples.

        Args:
            features: float32, shape [n, features].

        Returns:
            Class probabilities, float64, shape [n, classes]; rows sum to 1.
        """
        logits = features @ self.weight.T + self.bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        out: npt.NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
        return out


def fit_logistic(
    features: FloatArray,
    labels: IntArray,
    classes: int,
    cs: Sequence[float],
    *,
    device: torch.device,
    tolerance: float = 1e-2,
    max_iterations: int = 2000,
) -> tuple[LogisticFit, ...]:
    """Solve the probe for each C, from the strongest penalty to the weakest, each from the last.

    Args:
        features: float32, shape [n, features].
        labels: int64 class indices, shape [n].
        classes: Number of classes, present in `labels` or not.
        cs: Inverse penalty strengths, positive.
        device: Where the sums run (float64 is needed: on Apple's MPS the CPU is used).
        tolerance: A fit is done when W is, provably, no farther from the optimum than this share
            of its own norm. The proof is generous: the true distance is many times smaller.
        max_iterations: L-BFGS iterations at most, for each C.

    Returns:
        One fit per C, in the order of `cs`.

    Raises:
        ValueError: A C is not positive.
    """
    if any(c <= 0 for c in cs):
        raise ValueError(f"cs: expected positive numbers, got {list(cs)}")
    if device.type == "mps":
        device = torch.device("cpu")
    smaller = min(features.shape)
    with threads_for(2.0 * len(features) * smaller * max(classes, 16)):
        return _solved(features, labels, classes, cs, device, tolerance, max_iterations)


def _solved(
    features: FloatArray,
    labels: IntArray,
    classes: int,
    cs: Sequence[float],
    device: torch.device,
    tolerance: float,
    max_iterations: int,
) -> tuple[LogisticFit, ...]:
    z = torch.as_tensor(features, dtype=torch.float64, device=device)
    y = torch.as_tensor(labels, device=device)
    n = len(z)
    mean = z.mean(dim=0)
    basis, rotated, eigenvalues = _eigenbasis(z - mean)
    coefficients = torch.zeros(len(eigenvalues), classes, dtype=torch.float64, device=device)
    bias = torch.zeros(classes, dtype=torch.float64, device=device)
    fits: dict[float, LogisticFit] = {}
    for c in sorted(set(cs)):
        penalty = 1 / (c * n)
        scale = (eigenvalues / (2 * n) + penalty).rsqrt()[:, None]  # d, [rank, 1]
        problem = _Problem(rotated * scale.T, y, penalty * scale.square())
        a = (coefficients / scale).requires_grad_()
        b = bias.clone().requires_grad_()
        objective, iterations, converged = _minimise(
            problem, a, b, scale, tolerance * penalty, max_iterations
        )
        coefficients, bias = scale * a.detach(), b.detach()
        weight = basis @ coefficients
        fits[c] = LogisticFit(
            c=c,
            weight=weight.T.contiguous().cpu().numpy(),
            bias=(bias - mean @ weight).cpu().numpy(),
            objective=objective * c * n,
            iterations=iterations,
            converged=converged,
        )
    return tuple(fits[c] for c in cs)


def _minimise(
    problem: "_Problem",
    a: torch.Tensor,
    b: torch.Tensor,
    scale: torch.Tensor,
    enough: float,
    max_iterations: int,
) -> tuple[float, int, bool]:
    """Move a and b to the minimum; stop when the gradient with respect to W is short enough."""
    solver = torch.optim.LBFGS(
        [a, b],
        max_iter=_CHECK_EVERY,
        history_size=30,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> torch.Tensor:
        loss, a.grad, b.grad = _objective(problem, a.detach(), b.detach())
        return loss

    done = 0
    last = math.inf
    while True:
        solver.step(evaluate)  # type: ignore[no-untyped-call]
        done += _CHECK_EVERY
        loss = float(evaluate())
        assert a.grad is not None
        # By strong convexity the distance to the optimum is at most ‖gradient‖ / λ.
        if float((a.grad / scale).norm()) <= enough * float((scale * a.detach()).norm()):
            return loss, done, True
        if done >= max_iterations or loss >= last:
            return loss, done, False
        last = loss


def _eigenbasis(centred: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return V [features, rank], centred @ V [n, rank] and the Gram matrix's eigenvalues [rank]."""
    n, width = centred.shape
    wide = n < width
    gram = centred @ centred.T if wide else centred.T @ centred
    values, vectors = torch.linalg.eigh(gram)
    keep = values > values[-1].clamp(min=1e-300) * 1e-12
    values, vectors = values[keep], vectors[:, keep]
    if wide:  # centred = U S Vᵀ, and U S is what is wanted
        roots = values.sqrt()
        return centred.T @ vectors / roots, vectors * roots, values
    return vectors, centred @ vectors, values


@dataclass(frozen=True, slots=True)
class _Problem:
    z: torch.Tensor  # scaled features, [n, rank]
    y: torch.Tensor  # [n]
    penalty: torch.Tensor  # of each scaled coordinate, [rank, 1]


def _objective(
    problem: _Problem, a: torch.Tensor, b: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the objective over C·n at a [rank, classes] and b [classes], and its gradients."""
    z, y = problem.z, problem.y[:, None]
    log_p = torch.log_softmax(torch.addmm(b, z, a), dim=1)
    decayed = problem.penalty * a
    loss = -log_p.gather(1, y).mean() + 0.5 * (decayed * a).sum()
    # d loss / d logits = (softmax − onehot) / n, shape [n, classes]
    error = log_p.exp_()
    error.scatter_add_(1, y, torch.full_like(y, -1, dtype=error.dtype))
    error /= len(z)
    return loss, torch.addmm(decayed, z.T, error), error.sum(dim=0)
