"""Keras on the differentiable integer operations: policy, layers, report."""
