/* Stress test of the pool of threads: operations from many threads at once.
 *
 *     thread_program limit N     the most tasks that ran at one time, with N threads allowed
 *     thread_program resize      the number of threads changes all the while
 *     thread_program fork        children are forked all the while, and each runs an operation
 *
 * Exits with 1, and says why, if a task is lost, run twice or given a worker that is taken. A
 * deadlock ends by SIGALRM. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool.h"
#include "threads.h"

#define CALLERS 6
#define OPERATIONS 150
#define TASKS 12
#define LONGEST_SECONDS 60

static atomic_int running, most_running, stop;

typedef struct {
    atomic_int done[TASKS];
    atomic_int taken[DFP_MAX_THREADS];
    int threads;
} operation;

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void count_start(void) {
    int now = atomic_fetch_add(&running, 1) + 1, most = atomic_load(&most_running);
    while (now > most && !atomic_compare_exchange_weak(&most_running, &most, now)) {
    }
}

static void run_task(void *context, int64_t task, int worker) {
    operation *o = context;
    count_start();
    if (worker < 0 || worker >= o->threads) fail("a worker's number is out of range");
    if (atomic_fetch_add(&o->taken[worker], 1)) fail("two tasks share a worker's scratch memory");
    usleep(50);
    void *scratch = dfp_pool_take(1000);
    memset(scratch, worker, 1000);
    dfp_pool_give(scratch);
    atomic_fetch_add(&o->done[task], 1);
    atomic_fetch_sub(&o->taken[worker], 1);
    atomic_fetch_sub(&running, 1);
}

static void operate(void) {
    static operation o; /* owned by the thread whose turn it is */
    dfp_begin();
    memset(&o, 0, sizeof o);
    o.threads = dfp_get_num_threads();
    dfp_parallel(TASKS, run_task, &o);
    for (int i = 0; i < TASKS; ++i)
        if (atomic_load(&o.done[i]) != 1) fail("a task was lost or ran twice");
    dfp_end();
}

static void *operate_repeatedly(void *unused) {
    for (int i = 0; i < OPERATIONS; ++i) operate();
    return unused;
}

static void *resize_repeatedly(void *unused) {
    while (!atomic_load(&stop))
        for (int n = 1; n <= 5; ++n) dfp_set_num_threads(n);
    return unused;
}

/* Ends when two threads have run at one time: the child has started its own. */
static void run_in_child(void) {
    alarm(LONGEST_SECONDS / 2);
    atomic_store(&running, 0);
    atomic_store(&most_running, 0);
    while (atomic_load(&most_running) < 2) operate();
}

static void *fork_repeatedly(void *unused) {
    while (!atomic_load(&stop)) {
        pid_t child = fork();
        if (child < 0) fail("fork failed");
        if (child == 0) {
            run_in_child();
            _exit(0);
        }
        int status;
        if (waitpid(child, &status, 0) != child || status) fail("a forked child hangs or failed");
    }
    return unused;
}

static void strain(void *(*meanwhile)(void *)) {
    pthread_t callers[CALLERS], other;
    if (meanwhile && pthread_create(&other, NULL, meanwhile, NULL)) fail("no thread");
    for (int i = 0; i < CALLERS; ++i)
        if (pthread_create(&callers[i], NULL, operate_repeatedly, NULL)) fail("no thread");
    for (int i = 0; i < CALLERS; ++i) pthread_join(callers[i], NULL);
    atomic_store(&stop, 1);
    if (meanwhile) pthread_join(other, NULL);
}

int main(int argc, char **argv) {
    alarm(LONGEST_SECONDS);
    dfp_set_num_threads(argc == 3 ? atoi(argv[2]) : 3);
    if (argc == 3 && !strcmp(argv[1], "limit")) {
        strain(NULL);
    } else if (argc == 2 && !strcmp(argv[1], "resize")) {
        strain(resize_repeatedly);
    } else if (argc == 2 && !strcmp(argv[1], "fork")) {
        strain(fork_repeatedly);
    } else {
        fputs("usage: thread_program limit N | resize | fork\n", stderr);
        return 2;
    }
    printf("%d\n", atomic_load(&most_running));
    return 0;
}
