"""Conv2D, Conv1D and Dense with "dfp16" as their default dtype policy."""

import keras

from dfpkeras.integration.policy import POLICY_NAME


class _DFP16ByDefault:
    """Gives a Keras layer the policy "dfp16" where `dtype` is not passed."""

    def __init__(self, *args, dtype=None, **kwargs):
        super().__init__(*args, dtype=POLICY_NAME if dtype is None else dtype, **kwargs)


@keras.saving.register_keras_serializable(package="dfpkeras")
class Conv2D(_DFP16ByDefault, keras.layers.Conv2D):
    """`keras.layers.Conv2D` on integer kernels.

    Takes the arguments of `keras.layers.Conv2D`; `dtype` defaults to "dfp16" instead of the
    global policy. Inputs and outputs are float32 tensors of the shapes Keras documents.

    Raises:
        RuntimeError: dfpkeras has no integer operations for Keras' backend.
    """


@keras.saving.register_keras_serializable(package="dfpkeras")
class Conv1D(_DFP16ByDefault, keras.layers.Conv1D):
    """`keras.layers.Conv1D` on integer kernels.

    Takes the arguments of `keras.layers.Conv1D`; `dtype` defaults to "dfp16" instead of the
    global policy. Inputs and outputs are float32 tensors of the shapes Keras documents.

    Raises:
        RuntimeError: dfpkeras has no integer operations for Keras' backend.
    """


@keras.saving.register_keras_serializable(package="dfpkeras")
class Dense(_DFP16ByDefault, keras.layers.Dense):
    """`keras.layers.Dense` on integer kernels.

    Takes the arguments of `keras.layers.Dense`; `dtype` defaults to "dfp16" instead of the
    global policy. Inputs and outputs are float32 tensors of the shapes Keras documents.

    Raises:
        RuntimeError: dfpkeras has no integer operations for Keras' backend.
    """
