"""Multinomial logistic regression solved to its optimum: the linear probe without a learning rate.

Minimises, over W [classes, features] and b [classes],

    C · Σᵢ −log softmax(W zᵢ + b)[yᵢ]  +  ½ ‖W‖²

which is scikit-learn's objective for `LogisticRegression(C=C)`; it is convex, and strictly so in
W, so both find the same W. Divided by C·n it is  mean loss + ½ λ ‖W‖²  with λ = 1/(C·n).

Features of networks are far from centred and their variances span many orders of magnitude, which
costs plain L-BFGS thousands of iterations. So it runs in other coordinates, with the same optimum:

1. z is centred, which only moves b.
2. W is written in the eigenbasis V of the centred features' Gram matrix, with eigenvalues e; what
   lies outside of that basis is zero at the optimum, since only the penalty sees it. If there are
   fewer samples than features the basis has as many vectors as samples.
3. The Hessian is at most ½ · diag(e/n) + λ (Böhning 1992), so each coordinate is scaled by
   d = (e/2n + λ)^−½: in these coordinates the bound is the identity, and L-BFGS needs tens of steps.

Sums run in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from headstart.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """One solved probe.

    Attributes:
        c: Inverse strength of the penalty.
        weight: float64, shape [classes, features].
        bias: float64, shape [classes].
        objective: The minimum that was reached.
        iterations: L-BFGS iterations.
        converged: Whether the optimum is provably within the tolerance.
    """

    c: float
    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    objective: float
    iterations: int
    converged: bool


def fit_logistic(
    features: FloatArray,
    labels: IntArray,
    classes: int,
    cs: Sequence[float],
    *,
    device: torch.device,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
) -> tuple[LogisticFit, ...]:
    """Solve the probe for each C, from the strongest penalty to the weakest, each from the last.

    Args:
        features: float32, shape [n, features].
        labels: int64 class indices, shape [n].
        classes: Number of classes, present in `labels` or not.
        cs: Inverse penalty strengths, positive.
        device: Where the sums run (float64 is needed: on Apple's MPS the CPU is used).
        tolerance: A fit counts as converged if W is, provably, no farther than this from the
            optimum (Frobenius norm).
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
    z = torch.as_tensor(features, dtype=torch.float64, device=device)
    y = torch.as_tensor(labels, device=device)
    n = len(z)
    mean = z.mean(dim=0)
    basis, rotated, eigenvalues = _eigenbasis(z - mean)
    rank = len(eigenvalues)
    coefficients = torch.zeros(rank, classes, dtype=torch.float64, device=device)
    bias = torch.zeros(classes, dtype=torch.float64, device=device)
    fits: dict[float, LogisticFit] = {}
    for c in sorted(set(cs)):
        penalty = 1 / (c * n)
        scale = (eigenvalues / (2 * n) + penalty).rsqrt()  # d, [rank]
        problem = _Problem(rotated * scale, y, classes, penalty * scale.square())
        start = torch.cat([(coefficients / scale[:, None]).reshape(-1), bias])
        # The solver's own sums are short vectors: a second BLAS thread only spins beside torch's.
        with threadpool_limits(limits=1, user_api="blas"):
            solution = minimize(
                _objective,
                start.cpu().numpy(),
                args=(problem,),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": max_iterations, "gtol": 1e-10, "ftol": 0.0, "maxcor": 30},
            )
        solved = torch.as_tensor(solution.x, device=device)
        coefficients = scale[:, None] * solved[: rank * classes].view(rank, classes)
        bias = solved[rank * classes :]
        weight = basis @ coefficients
        # By strong convexity the distance to the optimum is at most ‖gradient‖ / λ.
        slope = torch.as_tensor(solution.jac, device=device)[: rank * classes]
        gradient = slope.view(rank, classes) / scale[:, None]
        fits[c] = LogisticFit(
            c=c,
            weight=weight.T.contiguous().cpu().numpy(),
            bias=(bias - mean @ weight).cpu().numpy(),
            objective=float(solution.fun) * c * n,
            iterations=int(solution.nit),
            converged=bool(gradient.norm() <= tolerance * penalty),
        )
    return tuple(fits[c] for c in cs)


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
    classes: int
    penalty: torch.Tensor  # of each scaled coordinate, [rank]


def _objective(
    flat: npt.NDArray[np.float64], problem: _Problem
) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the objective over C·n, and its gradient, at A [rank, classes] and b [classes]."""
    z, y, classes = problem.z, problem.y, problem.classes
    n, rank = z.shape
    table = torch.as_tensor(flat, device=z.device)
    weight, bias = table[: rank * classes].view(rank, classes), table[rank * classes :]
    log_p = torch.log_softmax(torch.addmm(bias, z, weight), dim=1)
    decayed = problem.penalty[:, None] * weight
    loss = -log_p.gather(1, y[:, None]).mean() + 0.5 * (decayed * weight).sum()
    # d loss / d logits = (softmax − onehot) / n, shape [n, classes]
    error = log_p.exp()
    error.scatter_add_(1, y[:, None], torch.full_like(y[:, None], -1, dtype=error.dtype))
    error /= n
    gradient = torch.cat([torch.addmm(decayed, z.T, error).view(-1), error.sum(dim=0)])
    return float(loss), gradient.cpu().numpy()
