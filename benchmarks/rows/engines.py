"""The frozen forward pass: against eager torch, the processor's peak, and with decoding."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.contest import Answer, Contender, Repeat, contest
from benchmarks.material import gather
from benchmarks.rows.group import Group, Setting, apart, both, failure
from benchmarks.table import Findings, Row, Target, fastest, judged, middle, shown

OURS, TORCH = "Headstart", "eager torch"
FORWARD = {"MobileNetV2": "mobilenetv2_100", "EfficientNet-Lite0": "tf_efficientnet_lite0"}
PEAK = {"ResNet-50": "timm/resnet50", "VGG16": "timm/vgg16"}
# Few enough that each takes some seconds.
WHOLE = {
    "ResNet-50": ("torchvision/resnet50.IMAGENET1K_V1", 200),
    "MobileNetV2": ("torchvision/mobilenet_v2.IMAGENET1K_V1", 800),
}
SIZES = (1, 8, 32)
APART = 1e-3


def measure_forward(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Time the forward pass of small networks, by both."""
    wanted = [f"{network}.safetensors" for network in FORWARD.values()]
    material = gather(setting.data, setting.work, setting.photos, setting.threads, wanted)
    contenders = []
    for title, network in FORWARD.items():
        weights = str(material.weights / f"{network}.safetensors")
        job = {"threads": setting.threads, "pictures": 64, "weights": weights}
        ours = {**job, "backbone": f"timm/{network}", "passes": 9}
        theirs = {**job, "network": network, "sizes": SIZES}
        contenders += [
            Contender(f"{OURS}, {title}", "benchmarks.ours.forward", ours),
            Contender(f"{TORCH}, {title}", "benchmarks.peers.torch_forward", theirs, "torch"),
        ]
    return contest(contenders, setting.repeats, setting.tell), {}


def forward_findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return how many times as many pictures per second."""
    del about
    rows = []
    for title in FORWARD:
        names = (f"{OURS}, {title}", f"{TORCH}, {title}")
        good = both(repeats, *names)
        ours, theirs = ([repeat[name] for repeat in good] for name in names)
        rates = [[answer["images_per_second"] for answer in side] for side in (ours, theirs)]
        row = partial(
            Row,
            f"forward-{title.lower()}",
            f"frozen forward pass, {title}, against eager torch",
            Target(3),
        )
        if not good:
            rows.append(row((), error=failure(repeats, *names)))
            continue
        rows.append(
            row(
                tuple(a / b for a, b in zip(*rates, strict=True)),
                ours=f"{middle(ours, 'images_per_second'):.0f} images/s",
                theirs=f"{middle(theirs, 'images_per_second'):.0f} images/s",
                note=f"{ours[0]['engine']}; torch at its best: {theirs[0]['best']}",
                floor=_fastest(ours, middle(theirs, "images_per_second"), Target(3)),
            )
        )
    gaps = [apart(repeats, f"{OURS}, {t}", f"{TORCH}, {t}", APART) for t in FORWARD]
    return Findings(tuple(rows), disagreements=tuple(one for gap in gaps for one in gap))


def _fastest(ours: Sequence[Answer], theirs: float, target: Target) -> str:
    flops, peak = middle(ours, "flops"), fastest(ours, "peak_flops")
    most = peak / flops / theirs
    return (
        f"at the speed of large float32 products ({peak / 1e9:.0f} GFLOP/s, "
        f"{flops / 1e9:.2f} GFLOP a picture) {peak / flops:.0f} images/s: at most "
        f"{shown(most, 'x')}{judged(most, target)}"
    )


def measure_peak(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Time the forward pass of large networks beside products of matrices."""
    contenders = [
        Contender(
            title,
            "benchmarks.ours.forward",
            {
                "threads": setting.threads,
                "pictures": 16,
                "backbone": backbone,
                "passes": 5,
            },
        )
        for title, backbone in PEAK.items()
    ]
    return contest(contenders, setting.repeats, setting.tell), {}


def peak_findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return the share of the peak."""
    del about
    rows = []
    for title in PEAK:
        answers = [repeat[title] for repeat in both(repeats, title)]
        row = partial(
            Row,
            f"peak-{title.lower()}",
            f"frozen forward pass, {title}: share of the float32 matmul peak",
            Target(0.85, "%"),
            unit="%",
        )
        if not answers:
            rows.append(row((), error=failure(repeats, title)))
            continue
        speeds = [answer["flops"] * answer["images_per_second"] / 1e9 for answer in answers]
        rows.append(
            row(
                tuple(answer["share"] for answer in answers),
                ours=f"{sorted(speeds)[len(speeds) // 2]:.0f} GFLOP/s",
                theirs=f"{middle(answers, 'peak_flops') / 1e9:.0f} GFLOP/s",
                note=f"{middle(answers, 'images_per_second'):.1f} images/s by "
                f"{answers[0]['engine']}; the peak is the best product of torch or numpy, sides "
                "1,024 to 4,096",
            )
        )
    return Findings(tuple(rows))


def measure_whole(setting: Setting) -> tuple[list[Repeat], Mapping[str, Any]]:
    """Time extraction with decoding and without."""
    material = gather(setting.data, setting.work, setting.photos, setting.threads, ())
    contenders = [
        Contender(
            title,
            "benchmarks.ours.end_to_end",
            {
                "threads": setting.threads,
                "train": str(material.train),
                "backbone": backbone,
                "pictures": pictures,
            },
        )
        for title, (backbone, pictures) in WHOLE.items()
    ]
    return contest(contenders, setting.repeats, setting.tell), {}


def whole_findings(repeats: Sequence[Repeat], about: Mapping[str, Any]) -> Findings:
    """Return the share of the forward-only rate; ResNet-50 is judged."""
    del about
    rows = []
    for title in WHOLE:
        answers = [repeat[title] for repeat in both(repeats, title)]
        target = Target(0.9, "%") if title == "ResNet-50" else None
        row = partial(
            Row,
            f"end-to-end-{title.lower()}",
            f"decode, resize and forward of 500×375 JPEGs, {title}: share of the forward-only rate",
            target,
            unit="%",
        )
        if not answers:
            rows.append(row((), error=failure(repeats, title)))
            continue
        decode, forward = (
            1000 * middle(answers, key) for key in ("decode_core_seconds", "forward_core_seconds")
        )
        most = forward / (forward + decode)
        rows.append(
            row(
                tuple(answer["share"] for answer in answers),
                ours=f"{middle(answers, 'whole_images_per_second'):.0f} images/s",
                theirs=f"{middle(answers, 'forward_images_per_second'):.0f} images/s",
                note=f"a picture takes {decode:.1f} core-ms to decode and resize and "
                f"{forward:.1f} in the network",
                floor=f"with all cores at work the share is at most {forward:.1f} / "
                f"({forward:.1f} + {decode:.1f}) = {most:.1%}{judged(most, target)}",
            )
        )
    return Findings(tuple(rows))


GROUPS = (
    Group("forward", 3, measure_forward, forward_findings),
    Group("peak", 5, measure_peak, peak_findings),
    Group("end-to-end", 2.5, measure_whole, whole_findings),
)
