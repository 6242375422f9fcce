"""A step as plain PyTorch runs it: no Keras in between."""

import torch

from dfpkeras.benchmark.step.keras_step import LEARNING_RATE, MOMENTUM, batch_for


class TorchStep:
    """Forward pass, backward pass and update of a module, or its forward pass alone.

    Args:
        case: `Case`.
        model: the `keras.Model` that `module` was translated from.
        module: `torch.nn.Module` that takes and returns what `model` does, images channels_last.
        autocast: name of the dtype of `torch.autocast`, or None without.
        compiles: whether the module goes through `torch.compile`.
    """

    def __init__(self, case, model, module, autocast=None, compiles=False):
        details = [f"{autocast} autocast"] * bool(autocast) + ["compiled"] * compiles
        self.implementation = ", ".join(["plain PyTorch, channels_last", *details])
        self._autocast = torch.autocast(
            "cpu", getattr(torch, autocast or "bfloat16"), bool(autocast)
        )
        inputs, targets = batch_for(case, model)
        self._inputs = [torch.from_numpy(value) for value in inputs]
        self._targets = [torch.from_numpy(value) for value in targets]
        self._batch_size = case.batch_size
        self._module = module.train(not case.inference)
        if compiles:
            self._module = torch.compile(self._module)
        self._loss = torch.nn.CrossEntropyLoss() if case.network else torch.nn.MSELoss()
        self._optimizer = torch.optim.SGD(module.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
        self.run = self._predict if case.inference else self._train

    def _train(self):
        self._optimizer.zero_grad()
        with self._autocast:
            outputs = self._module(*self._inputs)
            pairs = zip(outputs, self._targets, strict=True)
            loss = sum(self._loss(output, target) for output, target in pairs)
        loss.backward()
        self._optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def _predict(self):
        batches = zip(*(value.split(self._batch_size) for value in self._inputs), strict=True)
        with self._autocast:
            outputs = zip(*(self._module(*batch) for batch in batches), strict=True)
            return [torch.cat(parts).float().numpy() for parts in outputs]
