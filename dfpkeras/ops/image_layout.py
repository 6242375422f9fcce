"""Sequences, images and volumes in any data format, as the channels-last images or volumes that
kernels take."""

from dfpkeras.backend import current


def channels_last(x, data_format):
    """Returns volumes (N, D, H, W, C), images (N, H, W, C) or sequences, as images (N, 1, L, C), in
    any data format."""
    backend, rank = current(), len(x.shape)
    if data_format == "channels_first":
        x = backend.transpose(x, [0, *range(2, rank), 1])
    return backend.expand_dims(x, 1) if rank == 3 else x


def restored(images, shape, data_format):
    """Undoes `channels_last`: returns the original rank and format; `shape` is as far as known."""
    backend, rank = current(), len(shape)
    images = backend.with_shape(images, [None] * max(rank, 4))
    if rank == 3:
        images = backend.squeeze(images, 1)
    if data_format == "channels_first":
        images = backend.transpose(images, [0, rank - 1, *range(1, rank - 1)])
    return backend.with_shape(images, shape)
