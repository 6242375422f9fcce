"""What the backend changes in TensorFlow for all Python callbacks of a process."""

import numpy as np
import pytest
import tensorflow as tf

VALUES = {
    "array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "transposed": np.arange(6, dtype=np.float32).reshape(3, 2).T,
    "strided": np.arange(12, dtype=np.int16)[::2],
    "number": np.float64(1.5),
    "bytes": np.array([b"a", b"bc\x00"], object),
    "text": np.array(["a", "bc"]),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
}


@pytest.mark.parametrize("name", VALUES)
def test_other_callbacks_return_what_they_always_did(name):
    value = VALUES[name]
    dtype = tf.string if name in ("bytes", "text") else tf.as_dtype(np.asarray(value).dtype)

    @tf.function
    def call():
        return tf.numpy_function(lambda: value, [], dtype)

    expected = np.char.encode(value).astype(object) if name == "text" else np.asarray(value)
    np.testing.assert_array_equal(call().numpy(), expected)
