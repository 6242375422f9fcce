"""Learning rates over time."""

import keras
from keras.optimizers import schedules


@keras.saving.register_keras_serializable(package="dfpkeras")
class LinearWarmUp(schedules.LearningRateSchedule):
    """Raises the learning rate of another schedule linearly from 0 during its first steps.

    "Gradual warm-up" of Goyal et al. 2017, section 2.2, beginning at 0: step ``n`` of the first
    ``steps`` (counted from 0) has ``n / steps`` of what the schedule says.

    Args:
        schedule: a ``keras.optimizers.schedules.LearningRateSchedule`` over all steps, warm-up
            included.
        steps: int, at least 1.

    Raises:
        ValueError: ``steps`` is less than 1.
    """

    def __init__(self, schedule, steps):
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step):
        done = keras.ops.cast(step, "float32") / self.steps
        return self.schedule(step) * keras.ops.minimum(done, 1.0)

    def get_config(self):
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "steps": self.steps}

    @classmethod
    def from_config(cls, config):
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["steps"])


def make_schedule(config, steps_per_epoch):
    """Returns the schedule of a run.

    Args:
        config: ``dfpkeras.cli.config.TrainConfig``.
        steps_per_epoch: int.

    Returns:
        A ``LearningRateSchedule`` from the number of steps done to the learning rate of the next.
    """
    peak = config.learning_rate * config.batch_size / config.base_batch_size
    # A product like 0.1 * 30 may be just below the intended integer.
    warmup_steps = int(config.warmup_epochs * steps_per_epoch + 1e-6)
    if config.schedule == "cosine":
        return _cosine(peak, config.epochs * steps_per_epoch, warmup_steps)
    make = {"steps": _steps, "exponential": _exponential}[config.schedule]
    schedule = make(peak, config, steps_per_epoch)
    return LinearWarmUp(schedule, warmup_steps) if warmup_steps else schedule


def _cosine(peak, steps, warmup_steps):
    """Rises to the peak and then falls to 0 at the last step."""
    if not warmup_steps:
        return schedules.CosineDecay(peak, decay_steps=steps)
    return schedules.CosineDecay(
        0.0,
        decay_steps=max(steps - warmup_steps, 1),
        warmup_target=peak,
        warmup_steps=warmup_steps,
    )


def _steps(peak, config, steps_per_epoch):
    if not config.decay_epochs:
        return schedules.ExponentialDecay(peak, decay_steps=1, decay_rate=1.0)
    # Keras keeps a value up to and including the boundary.
    boundaries = [round(epoch * steps_per_epoch) - 1 for epoch in sorted(config.decay_epochs)]
    values = [peak * config.decay_factor**i for i in range(len(boundaries) + 1)]
    return schedules.PiecewiseConstantDecay(boundaries, values)


def _exponential(peak, config, steps_per_epoch):
    return schedules.ExponentialDecay(
        peak,
        decay_steps=max(round(config.decay_every_epochs * steps_per_epoch), 1),
        decay_rate=config.decay_factor,
        staircase=True,
    )
