"""Says in words how the models of a run came about."""

from headstart.report import kinds, lookup, measures, nouns
from headstart.types import JsonDict

_LANGUAGE = (
    "A language model reads a text word by word and says, after each, how probable every word of "
    "its vocabulary is as the next one. Perplexity is the exponential of its mean loss: as many "
    "words, chosen among evenly, would leave it as uncertain. The state of the recurrent layers is "
    "carried from batch to batch; gradients go back over one batch."
)
_REGRESSION = (
    "Every model begins with random weights and trains all of them on the squared error between "
    "what it predicts of a {noun} and what is true."
)


def way_of_training(results: JsonDict) -> list[str]:
    """Say how the models came about.

    Args:
        results: The content of results.json.

    Returns:
        Paragraphs; none where nothing was trained.
    """
    trained = kinds.trained(results)
    if measures.goal(results) == "language" and trained:
        return [_LANGUAGE]
    if measures.goal(results) == "regression" and trained and all(map(kinds.from_scratch, trained)):
        return [_REGRESSION.format(noun=nouns.one(results))]
    noun = nouns.one(results)
    modes = {str(m.get("mode")) for m in trained}
    two_ways = "standard" in modes and "cached" in modes
    if kinds.staged(results):
        said = [
            "A training goes through stages. In each of them everything up to the cut is frozen, "
            "and what comes after it is trained. What is frozen gives the same features for a "
            f"{noun} at every step, so they are either stored once or computed again."
        ]
        if any(kinds.from_scratch(m) for m in trained):
            said[0] += (
                " A model from scratch has the same architecture, begins with random weights, and "
                "trains all of it."
            )
        return said
    if two_ways:
        return [
            "Every model is a frozen backbone with a new, trained head. In standard mode the "
            "backbone runs at every training step; in cached mode its output is computed once "
            f"per {noun}, stored, and read back at every step. The mathematics is the same."
        ]
    if trained:
        many = "Every model" if len(trained) == len(lookup.models(results)) else "A trained model"
        return [f"{many} is a frozen backbone with a new head, which alone is trained."]
    return []
