"""timm: frozen transfer with its loader, optimiser and meters, in the loop of its train.py."""

import timm
import torch
from safetensors.torch import load_file
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, accuracy
from torch import nn

from benchmarks.contender import Answer, Epochs, Job, answer

INPUT = (3, 224, 224)
CPU = torch.device("cpu")


def build(weights: str, classes: int) -> nn.Module:
    """Return the frozen network under a new classifier."""
    model = timm.create_model("mobilenetv2_100", num_classes=classes)
    model.load_state_dict(load_file(weights), strict=False)
    model.requires_grad_(False)
    model.get_classifier().requires_grad_(True)
    return model


def work(job: Job) -> Answer:
    """Train the classifier, validating after each epoch."""
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    batches = {
        split: create_loader(
            create_dataset("", root=job[split]),
            INPUT,
            job["batch_size"],
            is_training=split == "train",
            no_aug=True,
            crop_pct=0.875,  # the short side to 256, the middle 224: as the others
            num_workers=job["workers"],
            persistent_workers=job["workers"] > 0,
            device=CPU,
        )
        for split in ("train", "val")
    }
    # Without augmentation timm prepares training photographs in another way than the others do.
    batches["train"].dataset.transform = batches["val"].dataset.transform
    classes = len(batches["train"].dataset.reader.class_to_idx)
    model = build(job["timm_weights"], classes).to(memory_format=torch.channels_last)
    head = model.get_classifier()
    optimizer = create_optimizer_v2(
        head, opt="momentum", lr=job["learning_rate"], momentum=job["momentum"], weight_decay=0.0
    )
    criterion = nn.CrossEntropyLoss()
    epochs, accuracies = Epochs(), []
    for _ in range(job["epochs"]):
        model.train()
        for name, module in model.named_children():
            if name != "classifier":
                module.eval()
        losses, right = AverageMeter(), AverageMeter()
        for x, y in batches["train"]:
            loss = criterion(model(x.contiguous(memory_format=torch.channels_last)), y)
            losses.update(loss.item(), len(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for x, y in batches["val"]:
                out = model(x.contiguous(memory_format=torch.channels_last))
                right.update(accuracy(out, y)[0].item(), len(x))
        accuracies.append(right.avg / 100)
        epochs.ended()
    samples = len(batches["val"].dataset)
    return {"accuracies": accuracies, "samples": samples, "epoch_seconds": epochs.seconds}


if __name__ == "__main__":
    answer(work, ("timm", "torch", "torchvision", "pillow"))
