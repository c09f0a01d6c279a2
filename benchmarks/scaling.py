"""The tables of docs/scaling.md: what 10⁶ to 10⁹ pictures need, from measured rates.

Every input is measured on two cores, by the row of RESULTS.md or the note of NOTES.md beside it, or
is an assumption that says so. `python -m benchmarks.scaling` prints the tables.
"""

from dataclasses import dataclass

COUNTS = (10**6, 10**8, 10**9)

# Measured (2 cores, AMD EPYC, AVX2; NOTES.md).
CORES = 2
PREPARE_CORE_SECONDS = 0.00186  # a JPEG of 500x375: read, SHA-256, decode, resize, normalise
MEMORY_PER_SAMPLE = 535  # bytes: names, digests and the index; 100,000 against 1,000 pictures
HELPER_MEMORY_PER_SAMPLE = 200  # bytes: of those the names and digests
RESCAN_SECONDS = 49e-6  # a file that has not changed, listed and looked at; of 100,000
SIDECAR_BYTES = 72  # a digest in hexadecimal, on a line of JSON
SHARD_SAMPLES = 1024  # as many as a share has at most; one process alone writes up to 4,096

# Assumed.
PHOTO_BYTES = 110_000  # ImageNet's mean: 1.28 million photographs in 138 GB
MACHINE_CORES = 16
MACHINES = 100
GPU_CORES = 16  # cores beside each graphics processor
GPU_FLOPS = 30e12  # float32 that one reaches in convolutions: features are float32 (no TF32)
STORAGE_BYTES_PER_SECOND = 10e9  # of the storage that all machines share
CORE_HOUR, GPU_HOUR = 0.04, 3.0  # dollars


@dataclass(frozen=True)
class Network:
    """A network whose features are extracted.

    Attributes:
        name: As tables call it.
        width: Features.
        per_second: Pictures on two cores, from file to stored row: measured.
        flops: Of one picture.
    """

    name: str
    width: int
    per_second: float
    flops: float

    @property
    def row_bytes(self) -> int:
        """Of a picture's features in float32."""
        return 4 * self.width

    @property
    def core_seconds(self) -> float:
        """Core-seconds of a picture."""
        return CORES / self.per_second

    @property
    def gpu_per_second(self) -> float:
        """Pictures of a graphics processor: computed, or prepared by its cores if that is less."""
        return min(GPU_FLOPS / self.flops, GPU_CORES / PREPARE_CORE_SECONDS)


NETWORKS = (Network("MobileNetV2", 1280, 198, 0.6e9), Network("ResNet-50", 2048, 25.6, 8.2e9))


def size(value: float) -> str:
    """Return bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} PB"


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    for unit, length in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.3g} {unit}"
    return f"{seconds:.3g} s"


def count(value: int) -> str:
    """Return a power of ten."""
    return "10" + str(len(str(value)) - 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bytes_table() -> str:
    """Return what is moved and stored."""
    rows = []
    for n in COUNTS:
        shards = -(-n // SHARD_SAMPLES)
        stored = tuple(
            f"{size(n * network.row_bytes)} / {size(n * network.row_bytes / 2)}"
            for network in NETWORKS
        )
        rows.append(
            (
                count(n),
                size(n * PHOTO_BYTES),
                *stored,
                f"{shards:,}",
                size(n * SIDECAR_BYTES),
                f"{size(n * MEMORY_PER_SAMPLE)} / {size(n * HELPER_MEMORY_PER_SAMPLE)}",
                duration(n * RESCAN_SECONDS),
            )
        )
    head = (
        "pictures",
        "read",
        *(f"{network.name}: float32 / float16" for network in NETWORKS),
        "shards",
        "sidecars",
        "memory: first process / each other",
        "looking for changes",
    )
    return table(head, rows)


def time_table() -> str:
    """Return what it takes and costs."""
    rows = []
    for network in NETWORKS:
        cores = MACHINES * MACHINE_CORES
        for n in COUNTS:
            reading = n * PHOTO_BYTES / STORAGE_BYTES_PER_SECOND
            on_cores = n * network.core_seconds / cores
            on_gpus = n / (MACHINES * network.gpu_per_second)
            rows.append(
                (
                    network.name,
                    count(n),
                    duration(n / network.per_second),
                    duration(max(on_cores, reading)),
                    duration(max(on_gpus, reading)),
                    "storage" if reading > on_gpus else "preparing or computing",
                )
            )
    head = (
        "network",
        "pictures",
        f"{CORES} cores (measured rate)",
        f"{MACHINES} machines of {MACHINE_CORES} cores",
        f"{MACHINES} GPUs",
        "what the GPUs wait for",
    )
    return table(head, rows)


def cost_table() -> str:
    """Return dollars for a million pictures."""
    rows = []
    for network in NETWORKS:
        core_hours = 1e6 * network.core_seconds / 3600
        gpu_hours = 1e6 / network.gpu_per_second / 3600
        gpu_dollars = gpu_hours * (GPU_HOUR + GPU_CORES * CORE_HOUR)
        rows.append(
            (
                network.name,
                f"{core_hours:.1f}",
                f"${core_hours * CORE_HOUR:.2f}",
                f"{gpu_hours:.3f}",
                f"${gpu_dollars:.2f}",
            )
        )
    head = ("network", "core-hours", "cores", "GPU-hours", "GPUs")
    return table(head, rows)


def main() -> None:
    """Print the tables."""
    for text in (bytes_table(), time_table(), cost_table()):
        print(text, end="\n\n")


if __name__ == "__main__":
    main()
