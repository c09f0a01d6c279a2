"""scikit-learn: the members of a sweep, each an `MLPClassifier` without hidden layers."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from benchmarks.contender import Answer, Job, answer


def work(job: Job) -> Answer:
    """Train each member; it is scored once, at its end."""
    stored = np.load(job["features"])
    features, labels, cut = stored["features"], stored["labels"], int(stored["train"])
    accuracies = []
    for rate, momentum in job["members"]:
        model = MLPClassifier(
            hidden_layer_sizes=(),
            solver="sgd",
            alpha=0.0,
            batch_size=job["batch_size"],
            learning_rate_init=rate,
            momentum=momentum,
            nesterovs_momentum=False,
            max_iter=job["epochs"],
            n_iter_no_change=job["epochs"],
            random_state=job["seed"],
        )
        with warnings.catch_warnings(), threadpool_limits(job["threads"]):
            warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after the epochs: asked
            model.fit(features[:cut], labels[:cut])
        accuracies.append(float(model.score(features[cut:], labels[cut:])))
    return {"member_accuracies": accuracies, "samples": len(labels) - cut}


if __name__ == "__main__":
    answer(work, ("scikit-learn", "numpy"))
