"""fastai: frozen transfer by its `Learner`, with the same network, pictures and optimiser."""

from functools import partial

import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback
from fastai.callback.training import BnFreeze
from fastai.data.transforms import Normalize
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.optimizer import SGD
from fastai.vision.core import PILImage, imagenet_stats
from fastai.vision.data import ImageDataLoaders
from torch import nn
from torchvision import transforms

from benchmarks.contender import Answer, Epochs, Job, answer
from benchmarks.peers.torch_frozen import build


class _Clock(Callback):
    def __init__(self) -> None:
        self.epochs = Epochs()

    def before_fit(self) -> None:
        self.epochs.start()

    def after_epoch(self) -> None:
        self.epochs.ended()


def _layers(model: nn.Module) -> list[list[nn.Parameter]]:
    return [list(model.features.parameters()), list(model.classifier.parameters())]


def work(job: Job) -> Answer:
    """Train the classifier, validating after each epoch."""
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    # As the other torch contenders see them; fastai's own Resize would crop at random.
    crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])

    def cropped(picture: PILImage) -> PILImage:
        return PILImage.create(crop(picture))

    batches = ImageDataLoaders.from_folder(
        job["folder"],
        train="train",
        valid="val",
        item_tfms=cropped,
        batch_tfms=Normalize.from_stats(*imagenet_stats),
        bs=job["batch_size"],
        num_workers=job["workers"],
        persistent_workers=job["workers"] > 0,
        device=torch.device("cpu"),
    )
    clock = _Clock()
    learner = Learner(
        batches,
        build(job["torch_weights"], batches.c),
        loss_func=nn.CrossEntropyLoss(),
        opt_func=partial(SGD, mom=job["momentum"]),
        splitter=_layers,
        metrics=accuracy,
        train_bn=False,
        moms=None,
        # Without BnFreeze the statistics of frozen BatchNorm layers would move.
        cbs=[clock, ChannelsLast(), BnFreeze()],
    )
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit(job["epochs"], job["learning_rate"])
    return {
        "accuracies": [float(row[2]) for row in learner.recorder.values],
        "samples": len(batches.valid_ds),
        "epoch_seconds": clock.epochs.seconds,
    }


if __name__ == "__main__":
    answer(work, ("fastai", "torch", "torchvision", "pillow"))
