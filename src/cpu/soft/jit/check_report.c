/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the lock-step prints when the two disagree. */
#include <stdio.h>
#include <unistd.h>

#include "cpu/soft/jit/check_internal.h"
#include "cpu/soft/jit/dump.h"
#include "state/state.h"

static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

static void row(FILE *f, const char *name, uint64_t before, uint64_t ref, uint64_t soft) {
    fprintf(f, "%c %-8s%016llx  %016llx  %016llx\n", ref == soft ? ' ' : '*', name,
            (unsigned long long)before, (unsigned long long)ref, (unsigned long long)soft);
}

static void print_registers(FILE *f, const struct jit_check *k) {
    fprintf(f, "  %-8s%-18s%-18s%s\n", "", "before", "interpreter", "translator");
    for (unsigned i = 0; i < 16; i++)
        row(f, names[i], k->before.s.gpr[i], k->ref.s.gpr[i], k->soft.s.gpr[i]);
    row(f, "rip", k->before.s.rip, k->ref.s.rip, k->soft.s.rip);
    row(f, "rflags", k->before.s.rflags, k->ref.s.rflags, k->soft.s.rflags);
    /* Flags that nobody reads may differ: not the mistake, unless an earlier block left them. */
    fprintf(f, "  flags   %16llx  %16llx  %16llx  (may differ where dead)\n",
            (unsigned long long)check_rflags(k->before.af),
            (unsigned long long)check_rflags(k->ref.af),
            (unsigned long long)check_rflags(k->soft.af));
    if (k->stale)
        fprintf(f, "  the translator began with flags %llx, because of the block at %#llx\n",
                (unsigned long long)check_rflags(k->before.af ^ k->stale),
                (unsigned long long)k->stale_rip);
}

/* Everything else of the state, by name, where it differs. */
static void print_rest(FILE *f, const struct jit_check *k) {
    struct x86_state soft = k->soft.s;
    struct buf out = {0};

    memcpy(soft.gpr, k->ref.s.gpr, sizeof(soft.gpr));
    soft.rip = k->ref.s.rip;
    soft.rflags = k->ref.s.rflags;
    if (state_diff(&x86_state_desc, &k->ref.s, &soft, &out))
        fprintf(f, "interpreter != translator:\n%.*s", (int)out.len, (const char *)out.data);
    buf_done(&out);
    if (k->ref.att_mask != k->soft.att_mask || k->ref.cpl != k->soft.cpl)
        fprintf(f, "attention mask %#x != %#x, level %u != %u\n", k->ref.att_mask, k->soft.att_mask,
                k->ref.cpl, k->soft.cpl);
}

static gpa address_of(const struct mem *m, const uint8_t *host) {
    for (unsigned i = 0; i < m->count; i++)
        if ((uint64_t)(host - m->range[i].host) < m->range[i].size)
            return m->range[i].base + (uint64_t)(host - m->range[i].host);
    return ~(gpa)0;
}

static void print_bytes(FILE *f, const char *who, const uint8_t *p) {
    fprintf(f, "  %-12s", who);
    for (unsigned i = 0; i < 16; i++)
        fprintf(f, " %02x", p[i]);
    fputc('\n', f);
}

static void print_memory(FILE *f, struct ref *c) {
    const struct jit_check *k = c->jit.check;

    for (unsigned i = 0; i < k->pages; i++) {
        const struct check_page *p = &k->page[i];
        int at = check_page_differs(k, p);

        if (at < 0)
            continue;
        at &= ~15;
        fprintf(f, "* memory at physical %#llx\n",
                (unsigned long long)address_of(c->mem, p->host) + (unsigned)at);
        print_bytes(f, "before", p->before + at);
        print_bytes(f, "interpreter", p->host + at);
        print_bytes(f, "translator", (p->soft ? p->after : p->before) + at);
    }
}

static const char *how(const struct check_image *i, char *text, size_t size) {
    if (i->outcome == CHECK_ESCAPED)
        return "in front of a device";
    if (i->outcome != CHECK_FAULTED)
        return "";
    snprintf(text, size, "by exception %u, error %#x", i->vector, i->has_error ? i->error : 0);
    return text;
}

static void print_code(FILE *f, struct ref *c, const struct check_finding *d) {
    const struct dump_block *b = d->code ? dump_find(c, d->code) : NULL;
    const uint8_t *p = mem_ptr(c->mem, d->addr, 1, false);
    uint32_t n = 4096 - (d->addr & 4095);

    if (b)
        dump_print(b, f, DUMP_GUEST | DUMP_HOST);
    else if (p)
        dump_code(f, "  ", p, n < 64 ? n : 64, d->rip, ref_code_size(c->mode));
}

void check_report(struct ref *c, const struct check_finding *d) {
    const struct jit_check *k = c->jit.check;
    char soft[60], ref[60];
    FILE *f = stderr;

    fprintf(f, "--check: %s: the block at %#llx, trial %llu\n", d->what, (unsigned long long)d->rip,
            (unsigned long long)k->trials);
    fprintf(f,
            "the translator came to %#llx %s, the interpreter after %u instructions to %#llx %s\n",
            (unsigned long long)k->soft.s.rip, how(&k->soft, soft, sizeof(soft)), d->steps,
            (unsigned long long)k->ref.s.rip, how(&k->ref, ref, sizeof(ref)));
    print_registers(f, k);
    print_rest(f, k);
    print_memory(f, c);
    fputs("guest code, and what it became:\n", f);
    print_code(f, c, d);
    fflush(f);
}
