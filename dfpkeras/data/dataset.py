"""What the command line needs to know of a data set, whatever it is read from."""


class DataError(ValueError):
    """The data cannot be used: the message names the file and the record."""


class ImageData:
    """Labelled images, split into a training and a validation part.

    Attributes:
        image_shape: ``(height, width, channels)`` of what the batches hold.
        num_classes: labels are integers ``0 .. num_classes - 1``.
        num_train, num_validation: the number of images in each part.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    num_train: int
    num_validation: int

    def train_batches(
        self,
        batch_size,
        seed,
        initial_epoch,
        epochs,
        normalize=True,
        steps_per_epoch=None,
        initial_batch=0,
    ):
        """Returns a ``tf.data.Dataset`` that yields the epochs ``initial_epoch .. epochs - 1``.

        Every epoch holds every training image once, in ``ceil(num_train / batch_size)`` batches,
        of which the last may be smaller. Order and augmentation of an epoch depend only on ``seed``
        and the number of the epoch, so a run that is resumed at some batch of some epoch sees what
        an uninterrupted run would have seen.

        Args:
            batch_size: images in a batch.
            seed: int.
            initial_epoch, epochs: the half-open range of epochs, counted from 0.
            normalize: yield pixels scaled to about zero mean and unit variance; otherwise the
                values 0..255, for models that scale their own input.
            steps_per_epoch: end each epoch after this many batches; None for all of them.
            initial_batch: number of batches of the first epoch to leave out. Their images are not
                decoded.

        Returns:
            A dataset of ``(images, labels)``: float32 ``(batch,) + image_shape`` and int64
            ``(batch,)``.
        """
        raise NotImplementedError

    def validation_batches(self, batch_size, normalize=True):
        """Returns a ``tf.data.Dataset`` of the validation images, once, in a fixed order."""
        raise NotImplementedError

    def raise_for_bad_record(self, split, epoch, batch, batch_size, seed):
        """Raises a ``DataError`` if a record of the given batch cannot be read.

        TensorFlow's own errors name neither the file nor the record. To be called after reading a
        batch failed; returns if its records are good.

        Args:
            split: ``"train"`` or ``"validation"``.
            epoch, batch: position of the batch, counted from 0.
            batch_size, seed: what the batches were made with.
        """

    def describe(self):
        """Returns what identifies the data, whatever their location, as a dict that JSON can
        hold."""
        raise NotImplementedError
