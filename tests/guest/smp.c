/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What several processors promise each other, as threads of a guest see it: locked instructions
 * (within a cache line, across two, across pages, on a page with code), the order of loads and
 * stores, code that another processor has written, translations that were taken away, clocks.
 * Runs on real processors as well. Usage: smp THREADS SECONDS [CASE]; prints a line a case.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 32, PAGE = 4096 };

static unsigned threads;
static double seconds;
static unsigned failures;

static uint64_t now_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void result(const char *name, bool good, const char *fmt, ...) {
    va_list ap;

    printf("%s %s: ", good ? "ok" : "not ok", name);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
    failures += !good;
}

/* ---- threads that begin together, each on a processor of its own, until the time is over ---- */

static pthread_barrier_t barrier;
static atomic_bool stop;

struct worker {
    unsigned index;
    uint64_t count, bad;
    void (*fn)(struct worker *w);
};

static void *worker_main(void *opaque) {
    struct worker *w = opaque;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(w->index % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &set);
    sched_setaffinity(0, sizeof(set), &set);
    pthread_barrier_wait(&barrier);
    w->fn(w);
    return NULL;
}

static struct worker worker[MAX_THREADS];

static void run(unsigned n, void (*fn)(struct worker *w), double part) {
    pthread_t id[MAX_THREADS];

    stop = false;
    pthread_barrier_init(&barrier, NULL, n + 1);
    for (unsigned i = 0; i < n; i++) {
        worker[i] = (struct worker){.index = i, .fn = fn};
        pthread_create(&id[i], NULL, worker_main, &worker[i]);
    }
    pthread_barrier_wait(&barrier);
    usleep((useconds_t)(seconds * part * 1e6));
    stop = true;
    for (unsigned i = 0; i < n; i++)
        pthread_join(id[i], NULL);
    pthread_barrier_destroy(&barrier);
}

static uint64_t total(void) {
    uint64_t n = 0;

    for (unsigned i = 0; i < threads; i++)
        n += worker[i].count;
    return n;
}

static uint64_t bad(void) {
    uint64_t n = 0;

    for (unsigned i = 0; i < MAX_THREADS; i++)
        n += worker[i].bad;
    return n;
}

static void *pages(unsigned n, int prot) {
    void *p = mmap(NULL, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    memset(p, 0, n * PAGE);
    return p;
}

/* ---- locked instructions: sums that must come out ---- */

static uint8_t *target; /* of 8 or 16 bytes, anywhere */

static void add_all_ways(struct worker *w) {
    while (!stop) {
        uint64_t one = 1, old, new;
        volatile uint64_t *p = (volatile uint64_t *)(void *)target;

        __asm__ volatile("lock incq %0" : "+m"(*p) : : "cc");
        __asm__ volatile("lock addq $1, %0" : "+m"(*p) : : "cc");
        __asm__ volatile("lock xaddq %1, %0" : "+m"(*p), "+r"(one) : : "cc");
        old = *p;
        do {
            new = old + 1;
            __asm__ volatile("lock cmpxchgq %2, %1"
                             : "+a"(old), "+m"(*p), "=r"(new)
                             : "2"(new)
                             : "cc", "memory");
        } while (old + 1 != new);
        __asm__ volatile("lock subq $-1, %0" : "+m"(*p) : : "cc");
        w->count += 5;
    }
}

static void locked(const char *name, uint8_t *at) {
    uint64_t sum;

    target = at;
    memset(at, 0, 8);
    run(threads, add_all_ways, 1);
    memcpy(&sum, at, 8);
    result(name, sum == total(), "%llu of %llu", (unsigned long long)sum,
           (unsigned long long)total());
}

static void add_pairs(struct worker *w) {
    __int128 *p = (void *)target;

    while (!stop) {
        uint64_t lo = ((volatile uint64_t *)p)[0], hi = ((volatile uint64_t *)p)[1];
        bool done;

        __asm__ volatile("lock cmpxchg16b %1"
                         : "=@ccz"(done), "+m"(*p), "+a"(lo), "+d"(hi)
                         : "b"(lo + 1), "c"(hi + 2)
                         : "memory");
        w->count += done;
    }
}

static void pairs(void) {
    uint64_t *p = pages(1, PROT_READ | PROT_WRITE);

    target = (uint8_t *)p;
    run(threads, add_pairs, 1);
    result("cmpxchg16b", p[0] == total() && p[1] == 2 * total(), "%llu of %llu",
           (unsigned long long)p[0], (unsigned long long)total());
}

/* A lock of one byte, taken by XCHG and given back by a plain store; what it guards is plain. */
static volatile uint64_t guarded[4];

static void take_turns(struct worker *w) {
    while (!stop) {
        uint8_t taken = 1;

        do {
            taken = 1;
            __asm__ volatile("xchgb %0, %1" : "+q"(taken), "+m"(*target) : : "memory");
            if (taken)
                sched_yield();
        } while (taken);
        for (unsigned i = 0; i < 4; i++)
            guarded[i]++;
        __asm__ volatile("movb $0, %0" : "=m"(*target) : : "memory");
        w->count++;
    }
}

static void spinlock(void) {
    target = pages(1, PROT_READ | PROT_WRITE);
    memset((void *)guarded, 0, sizeof(guarded));
    run(threads, take_turns, 1);
    result("spinlock", guarded[0] == total() && guarded[3] == total(), "%llu of %llu",
           (unsigned long long)guarded[0], (unsigned long long)total());
}

static void set_bits(struct worker *w) {
    volatile uint32_t *word = (volatile uint32_t *)(void *)target;

    while (!stop) { /* each its own bit of a word that all change */
        bool was, is;

        __asm__ volatile("lock btsl %2, %1" : "=@ccc"(was), "+m"(*word) : "r"(w->index) : "memory");
        __asm__ volatile("lock btrl %2, %1" : "=@ccc"(is), "+m"(*word) : "r"(w->index) : "memory");
        w->bad += was || !is;
        w->count++;
    }
}

static void bits(const char *name, uint8_t *at) {
    target = at;
    memset(at, 0, 4);
    run(threads, set_bits, 1);
    result(name, bad() == 0, "%llu bits of others lost in %llu", (unsigned long long)bad(),
           (unsigned long long)total());
}

/* ---- the order of loads and stores (SDM vol. 3A 8.2.3) ---- */

static struct {
    _Alignas(64) volatile uint64_t x;
    _Alignas(64) volatile uint64_t y;
    _Alignas(64) volatile uint64_t a;
    _Alignas(64) volatile uint64_t b;
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) atomic_uint round;
} order;

static void meet(void) {
    unsigned round = order.round;

    if (atomic_fetch_add(&order.arrived, 1) == 1) {
        order.arrived = 0;
        order.round = round + 1;
    }
    for (unsigned n = 0; order.round == round; n++)
        if (n % 256 == 255)
            sched_yield();
}

/* Each stores and then, behind a fence, loads what the other stores: not both see nothing. */
static void store_then_load(struct worker *w) {
    for (bool go = true; go; w->count++) {
        if (w->index == 0) {
            order.x = order.y = 0;
            order.a = stop;
        }
        meet();
        go = !order.a;
        if (w->index == 0) {
            order.x = 1;
            __asm__ volatile("mfence" : : : "memory");
            order.b = order.y;
        } else {
            uint64_t got;

            order.y = 1;
            __asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
            got = order.x;
            meet();
            w->bad += got == 0 && order.b == 0;
        }
        if (w->index == 0)
            meet();
        meet();
    }
}

/* What is stored first is seen first. */
static void pass_messages(struct worker *w) {
    if (w->index == 0) {
        for (uint64_t n = 1; !stop; n++) {
            order.x = n;
            __asm__ volatile("" : : : "memory");
            order.y = n;
        }
        return;
    }
    while (!stop) {
        uint64_t flag = order.y, data;

        __asm__ volatile("" : : : "memory");
        data = order.x;
        w->bad += data < flag;
        w->count++;
    }
}

static void ordering(void) {
    memset(&order, 0, sizeof(order));
    run(2, store_then_load, 1);
    result("store, fence, load", bad() == 0, "%llu of %llu rounds saw neither",
           (unsigned long long)bad(), (unsigned long long)worker[1].count);
    memset(&order, 0, sizeof(order));
    run(2, pass_messages, 1);
    result("messages", bad() == 0, "%llu of %llu out of order", (unsigned long long)bad(),
           (unsigned long long)worker[1].count);
}

/* ---- code that another processor writes ---- */

static uint8_t *code;
static volatile uint32_t published;

/* SDM vol. 3A 8.1.3: whoever runs code that another processor has written does this first. */
static void serialize(void) {
    uint32_t a = 0, c = 0;

    __asm__ volatile("cpuid" : "+a"(a), "+c"(c) : : "ebx", "edx", "memory");
}

static void write_function(uint8_t *at, uint32_t value) { /* mov eax, value; ret */
    uint8_t bytes[6] = {0xb8, 0, 0, 0, 0, 0xc3};

    memcpy(bytes + 1, &value, 4);
    memcpy(at, bytes, sizeof(bytes));
    __asm__ volatile("" : : : "memory"); /* before its address is given away */
}

static void call_what_is_written(struct worker *w) {
    if (w->index == 0) {
        for (uint32_t n = 1; !stop; n++) {
            __atomic_store_n((uint32_t *)(void *)(code + 64 + 4), n, __ATOMIC_RELEASE);
            published = n;
            w->count++;
            if (n % 64 == 0)
                sched_yield();
        }
        return;
    }
    while (!stop) {
        uint32_t least = published, got;

        serialize();
        got = ((uint32_t(*)(void))(void *)(code + 64 + 3))();
        w->bad += got < least;
        w->count++;
    }
}

static void written_code(void) {
    code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    published = 0;
    write_function(code + 64 + 3, 0); /* the number is aligned: it is written at once */
    run(threads, call_what_is_written, 1);
    result("code of others", bad() == 0, "%llu of %llu calls ran old code, %llu written",
           (unsigned long long)bad(), (unsigned long long)(total() - worker[0].count),
           (unsigned long long)worker[0].count);
}

/* Many functions in turn, each new before its address is given away, at addresses used before. */
static uint32_t (*volatile shared_function)(void);

static void call_new_functions(struct worker *w) {
    if (w->index == 0) {
        for (uint32_t n = 1; !stop; n++) {
            uint8_t *at = code + n % 128 * 32;

            if (n % 128 == 0) /* nobody is in one now */
                usleep(100);
            write_function(at, n);
            shared_function = (uint32_t(*)(void))(void *)at;
            published = n;
            w->count++;
        }
        return;
    }
    while (!stop) {
        uint32_t least = published, got;

        serialize();
        got = shared_function();
        w->bad += got < least;
        w->count++;
    }
}

static void new_functions(void) {
    code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    published = 0;
    write_function(code, 0);
    shared_function = (uint32_t(*)(void))(void *)code;
    run(threads < 3 ? threads : 3, call_new_functions, 1);
    result("new functions", bad() == 0, "%llu of %llu calls ran old code, %llu written",
           (unsigned long long)bad(), (unsigned long long)(total() - worker[0].count),
           (unsigned long long)worker[0].count);
}

/* ---- translations that are taken away ---- */

static uint8_t *taken;
static _Thread_local sigjmp_buf fault;

static void on_fault(int signal) { siglongjmp(fault, 1); }

static void write_until_told(struct worker *w) {
    if (w->index == 0) {
        while (!stop) {
            uint64_t before;

            mprotect(taken, PAGE, PROT_READ);
            before = *(volatile uint64_t *)(void *)taken;
            for (unsigned i = 0; i < 20; i++)
                sched_yield();
            w->bad += *(volatile uint64_t *)(void *)taken != before;
            mprotect(taken, PAGE, PROT_READ | PROT_WRITE);
            w->count++;
            usleep(50);
        }
        return;
    }
    while (!stop) {
        if (sigsetjmp(fault, 1) == 0)
            for (unsigned i = 0; i < 1000; i++)
                (*(volatile uint64_t *)(void *)taken)++;
        w->count++;
    }
}

static void protections(void) {
    struct sigaction a = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};

    sigaction(SIGSEGV, &a, NULL);
    taken = pages(1, PROT_READ | PROT_WRITE);
    run(threads, write_until_told, 1);
    signal(SIGSEGV, SIG_DFL);
    result("protection", bad() == 0, "%llu of %llu times written to what was taken away",
           (unsigned long long)bad(), (unsigned long long)worker[0].count);
}

/* ---- the rest ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t latest, latest_tsc;

static void look_at_clocks(struct worker *w) {
    while (!stop) {
        uint64_t t;

        pthread_mutex_lock(&mutex);
        t = now_ns();
        w->bad += t < latest;
        latest = t;
        t = __builtin_ia32_rdtsc();
        w->bad += t < latest_tsc;
        latest_tsc = t;
        guarded[0]++;
        pthread_mutex_unlock(&mutex);
        w->count++;
    }
}

static void clocks(void) {
    guarded[0] = 0;
    run(threads, look_at_clocks, 1);
    result("clocks and mutex", bad() == 0 && guarded[0] == total(), "%llu of %llu went backwards",
           (unsigned long long)bad(), (unsigned long long)total());
}

typedef double vec __attribute__((vector_size(32)));

/* Registers stay a thread's own wherever it runs. */
static void wander(struct worker *w) {
    vec sum = {0, 0, 0, 0}, step = {1, 2, 3, (double)w->index};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    while (!stop) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET((w->count + w->index) % (uint64_t)cpus, &set);
        sched_setaffinity(0, sizeof(set), &set);
        for (unsigned i = 0; i < 1000; i++)
            sum += step;
        w->count += 1000;
        if (sum[0] != (double)w->count || sum[3] != (double)w->count * w->index)
            w->bad++;
    }
}

static void start_programs(struct worker *w) {
    while (!stop) {
        pid_t pid = fork();
        int status = -1;

        if (pid == 0)
            _exit((int)(w->count % 100));
        if (pid < 0 || waitpid(pid, &status, 0) != pid ||
            WEXITSTATUS(status) != (int)(w->count % 100))
            w->bad++;
        w->count++;
    }
}

static void scheduler(void) {
    run(threads, wander, 1);
    result("registers", bad() == 0, "%llu wrong", (unsigned long long)bad());
    run(threads, start_programs, 1);
    result("processes", bad() == 0, "%llu of %llu wrong", (unsigned long long)bad(),
           (unsigned long long)total());
}

static void locked_everywhere(void) {
    uint8_t *p = pages(2, PROT_READ | PROT_WRITE),
            *rwx = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);

    locked("locked", p);
    locked("locked, across cache lines", p + 60);
    locked("locked, across pages", p + PAGE - 3);
    write_function(rwx + 1024, 7);
    ((uint32_t(*)(void))(void *)(rwx + 1024))();
    locked("locked, beside code", rwx + 2048);
    bits("bits", p);
    bits("bits, across cache lines", p + 62);
    pairs();
}

static const struct {
    const char *name;
    void (*fn)(void);
} cases[] = {
    {"locked", locked_everywhere},
    {"spinlock", spinlock},
    {"order", ordering},
    {"code", written_code},
    {"functions", new_functions},
    {"protections", protections},
    {"clocks", clocks},
    {"scheduler", scheduler},
};

int main(int argc, char **argv) {
    threads = argc > 1 ? (unsigned)atoi(argv[1]) : 2;
    seconds = argc > 2 ? atof(argv[2]) : 1;
    if (threads < 2 || threads > MAX_THREADS)
        return 2;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (argc < 4 || strcmp(argv[3], cases[i].name) == 0)
            cases[i].fn();
    printf("SMP %s\n", failures ? "FAILED" : "PASSED");
    return failures != 0;
}
