"""Multinomial logistic regression solved to its optimum: the linear probe without a learning rate.

Minimises, over W [classes, features] and b [classes],

    C · Σᵢ −log softmax(W zᵢ + b)[yᵢ]  +  ½ ‖W‖²

which is scikit-learn's objective for `LogisticRegression(C=C)`; it is convex, and strictly so in
W, so both find the same W. The features are standardised first only where asked, since that
changes the penalty. Sums run in float64.
"""

import math
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
        converged: Whether the gradient met the tolerance.
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
        tolerance: Largest distance, in any weight, from the optimum that is good enough. The mean
            objective is 1/(C·n)-strongly convex in W, so a gradient of at most tolerance/(C·n)
            is enough; that bound is loose, so the distance reached is far smaller.
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
    n, width = z.shape
    start = np.zeros(classes * (width + 1))
    fits: dict[float, LogisticFit] = {}
    for c in sorted(set(cs)):
        # scipy bounds the largest component; the norm is at most √size times that.
        gradient_tolerance = min(1e-6, tolerance / (c * n * math.sqrt(start.size)))
        # The solver's own sums are short vectors: a second BLAS thread only spins beside torch's.
        with threadpool_limits(limits=1, user_api="blas"):
            solution = minimize(
                _objective,
                start,
                args=(z, y, classes, 1 / (c * n)),
                jac=True,
                method="L-BFGS-B",
                options={
                    "maxiter": max_iterations,
                    "gtol": gradient_tolerance,
                    "ftol": 0.0,
                    "maxcor": 20,
                },
            )
        start = solution.x
        weight = start[: width * classes].reshape(width, classes).T
        fits[c] = LogisticFit(
            c=c,
            weight=np.ascontiguousarray(weight),
            bias=start[width * classes :].copy(),
            objective=float(solution.fun) * c * n,
            iterations=int(solution.nit),
            converged=bool(np.abs(solution.jac).max() <= gradient_tolerance),
        )
    return tuple(fits[c] for c in cs)


def _objective(
    flat: npt.NDArray[np.float64], z: torch.Tensor, y: torch.Tensor, classes: int, penalty: float
) -> tuple[float, npt.NDArray[np.float64]]:
    """Return mean loss plus ½·penalty·‖W‖² and its gradient (the objective over C·n).

    `flat` holds W transposed, [features, classes], then b: both products with z are then plain
    row-major matrix products.
    """
    n, width = z.shape
    table = torch.as_tensor(flat, device=z.device)
    weight, bias = table[: width * classes].view(width, classes), table[width * classes :]
    log_p = torch.log_softmax(torch.addmm(bias, z, weight), dim=1)
    loss = -log_p.gather(1, y[:, None]).mean() + 0.5 * penalty * weight.square().sum()
    # d loss / d logits = (softmax − onehot) / n, shape [n, classes]
    error = log_p.exp()
    error.scatter_add_(1, y[:, None], torch.full_like(y[:, None], -1, dtype=error.dtype))
    error /= n
    gradient = torch.empty_like(table)
    gradient[: width * classes] = torch.addmm(weight, z.T, error, beta=penalty).view(-1)
    gradient[width * classes :] = error.sum(dim=0)
    return float(loss), gradient.cpu().numpy()
