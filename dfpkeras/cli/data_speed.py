"""``dfpkeras data speed``: the cost of reading and preparing images, next to the training step."""

import time

import keras
from rich.table import Table

from dfpkeras.cli.configure import configure
from dfpkeras.cli.errors import CommandError
from dfpkeras.cli.requirements import require_packages
from dfpkeras.cli.summary import format_speed
from dfpkeras.console import make_console
from dfpkeras.recipes import DEFAULT

_WARM_UP_BATCHES = 2


def run_speed(directory, model, seconds, options):
    """Times the training images of a directory as a recipe prepares them, and prints images/s.

    Args:
        directory: as for ``ImageRecords``.
        model: model whose recipe to use, and whose training step under dfp16 to time as well; None
            for the default recipe and no step.
        seconds: how long each is timed, after two untimed batches.
        options: further fields of ``TrainConfig`` as a dict, such as ``batch_size``.

    Raises:
        CommandError: an error that the user can correct.
    """
    require_packages("tensorflow", "pandas")
    options = options | {"data": directory} | ({"model": model} if model else {"recipe": DEFAULT})
    try:
        config = configure(options)
        from dfpkeras.data.tfrecords import ImageRecords

        data = ImageRecords(directory, config.image_size, config.classes, config.preparation())
        speeds = {"images read and prepared": _time_batches(config, data, seconds)}
        if model:
            speeds[f"training step of {model}, dfp16"] = _time_steps(config, data, seconds)
    except ValueError as error:
        raise CommandError(str(error)) from error
    _print_speeds(config, list(speeds.items()))


def _time_batches(config, data, seconds):
    """Returns images/s of the training batches, over as many epochs as it takes."""
    batches = iter(data.train_batches(config.batch_size, config.seed, 0, 2**31))
    return _images_per_second(lambda: len(next(batches)[1]), seconds)


def _time_steps(config, data, seconds):
    """Returns images/s of the training step on one batch that is there already."""
    from dfpkeras.training import compile_model, labels_for_every_output

    previous_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("dfp16")
    try:
        model = compile_model(config, data)
    finally:
        keras.config.set_dtype_policy(previous_policy)
    batches = data.train_batches(config.batch_size, config.seed, 0, 1)
    images, labels = next(iter(labels_for_every_output(model, batches)))

    def step():
        model.train_on_batch(images, labels)
        return len(images)

    return _images_per_second(step, seconds)


def _images_per_second(work, seconds):
    for _ in range(_WARM_UP_BATCHES):
        work()
    begin, images = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begin) < seconds:
        images += work()
    return images / elapsed


def _print_speeds(config, speeds):
    title = f"{config.image_size}x{config.image_size} pixels, batches of {config.batch_size}"
    table = Table(title=title)
    table.add_column("")
    table.add_column("images/s", justify="right")
    for name, speed in speeds:
        table.add_row(name, format_speed(speed))
    make_console().print(table)
    if len(speeds) == 2:
        ratio = speeds[0][1] / speeds[1][1]
        print(f"Alone, images are prepared {ratio:.1f} times as fast as the step consumes them.")
