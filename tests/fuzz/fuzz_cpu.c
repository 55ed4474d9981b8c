/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile guest and a hostile snapshot for the interpreter: random code, random bytes in its
 * descriptor tables, page tables and TSS, random fields of a saved state. Nothing may crash, run
 * away, or reach a state that could not be saved and loaded again.
 *
 * Input: a byte for the mode, a byte for the number of patches, patches of four bytes (area,
 * offset, value), then code.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cpu/box.h"

enum { SLICE_NS = 300000, MAX_CODE = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct box box;
static timer_t timer; /* not setitimer: that is as coarse as the host's tick, or libFuzzer's own */
static bool made;

static void kick(int sig) {
    (void)sig;
    cpu_ref_ops.kick(box.cpu);
}

static void make(void) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};

    box_new(&box, "host");
    signal(SIGUSR2, kick);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
        abort();
    made = true;
}

static void set_timer(long ns) {
    struct itimerspec t = {.it_value = {.tv_nsec = ns}};

    timer_settime(timer, 0, &t, NULL);
}

static void choose_mode(unsigned mode) {
    switch (mode % 4) {
    case 0:
        box_long(&box);
        break;
    case 1:
        box_protected(&box, true);
        break;
    case 2:
        box_protected(&box, false);
        break;
    case 3:
        box_real(&box);
        break;
    }
    if ((mode & 4) && mode % 4 != 3)
        box_ring3(&box);
    if (mode & 8)
        box.s.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE | X86_CR4_FSGSBASE;
    if ((mode & 8) && (mode & 16))
        box.s.xcr0 = 7;
    box.s.rflags |= (uint64_t)(mode >> 5 & 7) << 12; /* IOPL, NT */
}

/* One byte into a table of the guest's, or into the state. */
static void patch(const uint8_t *p) {
    static const gpa area[] = {BOX_PML4, 0x2000,  0x3000,  0x4000,
                               BOX_GDT,  BOX_IDT, BOX_TSS, BOX_TSS2};
    unsigned offset = p[1] | p[2] << 8;

    if (p[0] % 16 < 8)
        box_put(&box, area[p[0] % 8] + offset % 0x800, &p[3], 1);
    else
        ((uint8_t *)&box.s)[offset % sizeof(box.s)] = p[3];
}

static bool loadable(const struct x86_state *s) {
    struct x86_state scratch;
    struct buf bytes = {0};
    bool ok;

    memset(&scratch, 0, sizeof(scratch));
    state_save(&x86_state_desc, s, &bytes);
    ok = state_validate(&x86_state_desc, &scratch, bytes.data, bytes.len, NULL) == 0;
    if (ok)
        ok = state_load(&x86_state_desc, &scratch, bytes.data, bytes.len, NULL) == 0;
    buf_done(&bytes);
    if (ok)
        box.s = scratch;
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned patches;

    if (!made)
        make();
    if (size < 2)
        return 0;
    memset(mem_ptr(&box.mem, 0, BOX_MEM, true), 0, 0x60000);
    mem_written(&box.mem, 0, 0x60000);
    choose_mode(data[0]);
    patches = data[1] % 32;
    data += 2;
    size -= 2;
    for (; patches && size >= 4; patches--, data += 4, size -= 4)
        patch(data);
    box_put(&box, BOX_CODE, data, size < MAX_CODE ? size : MAX_CODE);
    box.io_count = 0;
    if (!loadable(&box.s) || cpu_ref_ops.set_state(box.cpu, &box.s, NULL) < 0)
        return 0;
    set_timer(SLICE_NS);
    if (cpu_ref_ops.run(box.cpu) == CPU_EXIT_ERROR)
        abort();
    set_timer(0);
    cpu_ref_ops.get_state(box.cpu, &box.s);
    if (!loadable(&box.s))
        abort();
    return 0;
}
