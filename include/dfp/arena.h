/* Large blocks of memory, side by side in one reserved range of addresses.
 *
 * Each takes the smallest free piece that holds it, and freed neighbours become one piece: a training
 * step's tensors of every size fit into hardly more than the most that is in use at one time
 * (docs/design/kernels.md). Pages are committed when they are first written. Callers take turns. */
#ifndef DFP_ARENA_H
#define DFP_ARENA_H

#include <stddef.h>

/* 64-byte aligned; NULL if there is no room, or no range could be reserved. `bytes` is a multiple of
 * 64. */
void *dfp_arena_take(size_t bytes);
void dfp_arena_give(void *memory, size_t bytes);

/* Bytes of free pieces that may be committed. */
size_t dfp_arena_cached(void);
/* Returns the whole pages of all free pieces to the system. */
void dfp_arena_drop(void);

#endif
