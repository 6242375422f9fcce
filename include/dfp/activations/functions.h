/* Activations other than ReLU and ReLU6: each is a file of this folder that defines
 *   dfp_<name>, the function, and dfp_<name>_slope, its derivative, of a vector, where `alpha` is the
 *   function's parameter,
 *   DFP_<name>_TURN, where its derivative changes its sign, INFINITY if nowhere, and
 *   DFP_<name>_STEEPEST, a bound of the derivative's magnitude, which may depend on `alpha`. */
#include "engine/float_math.h"

#include "activations/elu.h"
#include "activations/gelu.h"
#include "activations/gelu_tanh.h"
#include "activations/hard_sigmoid.h"
#include "activations/hard_silu.h"
#include "activations/leaky_relu.h"
#include "activations/mish.h"
#include "activations/selu.h"
#include "activations/sigmoid.h"
#include "activations/silu.h"
#include "activations/softplus.h"
#include "activations/softsign.h"
#include "activations/tanh.h"

/* Numbers of which a function is computed at a time, in the first-level cache. */
#define DFP_FUNCTION_PIECE 512

/* The same of rows: v[i] becomes the function's value at v[i], for i < n; `v` has room for whole
 * vectors. */
typedef struct {
    void (*value)(float *v, int64_t n, float alpha);
    void (*slope)(float *v, int64_t n, float alpha);
    double (*steepest)(float alpha);
    float turn;
} dfp_function;

#define DFP_DEFINE_ROWS(name)                                                                      \
    static void dfp_rows_##name(float *v, int64_t n, float alpha) {                                \
        for (int64_t i = 0; i < n; i += DFP_LANES)                                                 \
            dfp_store_float(v + i, dfp_##name(dfp_load_float(v + i), alpha));                      \
    }                                                                                              \
    static void dfp_slopes_##name(float *v, int64_t n, float alpha) {                              \
        for (int64_t i = 0; i < n; i += DFP_LANES)                                                 \
            dfp_store_float(v + i, dfp_##name##_slope(dfp_load_float(v + i), alpha));              \
    }                                                                                              \
    static double dfp_steepest_##name(float alpha) {                                               \
        (void)alpha;                                                                               \
        return DFP_##name##_STEEPEST;                                                              \
    }
DFP_ACTIVATIONS(DFP_DEFINE_ROWS)
#undef DFP_DEFINE_ROWS

#define DFP_ENTRY(name)                                                                            \
    {dfp_rows_##name, dfp_slopes_##name, dfp_steepest_##name, DFP_##name##_TURN},
static const dfp_function dfp_functions[] = {DFP_ACTIVATIONS(DFP_ENTRY)};
#undef DFP_ENTRY

/* NULL for those without a function of this kind. */
static const dfp_function *dfp_function_of(dfp_activation activation) {
    return activation < DFP_FIRST_FUNCTION ? NULL : dfp_functions + activation - DFP_FIRST_FUNCTION;
}

/* The arguments of a function, x * scale + offset, for `count` columns of a row from c on. */
DFP_INLINE void dfp_fill_argument(const dfp_operand *x, dfp_kind x_kind, const float *scale,
                                  const float *offset, int64_t at, int64_t c, int64_t count,
                                  float *z) {
    int64_t i = 0;
    for (; i + DFP_LANES <= count; i += DFP_LANES) {
        dfp_vf v = dfp_load_operand(x, x_kind, at + i) * dfp_load_float(scale + c + i);
        dfp_store_float(z + i, v + dfp_load_float(offset + c + i));
    }
    for (; i < count; ++i) z[i] = dfp_element(x, x_kind, at + i) * scale[c + i] + offset[c + i];
}

/* The largest magnitude of a function's values in [low, high]. */
static double dfp_largest_value(const dfp_function *f, double low, double high, float alpha) {
    float at[DFP_LANES] = {(float)low, (float)high, (float)low}, largest = 0.0f;
    if (f->turn > low && f->turn < high) at[2] = f->turn;
    f->value(at, DFP_LANES, alpha);
    for (int i = 0; i < 3; ++i) largest = fabsf(at[i]) > largest ? fabsf(at[i]) : largest;
    return largest;
}
