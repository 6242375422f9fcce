"""Hyper-parameters of a training run."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything a run's result depends on; a run directory's config.json holds it.

    Attributes:
        policies: dtype policies to train under, one after the other.
        model: name, see ``dfpkeras.models.build_model``.
        data: directory with TFRecords, or None for the embedded digits.
        classes: number of classes in ``data``.
        image_size: side of the images.
        epochs, batch_size, seed: as everywhere.
        learning_rate: the highest; it rises linearly from 0 during the first ``warmup`` (a
            fraction of all steps) and then falls to 0 along a cosine.
        optimizer, momentum: SGD with Nesterov's momentum; recorded, not chosen.
    """

    policies: tuple[str, ...] = ("dfp16",)
    model: str = "resnet-small"
    data: str | None = None
    classes: int = 10
    image_size: int = 28
    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 0.1
    seed: int = 0
    optimizer: str = "sgd"
    momentum: float = 0.9
    warmup: float = 0.1

    def as_dict(self):
        """Returns the fields as a dict that JSON can hold."""
        return dataclasses.asdict(self) | {"policies": list(self.policies)}

    @classmethod
    def from_dict(cls, fields):
        """The inverse of ``as_dict``; raises a TypeError if the fields are not the right ones."""
        return cls(**(fields | {"policies": tuple(fields["policies"])}))
