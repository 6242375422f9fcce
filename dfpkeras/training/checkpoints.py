"""Checkpoints from which training resumes with the same bits.

A checkpoint is a ``.keras`` file, as ``keras.models.load_model`` reads it, with two more members:
what Keras does not save (the state of random generators in layers, and the sums of the metrics of
the running epoch), and the progress of the run.
"""

import io
import json
import zipfile

import numpy as np
import tensorflow as tf

_PROGRESS = "training_progress.json"
_STATE = "training_state.npz"


def save_checkpoint(path, model, progress):
    """Writes a checkpoint.

    Args:
        path: path that ends in ``.keras``.
        model: ``keras.Model``, compiled.
        progress: dict that JSON can hold.

    Raises:
        OSError: it cannot be written.
    """
    model.save(path)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        iterations=model.optimizer.iterations.numpy(),
        **_numbered("generator", _generators(model)),
        **_numbered("metric", _metrics(model)),
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_PROGRESS, json.dumps(progress))
        archive.writestr(_STATE, buffer.getvalue())


def find_damage(path):
    """Returns what is wrong with a checkpoint's file, by its checksums, or None."""
    if not path.is_file():
        return "it is not a file"
    try:
        with zipfile.ZipFile(path) as archive:
            missing = {_PROGRESS, _STATE} - set(archive.namelist())
            damaged = archive.testzip()
    # Damaged input leads zipfile to whatever its decoders raise.
    except Exception as error:
        return str(error) or type(error).__name__
    if damaged:
        return f"the checksum of {damaged} does not match"
    return f"it has no {min(missing)}" if missing else None


def restore_checkpoint(path, model):
    """Gives a compiled model the weights, optimizer and generators of a checkpoint.

    Args:
        path: path of a checkpoint.
        model: ``keras.Model``, compiled in the same way as the one that was saved.

    Returns:
        The ``progress`` that the checkpoint was saved with, and a list of numpy arrays, the values
        of the metrics, for ``restore_metrics``.

    Raises:
        ValueError: the checkpoint is that of another model or optimizer.
    """
    with zipfile.ZipFile(path) as archive:
        progress = json.loads(archive.read(_PROGRESS))
        state = dict(np.load(io.BytesIO(archive.read(_STATE))))
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
    _assign(_generators(model), _values(state, "generator"))
    # Keras only warns about an optimizer with other variables, and leaves it unchanged.
    if int(model.optimizer.iterations) != int(state["iterations"]):
        raise ValueError(f"{path}: the optimizer is not the one that was saved")
    return progress, _values(state, "metric")


def build_metrics(model, batch_spec):
    """Creates the variables of a model's metrics, which Keras does when it first traces a step.

    Args:
        model: ``keras.Model``, compiled.
        batch_spec: ``element_spec`` of the batches.
    """
    tf.function(model.test_step).get_concrete_function(batch_spec)


def restore_metrics(model, values):
    """Gives the metrics of a model, once they are built, the values they had in a checkpoint.

    Raises:
        ValueError: the metrics are not those that were saved.
    """
    _assign(_metrics(model), values)


def _generators(model):
    """The variables that Keras does not count among the weights."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _metrics(model):
    return [variable for metric in model.metrics for variable in metric.variables]


def _numbered(name, variables):
    return {f"{name}_{i}": variable.numpy() for i, variable in enumerate(variables)}


def _values(state, name):
    return [state[f"{name}_{i}"] for i in range(sum(key.startswith(name) for key in state))]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
