/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The native half of the differential test: a child process that executes cases on the host's
 * processor.
 *
 * Signals tell how a case ended: number and error code of the exception and CR2 are in their
 * context. The handler stores the registers and does not return; the next case starts at once. A
 * case that runs in a circle is ended by a timer of the child's, and a child that the timer cannot
 * save by the parent.
 */
#include "cpu/diff/native.h"

#include <asm/ldt.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static struct diff_batch *batch;
static int to_child = -1, from_child = -1;
static pid_t child = -1;

enum { CASE_SECONDS = 1, PATIENCE_SECONDS = 60 }; /* processor time; time without a result */

/* ---- in the child ---- */

static uint8_t *code_rw, *ro_rw;
static volatile uint32_t current; /* index of the case that runs, ~0 if none */
static struct diff_result *result;
static uint32_t used_from, used_to;

#define STATE ((struct native_state *)(DIFF_STUB + DIFF_PAGE))

static void *in_stub(const uint8_t *label) {
    return (void *)(DIFF_STUB + (uint64_t)(label - native_stub_begin));
}

static uint8_t *data_page(enum diff_page page) {
    return (uint8_t *)(DIFF_DATA + (uint64_t)page * DIFF_PAGE);
}

static void *map_at(uint64_t addr, unsigned pages, int prot, int fd, off_t offset) {
    int flags =
        MAP_POPULATE | MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    void *p = mmap((void *)addr, pages * (size_t)DIFF_PAGE, prot, flags, fd, offset);

    if (p != (void *)addr) {
        fprintf(stderr, "test_diff: cannot map %#llx: %s\n", (unsigned long long)addr,
                strerror(errno));
        _exit(1);
    }
    return p;
}

static void map_everything(void) {
    int fd = memfd_create("diff", MFD_CLOEXEC);
    size_t size = 3 * (size_t)DIFF_PAGE;
    uint8_t *rw;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        _exit(1);
    rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    code_rw = rw;
    ro_rw = rw + 2 * DIFF_PAGE;
    memset(rw, 0xcc,
           size); /* before it is mapped elsewhere: error codes tell present pages from others */
    map_at(DIFF_CODE, 2, PROT_READ | PROT_EXEC, fd, 0);
    map_at(DIFF_DATA + DATA_RO * DIFF_PAGE, 1, PROT_READ, fd, 2 * DIFF_PAGE);
    map_at(DIFF_DATA + DATA_RW0 * DIFF_PAGE, 2, PROT_READ | PROT_WRITE, -1, 0);
    map_at(DIFF_DATA + DATA_RW2 * DIFF_PAGE, 1, PROT_READ | PROT_WRITE, -1, 0);
    map_at(DIFF_STUB, 1, PROT_READ | PROT_WRITE, -1, 0);
    map_at(DIFF_STUB + DIFF_PAGE, 2, PROT_READ | PROT_WRITE, -1, 0);
    memcpy((void *)DIFF_STUB, native_stub_begin, (size_t)(native_stub_end - native_stub_begin));
    mprotect((void *)DIFF_STUB, DIFF_PAGE, PROT_READ | PROT_EXEC);
}

static bool add_segment(unsigned entry, unsigned contents, uint64_t base, unsigned limit) {
    struct user_desc d = {.entry_number = entry,
                          .base_addr = (unsigned)base,
                          .limit = limit,
                          .contents = contents,
                          .useable = 1};

    return syscall(SYS_modify_ldt, 1, &d, sizeof(d)) == 0;
}

static void store_frame_fpu(const struct diff_xsave *frame) {
    struct diff_xsave *x = &result->out.x;
    uint64_t present = frame->header[0];

    memset(x, 0, sizeof(*x));
    x->fcw = 0x37f;
    if (present & 1)
        memcpy(x, frame, 24);
    if (present & 1)
        memcpy(x->st, frame->st, sizeof(x->st));
    x->mxcsr = frame->mxcsr;
    if (present & 2)
        memcpy(x->xmm, frame->xmm, sizeof(x->xmm));
    if (present & 4)
        memcpy(x->ymm, frame->ymm, sizeof(x->ymm));
}

/* These the kernel leaves alone on the way to a signal handler, and does not store. */
static void store_selectors(uint16_t sel[6]) {
    uint32_t es, ds, fs, gs;

    __asm__ volatile("mov %%es, %0\n\tmov %%ds, %1\n\tmov %%fs, %2\n\tmov %%gs, %3"
                     : "=r"(es), "=r"(ds), "=r"(fs), "=r"(gs));
    sel[SEG_ES] = (uint16_t)es;
    sel[SEG_DS] = (uint16_t)ds;
    sel[SEG_FS] = (uint16_t)fs;
    sel[SEG_GS] = (uint16_t)gs;
}

/* Did the signal interrupt the code of a case, and not what leads to it and away from it? */
static bool in_case_code(const greg_t *g) {
    return (uint16_t)g[REG_CSGSFS] != SEL_CODE64 ||
           (uint64_t)g[REG_RIP] - DIFF_CODE < 2 * (uint64_t)DIFF_PAGE;
}

static void on_signal(int sig, void *info, void *opaque) {
    static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                      REG_R12, REG_R13, REG_R14, REG_R15};
    const ucontext_t *uc = opaque;
    const greg_t *g = uc->uc_mcontext.gregs;
    uint64_t base;

    if (sig == SIGVTALRM && !in_case_code(g))
        return;
    if (current == ~0u)
        _exit(2);
    for (unsigned i = 0; i < 16; i++)
        result->out.gpr[i] = (uint64_t)g[order[i]];
    result->out.rip = (uint64_t)g[REG_RIP];
    result->out.rflags = (uint64_t)g[REG_EFL];
    result->out.sel[SEG_CS] = (uint16_t)g[REG_CSGSFS];
    result->out.sel[SEG_SS] = (uint16_t)(g[REG_CSGSFS] >> 48);
    store_selectors(result->out.sel);
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    result->out.gs_base = base;
    result->out.fs_base = STATE->signal_fs;
    store_frame_fpu((const struct diff_xsave *)(const void *)uc->uc_mcontext.fpregs);
    result->vector = sig == SIGVTALRM ? DIFF_TIMEOUT : (uint8_t)g[REG_TRAPNO];
    result->error = (uint64_t)g[REG_ERR];
    result->cr2 = (uint64_t)g[REG_CR2];
    ((void (*)(void))in_stub(native_resume))();
}

static void install_signals(void) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGVTALRM};
    struct sigaction sa = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    size_t size = 1 << 18;
    stack_t ss = {.ss_size = size};

    ss.ss_sp = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaltstack(&ss, NULL);
    sa.sa_sigaction = (void (*)(int, siginfo_t *, void *))(uintptr_t)in_stub(native_signal);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &sa, NULL);
    STATE->on_signal = on_signal;
}

static void load_memory(const struct diff_case *k) {
    uint8_t *pages[4] = {data_page(DATA_RW0), data_page(DATA_RW1), data_page(DATA_RW2), ro_rw};
    uint32_t at = (uint32_t)(k->code_addr - DIFF_CODE), end = at + k->code_len;

    for (unsigned i = 0; i < 4; i++)
        memcpy(pages[i], batch->data[i], DIFF_PAGE);
    diff_apply_patches(k, pages);
    memset(code_rw + used_from, 0xcc, used_to - used_from);
    if (end > 2 * DIFF_PAGE)
        end = 2 * DIFF_PAGE;
    memcpy(code_rw + at, k->code, end - at);
    diff_write_trampoline(code_rw);
    used_from = at;
    used_to = end;
}

static void load_registers(const struct diff_case *k) {
    struct native_state *s = STATE;

    s->x = k->in.x;
    memcpy(s->gpr, k->in.gpr, sizeof(s->gpr));
    s->rip = k->in.rip;
    s->rflags = k->in.rflags;
    s->fs_base = k->in.fs_base;
    s->gs_base = k->in.gs_base;
    s->far_ip = (uint32_t)k->in.rip;
    s->far_sel = diff_code_selector(k->mode);
    s->ss = k->in.sel[SEG_SS];
    s->sel[0] = k->in.sel[SEG_ES];
    s->sel[1] = k->in.sel[SEG_DS];
    s->sel[2] = k->in.sel[SEG_FS];
    s->sel[3] = k->in.sel[SEG_GS];
}

static void store_registers(void) {
    const struct native_state *s = STATE;
    struct diff_regs *out = &result->out;

    out->x = s->out_x;
    memcpy(out->gpr, s->out_gpr, sizeof(out->gpr));
    out->rip = DIFF_STUB;
    out->rflags = s->out_rflags;
    out->fs_base = s->out_fs_base;
    out->gs_base = s->out_gs_base;
    out->sel[SEG_ES] = s->out_sel[0];
    out->sel[SEG_DS] = s->out_sel[1];
    out->sel[SEG_FS] = s->out_sel[2];
    out->sel[SEG_GS] = s->out_sel[3];
    out->sel[SEG_CS] = SEL_CODE64;
    out->sel[SEG_SS] = s->out_ss;
    result->vector = DIFF_COMPLETED;
}

static void set_timer(unsigned seconds) {
    struct itimerval t = {.it_value.tv_sec = seconds, .it_interval.tv_sec = seconds};

    setitimer(ITIMER_VIRTUAL, &t, NULL);
}

static void try_case(uint32_t i) {
    const struct diff_case *k = &batch->cases[i];
    int (*enter)(void) = (int (*)(void))in_stub(k->mode == 8 ? native_enter64 : native_enter32);

    result->error = result->cr2 = 0;
    load_memory(k);
    load_registers(k);
    current = i;
    if (!enter())
        store_registers();
    current = ~0u;
    memcpy(result->data[0], data_page(DATA_RW0), 2 * DIFF_PAGE);
    memcpy(result->data[2], data_page(DATA_RW2), DIFF_PAGE);
}

/* The timer runs on from case to case: one that it ends gets a whole period of its own before it
 * counts as endless. */
static void run_case(uint32_t i) {
    result = &batch->native[i];
    try_case(i);
    if (result->vector != DIFF_TIMEOUT)
        return;
    result->vector = DIFF_NOT_RUN;
    set_timer(CASE_SECONDS);
    try_case(i);
}

static _Noreturn void child_main(int in, int out) {
    uint8_t byte;
    uint64_t base;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    map_everything();
    __asm__ volatile("rdfsbase %0" : "=r"(base));
    STATE->host_fs = base;
    current = ~0u;
    install_signals();
    while (read(in, &byte, 1) == 1) {
        set_timer(CASE_SECONDS);
        for (uint32_t i = batch->first; i < batch->count; i++)
            run_case(i);
        set_timer(0);
        if (write(out, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

/* ---- in the parent ---- */

static bool host_suffices(void) {
    uint32_t a = 7, b = 0, c = 0, d;

    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return (b & 1) && (b >> 5 & 1); /* FSGSBASE, AVX2 (and so XSAVE) */
}

/* The child inherits it. */
static void build_ldt(void) {
    (void)(add_segment(SEL_CODE16 >> 3, MODIFY_LDT_CONTENTS_CODE, DIFF_CODE, 0xffff) &&
           add_segment(SEL_DATA16 >> 3, MODIFY_LDT_CONTENTS_DATA, DIFF_DATA, LIMIT_DATA16) &&
           add_segment(SEL_STACK16 >> 3, MODIFY_LDT_CONTENTS_DATA, DIFF_DATA, LIMIT_STACK16) &&
           add_segment(SEL_DOWN16 >> 3, MODIFY_LDT_CONTENTS_STACK, DIFF_DATA, LIMIT_DOWN16));
}

/* What the processor finds, not what the kernel answered: a paravirtual kernel takes the LDT and
 * never loads it. */
static bool has_selector(uint32_t sel) {
    uint32_t rights;
    bool found;

    __asm__("lar %2, %0" : "=r"(rights), "=@ccz"(found) : "r"(sel));
    return found;
}

bool native_has_mode(unsigned mode) {
    if (mode == 2)
        return has_selector(SEL_CODE16) && has_selector(SEL_DOWN16);
    return has_selector(diff_code_selector(mode));
}

/* AMD's processors store zeros unless an exception is pending. */
bool native_keeps_pointers(void) {
    struct diff_xsave x = {.fip = 0};

    __asm__ volatile("fninit\n\tfldz\n\tfstp %%st(0)\n\txsave64 %0\n\tfninit"
                     : "+m"(x)
                     : "a"(1), "d"(0));
    return x.fip != 0;
}

static int start_child(void) {
    int down[2], up[2];

    if (pipe(down) < 0 || pipe(up) < 0)
        return -errno;
    fflush(stdout);
    child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        close(down[1]);
        close(up[0]);
        child_main(down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    to_child = down[1];
    from_child = up[0];
    return 0;
}

int native_open(struct diff_batch **ret_batch) {
    if (!host_suffices())
        return -ENOTSUP;
    batch = mmap(NULL, sizeof(*batch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (batch == MAP_FAILED)
        return -errno;
    *ret_batch = batch;
    build_ldt();
    return start_child();
}

static void stop_child(void) {
    close(to_child);
    close(from_child);
    waitpid(child, NULL, 0);
}

static void let_run(void) {
    uint8_t byte = 1;

    signal(SIGPIPE, SIG_IGN);
    if (write(to_child, &byte, 1) != 1)
        fprintf(stderr, "test_diff: the child that runs code natively has gone\n");
}

void native_start(struct diff_batch *b) {
    for (uint32_t i = 0; i < b->count; i++)
        b->native[i].vector = DIFF_NOT_RUN;
    b->first = 0;
    let_run();
}

static uint32_t first_not_run(void) {
    uint32_t i = 0;

    while (i < batch->count && *(volatile uint8_t *)&batch->native[i].vector != DIFF_NOT_RUN)
        i++;
    return i;
}

/* True when the child has finished the batch; false when it has died, or been killed because it
 * had no further result for PATIENCE_SECONDS. */
static bool child_finishes(void) {
    struct pollfd p = {.fd = from_child, .events = POLLIN};
    uint32_t seen = first_not_run();
    time_t since = time(NULL);
    uint8_t byte;

    while (poll(&p, 1, 1000) <= 0) {
        uint32_t now = first_not_run();
        if (now != seen)
            since = time(NULL);
        else if (time(NULL) - since > PATIENCE_SECONDS) {
            kill(child, SIGKILL);
            break;
        }
        seen = now;
    }
    return read(from_child, &byte, 1) == 1;
}

int native_wait(void) {
    while (!child_finishes()) {
        uint32_t culprit = first_not_run();
        int r;
        stop_child();
        if (culprit < batch->count)
            batch->native[culprit++].vector = DIFF_DIED;
        batch->first = culprit;
        r = start_child();
        if (r < 0)
            return r;
        let_run();
    }
    return 0;
}

void native_close(void) {
    stop_child();
    munmap(batch, sizeof(*batch));
}
