"""The kernels beside the FP32 kernels of TensorFlow and PyTorch: what ``dfpkeras bench`` runs."""
