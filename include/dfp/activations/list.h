/* The one list of activations other than ReLU and ReLU6: the files of this folder. */
#define DFP_ACTIVATIONS(X)                                                                         \
    X(elu)                                                                                         \
    X(gelu)                                                                                        \
    X(gelu_tanh)                                                                                   \
    X(hard_sigmoid)                                                                                \
    X(hard_silu)                                                                                   \
    X(leaky_relu)                                                                                  \
    X(mish)                                                                                        \
    X(selu)                                                                                        \
    X(sigmoid)                                                                                     \
    X(silu)                                                                                        \
    X(softplus)                                                                                    \
    X(softsign)                                                                                    \
    X(tanh)
