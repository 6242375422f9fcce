"""The interface of a backend: everything the differentiable operations need from a framework.

A tensor is whatever the framework calls one. Where it traces graphs, a tensor may be symbolic, and
a dimension may be None.
"""

import abc
import typing


class Backend(abc.ABC):
    """A framework as the differentiable operations see it.

    Attributes:
        int16, int32, float32: the framework's types.
        float32_operations: namespace of operations on the framework's own float32 tensors, which
            are used where kernels cannot run (`refusal`): the functions of
            `dfpkeras.backend.tensorflow.float32_operations`.
        overwrites_variables: whether an update may write to a variable's memory while arrays that
            alias it are kept. False promises that memory which is referred to keeps its numbers;
            quantised weights are then kept from one inference to the next.
    """

    int16: typing.Any
    int32: typing.Any
    float32: typing.Any
    float32_operations: typing.Any
    overwrites_variables: bool

    # Calling kernels

    @abc.abstractmethod
    def call(self, function, operands, dtypes):
        """Runs `function` on NumPy views of tensors, now or when the graph runs.

        Results that nobody needs are not computed where the backend `is_lazy`, and independent
        calls may run at once. The arrays are C-contiguous and may alias variables: `function` must
        not write to them. It computes in the default floating-point environment
        (`_native.call_in_default_float_environment`), and may be kept forever: it must not
        refer to large objects. It runs on behalf of the present owner, of which observers are told
        (`dfpkeras.runtime.kernel_observers`).

        Args:
            function: function of arrays that returns a list of arrays.
            operands: dict of tensors, which become arguments of these names; or list of tensors,
                for arguments by position.
            dtypes: types of the results.

        Returns:
            List of tensors, without a known shape.
        """

    # Gradients

    @abc.abstractmethod
    def differentiable(self, values, inputs, gradient, float32_values=None):
        """Gives `values` a gradient with respect to `inputs`.

        Args:
            values: float32 tensor, or list of them.
            inputs: list of float32 tensors, not all of which need a gradient.
            gradient: function of the upstream gradients of all values; it returns the list of the
                gradients of all inputs, or a single one. It calls `differentiable` again: what it
                returns has gradients, too, if somebody asks for those of higher order. Its kernels
                run on behalf of the present owner (`on_behalf_of_owner`).
            float32_values: function of tensors like `inputs` that computes the values by the
                framework's own operations. Its gradient is taken where kernels cannot run
                (`refusal`). None if `gradient` runs no kernel.

        Returns:
            `values`, as new tensors.
        """

    @abc.abstractmethod
    def float32_gradient(self, function, inputs, upstream):
        """The gradients of a function of tensors, computed by the framework.

        Args:
            function: function of as many tensors as there are `inputs` that returns a tensor or a
                list of them.
            inputs: list of float32 tensors.
            upstream: list of float32 tensors, gradients of what `function` returns.

        Returns:
            List of float32 tensors, one for each input.
        """

    @abc.abstractmethod
    def summands(self, x):
        """The tensors that the framework added up to `x`, a gradient of several consumers, if the
        sum is not computed unless somebody reads it; otherwise None."""

    @abc.abstractmethod
    def is_lazy(self):
        """Whether values that nobody reads are never computed: while a graph is traced."""

    # What is known about a tensor

    @abc.abstractmethod
    def attach(self, x, name, value):
        """Attaches `value` to tensor `x` under a name, for as long as `x` exists."""

    @abc.abstractmethod
    def attached(self, x, name):
        """The value that is attached to `x`, which may be anything that a layer is called with,
        under a name; None if there is none, or `x` was changed in place since."""

    @abc.abstractmethod
    def is_in_scope(self, x):
        """Whether `x` can be used in what is computed or traced now."""

    @abc.abstractmethod
    def in_scope(self, x):
        """Returns `x`, any tensor-like, as a tensor that is in scope.

        Of a variable a new one each time: what is attached to it must not outlive the variable's
        next update.
        """

    # When kernels cannot run

    @abc.abstractmethod
    def unsupported(self, x):
        """Says why `x` (any tensor-like) cannot go to the integer kernels, or returns None."""

    @abc.abstractmethod
    def refusal(self):
        """Says why the kernels cannot be part of what is computed or traced now, or returns
        None."""

    @abc.abstractmethod
    def wants_float32(self):
        """Whether what is computed or traced now must not hold kernels: because the user asked for
        that (`dfpkeras.backend.float32_only.is_float32_only`), or because Keras needs shapes alone
        and calls layers with tensors that hold no numbers."""

    @abc.abstractmethod
    def is_in_loop(self):
        """Whether the body of a loop is being traced."""

    @abc.abstractmethod
    def as_written(self, function, *args, **kwargs):
        """Calls `function`, which the framework must not rewrite or trace into."""

    @abc.abstractmethod
    def install(self):
        """Wraps what has no public hook in the framework; calling it again changes nothing."""

    @abc.abstractmethod
    def uninstall(self):
        """Undoes `install`."""

    # Tensors of any type

    @abc.abstractmethod
    def as_tensor(self, x):
        """Any tensor-like, gradients in a sparse form included, as a dense tensor."""

    @abc.abstractmethod
    def with_shape(self, x, shape):
        """Returns `x`, whose shape is known to be this; None stands for unknown sizes. An eager
        tensor has it already."""

    @abc.abstractmethod
    def sizes(self, x):
        """The shape as an int32 tensor of rank 1, an operand of kernels."""

    @abc.abstractmethod
    def reshape(self, x, shape):
        """`shape` is a sequence of ints and scalar tensors, one of them may be -1; or `sizes`."""

    @abc.abstractmethod
    def transpose(self, x, axes):
        """`axes` is a permutation."""

    @abc.abstractmethod
    def expand_dims(self, x, axis):
        """Inserts a dimension of size 1."""

    @abc.abstractmethod
    def squeeze(self, x, axis):
        """Removes a dimension of size 1."""

    @abc.abstractmethod
    def stack(self, scalars):
        """A tensor of rank 1 from scalar tensors."""

    @abc.abstractmethod
    def select(self, condition, when_true, when_false):
        """The tuple of tensors that one of two functions without arguments returns."""

    @abc.abstractmethod
    def zeros(self, shape):
        """float32; `shape` as in `reshape`."""

    @abc.abstractmethod
    def broadcast_to(self, x, shape):
        """`shape` as in `reshape`."""
