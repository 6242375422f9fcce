"""The dtype policy "dfp16": float32 variables, integer products.

``register()`` (called by ``import dfpkeras``) teaches Keras the name, so that
``keras.config.set_dtype_policy("dfp16")`` and ``dtype="dfp16"`` work everywhere a dtype policy
does. A layer of this policy holds float32 variables, takes and returns float32 tensors, and
computes its products from INT16 operands with one shared exponent per tensor.
"""

import functools

import keras
from keras.src.dtype_policies.dtype_policy import DTypePolicy, FloatDTypePolicy
from keras.src.dtype_policies.dtype_policy_map import DTypePolicyMap

POLICY_NAME = "dfp16"


@keras.saving.register_keras_serializable(package="dfpkeras")
class DFP16Policy(DTypePolicy):
    """Dtype policy of layers that compute on INT16 dynamic fixed point.

    Compute and variable dtype are float32: weights are interchangeable with those of a float32
    model, and a layer without an integer path computes what it computes under "float32".

    Args:
        name: "dfp16". ``None`` is accepted because ``DTypePolicyMap.get_config`` writes it.

    Raises:
        ValueError: `name` is anything else.
        RuntimeError: the Keras backend is not TensorFlow.
    """

    def __init__(self, name=POLICY_NAME):
        if name not in (POLICY_NAME, None):
            raise ValueError(
                f"Argument `name` of DFP16Policy must be {POLICY_NAME!r}. Received: name={name!r}"
            )
        super().__init__(POLICY_NAME)

    @property
    def name(self):
        # Not `_name`: `DTypePolicyMap.get_config` overwrites that with None.
        return POLICY_NAME

    def get_config(self):
        """What Keras makes of a saved layer where dfpkeras was not imported: see `__name__`."""
        return {"name": "float32"}

    @classmethod
    def from_config(cls, config):
        return cls()

    def __eq__(self, other):
        return type(other) is type(self)

    def __repr__(self):
        return f'<DFP16Policy "{POLICY_NAME}">'


# What a saved model calls the class of its policies. Keras finds this one by the name under which
# it is registered, and where it is not, its own class by this name: models load as float32 then.
DFP16Policy.__name__ = DTypePolicy.__name__


def policy_of(layer):
    """Returns the `keras.DTypePolicy` that holds for one Keras layer."""
    policy = layer.dtype_policy
    if isinstance(policy, DTypePolicyMap):
        policy = policy[layer.path] if layer.path else policy.default_policy
    return policy


def require_supported_backend():
    """Raises RuntimeError unless Keras runs on a backend with integer operations."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"The dtype policy {POLICY_NAME!r} needs Keras' TensorFlow backend so far. Received: "
            f"backend={backend!r}. Set KERAS_BACKEND=tensorflow before importing keras. "
            "`dfpkeras.quantize` and `dfpkeras.kernels` work on any backend."
        )


def register():
    """Makes Keras resolve the policy name "dfp16". Calling it again changes nothing."""
    if getattr(DTypePolicy._parse_name, "_dfpkeras", False):
        return
    _wrap_parse_name()
    _wrap_init()


def _wrap_parse_name():
    original = DTypePolicy._parse_name

    @functools.wraps(original)
    def _parse_name(self, name):
        if name == POLICY_NAME:
            require_supported_backend()
            return "float32", "float32"
        return original(self, name)

    _parse_name._dfpkeras = True
    DTypePolicy._parse_name = _parse_name


def _wrap_init():
    original = DTypePolicy.__init__

    @functools.wraps(original)
    def init(self, name=None):
        original(self, name)
        # Keras builds policies as `DTypePolicy(name)`, or without a name for "the global one".
        # The class is switched here rather than in `__new__`, which unpickling and copying call
        # without arguments.
        if type(self) in (DTypePolicy, FloatDTypePolicy) and self._name == POLICY_NAME:
            self.__class__ = DFP16Policy

    DTypePolicy.__init__ = init
