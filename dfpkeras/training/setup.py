"""From a configuration to a compiled model."""

import keras

from dfpkeras.models import build_model
from dfpkeras.training.loss import SmoothedCrossEntropy
from dfpkeras.training.optimizer import SGD
from dfpkeras.training.schedule import make_schedule

LOGITS = "logits"


def compile_model(config, data):
    """Builds and compiles the model of a run under the current policy.

    Args:
        config: ``dfpkeras.cli.config.TrainConfig``.
        data: ``dfpkeras.data.dataset.ImageData``.

    Returns:
        A compiled ``keras.Model`` with the metrics ``accuracy`` and, for more than five classes,
        ``top_5_accuracy``; Keras puts ``logits_`` before these names if the model has auxiliary
        heads. Pass labels through ``labels_for_every_output``.

    Raises:
        ValueError: there is no such model, it cannot take images of that size, or the number of its
            auxiliary heads differs from the number of weights for their losses.
    """
    options = {"auxiliary_heads": True} if config.auxiliary_weights else {}
    model = build_model(config.model, data.image_shape, data.num_classes, **options)
    outputs = _output_names(model)
    weights = (1.0, *config.auxiliary_weights)
    if len(outputs) != len(weights):
        raise ValueError(
            f"auxiliary_weights: got {len(weights) - 1} for the {len(outputs) - 1} auxiliary heads "
            f"of {config.model}"
        )
    metrics = make_metrics(data.num_classes)
    if len(outputs) == 1:
        model.compile(make_optimizer(config, data), make_loss(config), metrics=metrics)
    else:
        model.compile(
            make_optimizer(config, data),
            loss={name: make_loss(config) for name in outputs},
            loss_weights=dict(zip(outputs, weights, strict=True)),
            metrics={LOGITS: metrics},
        )
    return model


def make_optimizer(config, data):
    """Returns the optimizer of a run, learning-rate schedule included."""
    return SGD(
        make_schedule(config, steps_per_epoch(config, data)),
        momentum=config.momentum,
        nesterov=config.nesterov,
        l2=config.weight_decay,
        exempt=config.weight_decay_exempt,
    )


def make_loss(config):
    """Returns the cross-entropy of logits with integer labels, smoothed if so configured."""
    if config.label_smoothing:
        return SmoothedCrossEntropy(config.label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def make_metrics(num_classes):
    """Returns the metrics for top-1 and, with more than five classes, top-5 accuracy."""
    top_5 = [keras.metrics.SparseTopKCategoricalAccuracy(5, name="top_5_accuracy")]
    return [
        keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        *(top_5 if num_classes > 5 else []),
    ]


def steps_per_epoch(config, data):
    """Returns the number of batches in an epoch, of which the last may be smaller."""
    all_images = -(-data.num_train // config.batch_size)
    return min(config.steps_per_epoch or all_images, all_images)


def labels_for_every_output(model, batches):
    """Gives each output of a model with auxiliary heads its labels.

    Args:
        model: what ``compile_model`` returned, or a checkpoint of it.
        batches: ``tf.data.Dataset`` of images and labels.

    Returns:
        A ``tf.data.Dataset``; ``batches`` itself for a model with one output.
    """
    outputs = _output_names(model)
    if len(outputs) == 1:
        return batches
    return batches.map(lambda images, labels: (images, dict.fromkeys(outputs, labels)))


def metric_name(name):
    """Returns a metric's name in a run's history, where only the logits have metrics.

    Args:
        name: what Keras calls it, such as ``"val_logits_accuracy"`` of a model with auxiliary
            heads, or ``"val_accuracy"`` of another.
    """
    return name if name.endswith("_loss") else name.replace(f"{LOGITS}_", "")


def _output_names(model):
    """The logits' name first, then those of the auxiliary heads."""
    # A sequential or subclassed model may have no `output`; it has no dict either.
    output = getattr(model, "output", None)
    names = output.keys() if isinstance(output, dict) else {LOGITS}
    return [LOGITS, *sorted(set(names) - {LOGITS})]
