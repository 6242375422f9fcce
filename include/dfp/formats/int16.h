/* INT16 by INT16: DFP16. One lane of the multiply-add combines two products.
 *
 * Overflow proof: engine/flush_schedule.h, from the data of every block; sums go to FP32. */

/* INT16 in a cache line. */
#define DFP_LINE 32

#define DFP_NAME(name) name
#define DFP_ELEMENT int16_t
#define DFP_GROUP 2
#define DFP_LOAD dfp_load
#define DFP_BROADCAST dfp_broadcast_pair
#define DFP_MULTIPLY_ADD dfp_multiply_add
#define DFP_INTERLEAVE(rows, to) dfp_interleave((rows)[0], (rows)[1], to)
#define DFP_TRANSPOSE_GROUPS dfp_transpose_pairs
#include "engine/epilogue/fp32.h"
#include "engine/tile.h"
#include "engine/pack.h"
#include "engine/multiply.h"
#include "formats/end.h"
