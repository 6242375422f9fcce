"""The kernels compared with the FP32 kernels of TensorFlow and PyTorch: what ``dfpkeras bench``
runs."""
