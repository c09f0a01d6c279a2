"""A tokenizer that cuts plain text into words the way WikiText's files are cut."""

import json
from collections.abc import Sequence

from headstart._util.imports import optional

UNK = "<unk>"
EOS = "<eos>"

# Inside numbers and compound words WikiText marks what joins: 1 @,@ 000, 0 @.@ 5, well @-@ known.
_JOINED = (
    (r"(?<=\w)-(?=\w)", " @-@ "),
    (r"(?<=\d),(?=\d)", " @,@ "),
    (r"(?<=\d)\.(?=\d)", " @.@ "),
    ("[‘’]", "'"),
    ("[“”]", '"'),
)
# What is a word of its own. A full stop is one at the end of a word, unless the word is an initial
# (H.), has another full stop in it (U.S.) or is one of a few abbreviations.
_SHORT = ("No", "Nos", "Col", "St", "vs", "Gen", "Dr", "Mr", "Mrs", "Ms", "Sr", "Jr", "Lt", "Inc")
_STOP = (
    rf"(?<!\b(?:{'|'.join(_SHORT)}))(?<![.@])(?<![.\s][a-zA-Z])(?<!^[a-zA-Z])"
    r"\.(?=$|[\s\"')\]])"
)
# One expression, so that what one part has taken no other part cuts further.
_APART = "|".join(
    (
        r"\.\.\.|--",
        _STOP,
        # Not the signs between two @, and none of the brackets of <unk>.
        r"(?<!@)[,;:](?!@)|[!?\"()\[\]{}/…–—$£€¥%&#+=°]",
        r"'(?:s|t|re|ve|ll|d|m|S|T)(?!\w)",
        r"^'+|'+$",
    )
)


def word_tokenizer(vocabulary: Sequence[str]) -> str:
    """Return a tokenizer for plain text, as the JSON of the library `tokenizers`.

    It separates punctuation about as WikiText does (see the module), adds no special tokens, and
    makes ``<unk>`` of every word that is not in the vocabulary. Text that is already cut into
    WikiText's words stays as it is but for rare abbreviations.

    Args:
        vocabulary: The words; a word's position is its number. ``<unk>`` is one of them.

    Returns:
        The JSON.

    Raises:
        MissingExtraError: The package `tokenizers` is not installed.
    """
    tokenizers = optional("tokenizers", "text", "a tokenizer of words")
    from tokenizers import models, normalizers, pre_tokenizers

    numbers = {word: i for i, word in enumerate(vocabulary)}
    made = tokenizers.Tokenizer(models.WordLevel(numbers, unk_token=UNK))
    made.normalizer = normalizers.Sequence(
        [normalizers.Replace(tokenizers.Regex(pattern), into) for pattern, into in _JOINED]
    )
    apart = pre_tokenizers.Split(tokenizers.Regex(_APART), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), apart])
    # Through Python's JSON, so that equal vocabularies give equal text.
    return json.dumps(json.loads(made.to_str()), ensure_ascii=False, separators=(",", ":"))
