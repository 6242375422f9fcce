/* One pool of threads for the whole process, and the workspace of the one operation that runs on it.
 *
 * Kernels are called from many threads at once (TensorFlow's executors); a pool per caller, as in
 * OpenMP, would oversubscribe the machine. So operations take turns: dfp_begin waits for its turn,
 * dfp_end releases it. Between the two the caller owns the pool and the workspace, and its
 * floating-point environment is the default one, like that of every thread of the pool: rounding to
 * nearest, subnormal numbers kept, no traps. TensorFlow's threads, for example, flush subnormal
 * numbers to zero. So an operation computes nothing in floating point before dfp_begin or after
 * dfp_end.
 */
#ifndef DFP_THREADS_H
#define DFP_THREADS_H

#include <stddef.h>
#include <stdint.h>

#define DFP_MAX_THREADS 256

typedef void (*dfp_task)(void *context, int64_t task, int worker);

void dfp_begin(void);
void dfp_end(void);

/* How the sums of products were cut into runs: see engine/flush_schedule.h. `results` counts blocks of
 * columns, each of which is a sum over all of its runs; pairs are of products, padding included. */
typedef struct {
    int64_t results, runs, pairs;
} dfp_run_counts;

/* Adds to the counts of the operation whose turn it is; any thread of the pool may call it. */
void dfp_count_runs(dfp_run_counts counts);

/* The counts of the last operation that the calling thread began. */
dfp_run_counts dfp_last_run_counts(void);

/* Runs fn(context, t, worker) for every 0 <= t < tasks and returns when all are done. Threads take
 * tasks in ascending order; worker < dfp_get_num_threads() names the thread for scratch memory. */
void dfp_parallel(int64_t tasks, dfp_task fn, void *context);

/* Number of threads, at least 1. Takes effect with the next operation. */
void dfp_set_num_threads(int threads);
int dfp_get_num_threads(void);

/* Two 64-byte-aligned areas, valid until the next request for them or dfp_release_workspace:
 * one shared by all threads, one of `bytes_per_worker` for each thread. NULL if out of memory. */
void *dfp_shared_workspace(size_t bytes);
void *dfp_worker_workspace(size_t bytes_per_worker);
void dfp_release_workspace(void);

static inline size_t dfp_round_up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

#endif
