"""What the kernels run on: instruction set, threads, memory, floating-point environment."""
