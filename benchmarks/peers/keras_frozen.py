"""Keras: frozen transfer by `fit`, after Keras' own guide to transfer learning.

`image_dataset_from_directory`, `cache`, `shuffle` and `prefetch`; the base is not trainable and is
called with ``training=False``. Its weights are those of the other contenders, layer by layer.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.contender import Answer, Epochs, Job, answer

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_EPSILON, _TORCH_EPSILON = 1e-3, 1e-5


def load_weights(base: keras.Model, path: str) -> None:
    """Put the arrays of a file into a network, in the order of its layers.

    Args:
        base: `keras.applications.MobileNetV2`.
        path: An .npz file: of each convolution its kernel [out, in, height, width], of each
            BatchNorm its scale, shift, mean and variance, numbered in their order.
    """
    stored = np.load(path)
    arrays = iter([stored[key] for key in sorted(stored.files, key=int)])
    for layer in base.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.set_weights([next(arrays).transpose(2, 3, 0, 1)])  # [h, w, channels, 1]
        elif isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([next(arrays).transpose(2, 3, 1, 0)])  # [h, w, in, out]
        elif isinstance(layer, keras.layers.BatchNormalization):
            scale, shift, mean, variance = (next(arrays) for _ in range(4))
            # Keras adds 1e-3 to the variance, torch 1e-5: the sums are to be equal.
            layer.set_weights([scale, shift, mean, variance + (_TORCH_EPSILON - _EPSILON)])
    assert next(arrays, None) is None, "the file has more arrays than the network"


def build(weights: str, classes: int) -> keras.Model:
    """Return the frozen network under a new classifier."""
    base = keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3), include_top=False, weights=None, pooling="avg"
    )
    load_weights(base, weights)
    base.trainable = False
    pixels = keras.Input((SIZE, SIZE, 3))
    scale = [1 / (255 * std) for std in STD]
    offset = [-mean / std for mean, std in zip(MEAN, STD, strict=True)]
    features = base(keras.layers.Rescaling(scale, offset)(pixels), training=False)
    return keras.Model(pixels, keras.layers.Dense(classes)(features))


class _Clock(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.epochs = Epochs()

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.epochs.start()

    def on_epoch_end(self, *_: object, **__: object) -> None:
        self.epochs.ended()


def work(job: Job) -> Answer:
    """Train the classifier, validating after each epoch."""
    # Before anything is computed: TensorFlow does not change them later.
    tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(job["threads"])
    keras.utils.set_random_seed(job["seed"])
    splits = {
        split: keras.utils.image_dataset_from_directory(
            job[split],
            image_size=(SIZE, SIZE),
            batch_size=job["batch_size"],
            label_mode="int",
            crop_to_aspect_ratio=True,
            shuffle=split == "train",
            seed=job["seed"],
            verbose=False,
        )
        for split in ("train", "val")
    }
    options = tf.data.Options()
    options.threading.private_threadpool_size = job["threads"]
    train = splits["train"].cache().shuffle(1000).prefetch(tf.data.AUTOTUNE).with_options(options)
    val = splits["val"].cache().prefetch(tf.data.AUTOTUNE).with_options(options)
    model = build(job["keras_weights"], len(splits["train"].class_names))
    model.compile(
        keras.optimizers.SGD(job["learning_rate"], momentum=job["momentum"]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    clock = _Clock()
    found = model.fit(
        train, validation_data=val, epochs=job["epochs"], verbose=0, callbacks=[clock]
    )
    return {
        "accuracies": [float(one) for one in found.history["val_accuracy"]],
        "samples": len(splits["val"].file_paths),
        "epoch_seconds": clock.epochs.seconds,
    }


if __name__ == "__main__":
    answer(work, ("keras", "tensorflow-cpu", "numpy"))
