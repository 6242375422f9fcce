"""The layers that compute on integers: one declaration for each family.

A module of `dfpkeras.integration.layers` declares a family and registers it; calls, `report`, the
profile of a step, the plugin that runs Keras' own tests, and the table in the documentation read
the declaration.
"""

import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class IntegerMethod:
    """A method of Keras that is wrapped.

    Attributes:
        cls: class of layers, or of Keras' operations.
        name: name of the method.
        compute: function that runs instead, of the layer and the method's arguments; it returns
            NotImplemented if it cannot. The operations of `dfpkeras.ops` that it calls get the
            number format of the layer.
        inputs: names of the method's first parameters, which are the tensors that it is given.
        applies: function of a layer; where it is False, the method is Keras' own.
    """

    cls: type
    name: str
    compute: typing.Callable
    inputs: tuple = ("inputs",)
    applies: typing.Callable = lambda layer: True


@dataclasses.dataclass(frozen=True)
class LayerFamily:
    """Layers that compute in the same way.

    Attributes:
        kind: what a step's profile counts them as, such as "convolution".
        methods: tuple of `IntegerMethod`.
        has_weights: whether they multiply by weights, or their inputs by each other, whatever those
            are. Without weights, they pass on the integers that they are given.
        operation: function of a layer, what it computes on integers, such as "2-D convolution"; or
            None if it does not.
        algorithms: function of a layer and a batch size, {direction: name of the algorithm} of its
            kernels, or None if there is no choice or too little is known.
        multiply_adds: function of a layer, or one of the relatives, and its
            `dfpkeras.integration.layer_sizes.Shapes`, or None, how many multiply-adds the products
            of its forward pass take, by their definition; None if that is unknown.
        least_multiply_adds: those of a call from which products gain from integers, by measurement
            (benchmarks/results/small_layers_avx512vnni.md).
        relatives: classes of layers of the same kind that stay float32.
        kernels: prefixes of the names under which `KernelHits` counts their kernels.
        float32_operations: substrings of the types of TensorFlow's operations that identify this
            kind by themselves.
        layers, computation: what the documentation's table says, in Markdown.
    """

    kind: str
    methods: tuple
    has_weights: bool
    layers: str
    computation: str
    operation: typing.Callable = lambda layer: "integers in, integers out"
    algorithms: typing.Callable = lambda layer, batch_size: None
    multiply_adds: typing.Callable = lambda layer, shapes: 0
    least_multiply_adds: int = 4_000_000
    relatives: tuple = ()
    kernels: tuple = ()
    float32_operations: tuple = ()

    @property
    def classes(self):
        """Tuple of the distinct classes whose methods are wrapped."""
        return tuple(dict.fromkeys(method.cls for method in self.methods))


_families: list[LayerFamily] = []


def register(family):
    """Adds a `LayerFamily`; it takes effect with the next `dfpkeras.integration.install`."""
    _families.append(family)


def unregister(family):
    """Removes a family; its methods stay wrapped until `dfpkeras.uninstall`."""
    _families.remove(family)


def families():
    """Returns the list of all families, in the order of the documentation."""
    return sorted(_families, key=lambda family: (not family.has_weights, family.kind))


def family_of(layer):
    """Returns the `LayerFamily` of a Keras layer, None if it has none."""
    return next((f for f in _families if isinstance(layer, f.classes)), None)


def family_or_relatives(layer):
    """Returns the `LayerFamily` of a Keras layer, or one that it is a relative of; None if it has
    none."""
    relatives = (f for f in _families if isinstance(layer, f.relatives))
    return family_of(layer) or next(relatives, None)


def kind_of(layer):
    """Returns the kind of a layer, whether on integers or not; None if it has none."""
    family = family_or_relatives(layer)
    return family and family.kind


def kinds():
    """Returns the kinds of all families, without repetition."""
    return list(dict.fromkeys(family.kind for family in families()))
