#include "threads.h"

#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif
#if defined(__linux__)
#include <sys/prctl.h>
#endif

typedef struct {
    dfp_task fn;
    void *context;
    int64_t tasks;
} job;

typedef struct {
    void *memory;
    size_t bytes;
} area;

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
/* The floating-point environment of the thread whose turn it is, restored when its turn ends. */
static fenv_t callers_environment;

static pthread_mutex_t state = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t job_posted = PTHREAD_COND_INITIALIZER;
static pthread_cond_t job_finished = PTHREAD_COND_INITIALIZER;
static job current;
static _Atomic uint64_t generation;
static int workers_wanted;
/* Whether threads may still join the current job: it does not wait for one that wakes up late. */
static int job_open;
static atomic_int workers_busy;
static int workers_started;
static atomic_int_fast64_t next_task;

static atomic_int num_threads = 1;
/* Of the operation whose turn it is, and of the calling thread's last one. */
static atomic_int_fast64_t counted_results, counted_runs, counted_pairs;
static _Thread_local dfp_run_counts last_counts;
static area shared_area, worker_area;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

/* No other order holds for them: see engine/nontemporal.h. */
static void finish_nontemporal_stores(void) {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

static void run_tasks(const job *j, int worker) {
    for (;;) {
        int64_t task = atomic_fetch_add(&next_task, 1);
        if (task >= j->tasks) break;
        j->fn(j->context, task, worker);
    }
    finish_nontemporal_stores();
}

static void pause_briefly(void) {
#if defined(__x86_64__)
    _mm_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* The parts of one operation follow each other within microseconds, the operations of a training
 * step within some hundred, while waking a sleeping thread may take as long. Threads look for the
 * next part this many times, about 0.4 ms, before they sleep: with 2000 and 6000 the step of
 * ResNet-50 took 15 to 25 % longer on two cores of Zen 5, with 60000 as long. */
#define SPINS 20000

static void await_next_job(uint64_t seen) {
    for (int i = 0; i < SPINS && atomic_load(&generation) == seen; ++i) pause_briefly();
}

static void await_workers(void) {
    for (int i = 0; i < SPINS && atomic_load(&workers_busy) > 0; ++i) pause_briefly();
}

/* For `top -H`, debuggers and tests. */
static void name_thread(void) {
#if defined(__linux__)
    prctl(PR_SET_NAME, "dfpkeras");
#endif
}

static void *worker_main(void *argument) {
    name_thread();
    int worker = (int)(intptr_t)argument;
    uint64_t seen = 0;
    pthread_mutex_lock(&state);
    for (;;) {
        while (generation == seen || !job_open || worker > workers_wanted) {
            seen = generation;
            pthread_cond_wait(&job_posted, &state);
        }
        seen = generation;
        job j = current;
        atomic_fetch_add(&workers_busy, 1);
        pthread_mutex_unlock(&state);
        run_tasks(&j, worker);
        /* The last one signals while it holds the lock: a caller that sleeps cannot miss it. */
        if (atomic_fetch_sub(&workers_busy, 1) == 1) {
            pthread_mutex_lock(&state);
            pthread_cond_signal(&job_finished);
            pthread_mutex_unlock(&state);
        }
        await_next_job(seen);
        pthread_mutex_lock(&state);
    }
    return NULL;
}

/* A forked child has none of its parent's workers, and locks in whatever state they were at the
 * fork. */
static void after_fork_in_child(void) {
    pthread_mutex_init(&turn, NULL);
    pthread_mutex_init(&state, NULL);
    pthread_cond_init(&job_posted, NULL);
    pthread_cond_init(&job_finished, NULL);
    workers_started = 0;
    workers_busy = 0;
    job_open = 0;
    generation = 0;
    shared_area = worker_area = (area){NULL, 0};
}

static void install_fork_handlers(void) { pthread_atfork(NULL, NULL, after_fork_in_child); }

/* Called with `state` held. If a thread cannot be created, the pool does without it; the others
 * inherit the floating-point environment of the operation that starts them, which is the default
 * one. */
static void start_workers(int wanted) {
    while (workers_started < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker_main, (void *)(intptr_t)(workers_started + 1)))
            return;
        pthread_detach(thread);
        ++workers_started;
    }
}

void dfp_begin(void) {
    pthread_mutex_lock(&turn);
    fegetenv(&callers_environment);
    fesetenv(FE_DFL_ENV);
    counted_results = counted_runs = counted_pairs = 0;
}

void dfp_end(void) {
    last_counts = (dfp_run_counts){counted_results, counted_runs, counted_pairs};
    fesetenv(&callers_environment);
    pthread_mutex_unlock(&turn);
}

void dfp_count_runs(dfp_run_counts counts) {
    atomic_fetch_add_explicit(&counted_results, counts.results, memory_order_relaxed);
    atomic_fetch_add_explicit(&counted_runs, counts.runs, memory_order_relaxed);
    atomic_fetch_add_explicit(&counted_pairs, counts.pairs, memory_order_relaxed);
}

dfp_run_counts dfp_last_run_counts(void) { return last_counts; }

void dfp_parallel(int64_t tasks, dfp_task fn, void *context) {
    job j = {fn, context, tasks};
    int64_t helpers = dfp_get_num_threads() - 1;
    if (helpers > tasks - 1) helpers = tasks - 1;
    atomic_store(&next_task, 0);
    if (helpers <= 0) {
        run_tasks(&j, 0);
        return;
    }
    pthread_mutex_lock(&state);
    start_workers((int)helpers);
    current = j;
    workers_wanted = helpers < workers_started ? (int)helpers : workers_started;
    job_open = 1;
    ++generation;
    pthread_cond_broadcast(&job_posted);
    pthread_mutex_unlock(&state);

    run_tasks(&j, 0);

    pthread_mutex_lock(&state);
    job_open = 0;
    pthread_mutex_unlock(&state);
    await_workers();
    pthread_mutex_lock(&state);
    while (atomic_load(&workers_busy) > 0) pthread_cond_wait(&job_finished, &state);
    pthread_mutex_unlock(&state);
}

void dfp_set_num_threads(int threads) {
    if (threads < 1) threads = 1;
    if (threads > DFP_MAX_THREADS) threads = DFP_MAX_THREADS;
    pthread_once(&fork_handlers, install_fork_handlers);
    pthread_mutex_lock(&turn);
    atomic_store(&num_threads, threads);
    pthread_mutex_unlock(&turn);
}

int dfp_get_num_threads(void) { return atomic_load(&num_threads); }

static void *reserve(area *a, size_t bytes) {
    if (bytes > a->bytes) {
        free(a->memory);
        a->bytes = dfp_round_up(bytes, 4096);
        a->memory = NULL;
        if (posix_memalign(&a->memory, 64, a->bytes)) a->memory = NULL;
        if (!a->memory) a->bytes = 0;
    }
    return a->memory;
}

void *dfp_shared_workspace(size_t bytes) { return reserve(&shared_area, bytes); }

void *dfp_worker_workspace(size_t bytes_per_worker) {
    return reserve(&worker_area,
                   dfp_round_up(bytes_per_worker, 64) * (size_t)dfp_get_num_threads());
}

void dfp_release_workspace(void) {
    dfp_begin();
    free(shared_area.memory);
    free(worker_area.memory);
    shared_area = worker_area = (area){NULL, 0};
    dfp_end();
}
