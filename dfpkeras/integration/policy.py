"""The dtype policy "dfp16": float32 variables, integer products.

``import dfpkeras`` registers the name with Keras, so that
``keras.config.set_dtype_policy("dfp16")`` and ``dtype="dfp16"`` work everywhere a dtype policy
does. A layer of this policy holds float32 variables, takes and returns float32 tensors, and
computes its products from INT16 operands with one shared exponent per tensor.
"""

import dataclasses
import re

import keras

from dfpkeras import backend
from dfpkeras.integration.keras_internals import DTypePolicy, DTypePolicyMap, FloatDTypePolicy
from dfpkeras.integration.routing import Routing
from dfpkeras.kernels.number_format import NumberFormat

POLICY_NAME = "dfp16"

# "dfp16", or "dfp16(weight_bits=9, rounding=stochastic)".
_NAME = re.compile(rf"{POLICY_NAME}(?:\((.*)\))?")
_WORDS = {"True": True, "False": False}


@keras.saving.register_keras_serializable(package="dfpkeras")
class DFP16Policy(DTypePolicy):
    """Dtype policy of layers that compute on INT16 dynamic fixed point.

    Compute and variable dtype are float32: weights are interchangeable with those of a float32
    model, and a layer without an integer path computes what it computes under "float32".

    Usable as ``dtype=`` of a layer, in a `keras.dtype_policies.DTypePolicyMap` and as the global
    policy. The number format is saved and copied with the model; ``"dfp16"`` means the default
    format, and the `name` of any other policy, such as ``"dfp16(weight_bits=9)"``, its format.

    Args:
        name: "dfp16". ``None`` is accepted because ``DTypePolicyMap.get_config`` writes it.
        activation_bits, weight_bits, gradient_bits, rounding, flush_every, algorithm: see
            `dfpkeras.kernels.number_format.NumberFormat`.
        strict: whether a layer that computes in float32 is an error, which says why it does: see
            `dfpkeras.integration.strict`. A layer that is meant to do so gets ``dtype="float32"``.
        small_layers: what layers that are too small to gain compute in, "float32" or "int16": see
            `dfpkeras.integration.small_layers`.

    Attributes:
        number_format: `NumberFormat`.
        routing: `Routing`.

    Raises:
        TypeError: a number is not an integer, or `strict` not a bool.
        ValueError: `name` or `small_layers` is anything else, or the number format is not possible.
        RuntimeError: dfpkeras has no integer operations for Keras' backend.
    """

    # Policies that Keras creates by name have no other.
    number_format = NumberFormat()
    routing = Routing()
    # Keras asks before it calls `build_from_config`.
    built = False

    def __init__(
        self,
        name=POLICY_NAME,
        *,
        activation_bits=None,
        weight_bits=None,
        gradient_bits=None,
        rounding="nearest",
        flush_every=None,
        algorithm="auto",
        strict=False,
        small_layers="float32",
    ):
        if name not in (POLICY_NAME, None):
            raise ValueError(
                f"Argument `name` of DFP16Policy must be {POLICY_NAME!r}. Received: name={name!r}"
            )
        super().__init__(POLICY_NAME)
        self.number_format = NumberFormat(
            activation_bits, weight_bits, gradient_bits, rounding, flush_every, algorithm
        )
        self.routing = Routing(strict, small_layers)

    @property
    def name(self):
        """The name from which Keras recreates the policy, for example for a cloned layer."""
        # Not `_name`: `DTypePolicyMap.get_config` overwrites that with None.
        changed = self._changed_arguments()
        arguments = ", ".join(f"{name}={value}" for name, value in changed.items())
        return f"{POLICY_NAME}({arguments})" if changed else POLICY_NAME

    def get_config(self):
        """The config of Keras' own class, used where dfpkeras is not imported: see `__name__`."""
        return {"name": "float32"}

    @classmethod
    def from_config(cls, config):
        return cls()

    def get_build_config(self):
        """The arguments, which Keras saves next to the config and ignores where dfpkeras is not
        imported."""
        return self._arguments() if self._changed_arguments() else None

    def build_from_config(self, config):
        self.number_format, self.routing = _parts(config)

    def __eq__(self, other):
        return type(other) is type(self) and other._arguments() == self._arguments()

    def __hash__(self):
        return hash((type(self), self.number_format, self.routing))

    def __repr__(self):
        return f'<DFP16Policy "{self.name}">'

    def _arguments(self):
        """What the constructor takes by keyword."""
        return dataclasses.asdict(self.number_format) | dataclasses.asdict(self.routing)

    def _changed_arguments(self):
        """Those that differ from the default."""
        arguments = self._arguments()
        return {name: value for name, value in arguments.items() if value != _DEFAULTS[name]}


_ROUTING = [field.name for field in dataclasses.fields(Routing)]
_DEFAULTS = dataclasses.asdict(NumberFormat()) | dataclasses.asdict(Routing())


def _parts(arguments):
    """The `NumberFormat` and the `Routing` of some of the constructor's arguments."""
    routing = {name: value for name, value in arguments.items() if name in _ROUTING}
    others = {name: value for name, value in arguments.items() if name not in _ROUTING}
    return NumberFormat(**others), Routing(**routing)


# The class name of policies in saved models. Keras finds this class by the name under which it is
# registered, and if it is not, Keras' own class by this name: models then load as float32.
DFP16Policy.__name__ = DTypePolicy.__name__


def policy_of(layer):
    """Returns the `keras.DTypePolicy` that holds for one Keras layer."""
    policy = layer.dtype_policy
    if isinstance(policy, DTypePolicyMap):
        policy = policy[layer.path] if layer.path else policy.default_policy
    return policy


def number_format_of(layer):
    """Returns the `NumberFormat` of one Keras layer; None under any other policy, and of an
    operation, which has none."""
    policy = policy_of(layer) if isinstance(layer, keras.Layer) else None
    return policy.number_format if isinstance(policy, DFP16Policy) else None


def routing_of(layer):
    """Returns the `Routing` of one Keras layer, None under any other policy."""
    policy = policy_of(layer)
    return policy.routing if isinstance(policy, DFP16Policy) else None


def parse_name(original, policy, name):
    """Wrapper of Keras' function that returns compute and variable dtype for a policy's name."""
    if not is_policy_name(name):
        return original(policy, name)
    _require_supported_backend()
    return "float32", "float32"


def after_init(policy, name=None):
    """Keras builds policies as ``DTypePolicy(name)``, or without a name for "the global one".

    The class is switched here rather than in ``__new__``, which unpickling and copying call without
    arguments.
    """
    if type(policy) not in (DTypePolicy, FloatDTypePolicy):
        return
    arguments = _arguments_named(policy._name)
    if arguments is not None:
        policy.__class__ = DFP16Policy
        policy.number_format, policy.routing = _parts(arguments)


def is_policy_name(name):
    """Whether a policy's name is "dfp16", or that with arguments.

    Raises:
        TypeError, ValueError: it is, but an argument is invalid.
    """
    arguments = _arguments_named(name)
    if arguments is None:
        return False
    _parts(arguments)
    return True


def _arguments_named(name):
    """The arguments in a policy's name, None if it is not a "dfp16" name."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    arguments = {}
    for part in filter(None, (match[1] or "").split(",")):
        key, _, value = (word.strip() for word in part.partition("="))
        if key not in _DEFAULTS:
            raise ValueError(
                f"dtype policy {name!r}: expected one of {', '.join(_DEFAULTS)}, got {key!r}"
            )
        arguments[key] = _WORDS.get(value, int(value) if value.isdecimal() else value)
    return arguments


def _require_supported_backend():
    found, names = keras.backend.backend(), backend.names()
    if found not in names:
        raise RuntimeError(
            f"The dtype policy {POLICY_NAME!r} has no integer operations for this backend of "
            f"Keras. Received: backend={found!r}. Set KERAS_BACKEND={' or '.join(names)} before "
            "importing keras. `dfpkeras.quantize` and `dfpkeras.kernels` work on any backend."
        )
