"""A rule on texts that are longer than what a network reads."""

from headstart.report import nouns
from headstart.report.text import count, percent
from headstart.types import JsonDict

MANY = 0.05  # of all texts: from then on a longer input is worth its time


def truncation(results: JsonDict) -> list[JsonDict]:
    """Return which networks read too little of the texts.

    Args:
        results: The content of results.json.

    Returns:
        One sentence per backbone that more than `MANY` of all texts were cut off for.
    """
    said: dict[str, list[str]] = {}
    for entry in results.get("backbones") or ():
        cut = entry.get("truncation") or {}
        texts, truncated = cut.get("texts"), cut.get("truncated")
        if not texts or not truncated or truncated / texts <= MANY:
            continue
        name = str(entry.get("name") or entry.get("key"))
        text = (
            f"{name} reads {count(cut.get('max_length'))} tokens at most: "
            f"{percent(truncated / texts)} of the {nouns.many(results)} were cut off"
        )
        if cut.get("tokens"):
            lost = percent((cut.get("tokens_lost") or 0) / cut["tokens"])
            text += f", and {lost} of all tokens were lost"
        text += ". Raise max_length, as far as the network and the time allow."
        # One network under two keys, pooled in two ways say, is told of once.
        said.setdefault(text, []).append(f"backbones/{entry.get('key')}/truncation")
    return [{"topic": "data", "text": text, "rows": rows} for text, rows in said.items()]
