/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exits of translated code by cause and by place; shares of chained runs and of hits. */
#include "cpu/soft/jit/profile.h"

#include <errno.h>
#include <stdlib.h>

#include "cpu/soft/jit/dump.h"
#include "cpu/soft/jit/jit_internal.h"

#define CAUSES(CAUSE)                                                                              \
    CAUSE(COLD, "a block without translation: cold, or left to the interpreter")                   \
    CAUSE(NEW, "a block that no link leads to yet")                                                \
    CAUSE(JUMP, "an address that the jump cache does not have")                                    \
    CAUSE(BAIL, "an instruction that the interpreter must execute (MMIO, fault, crossing)")        \
    CAUSE(SYSTEM, "a handler that ended the block (system instruction)")                           \
    CAUSE(DROPPED, "code was written")                                                             \
    CAUSE(HOT, "a block to be translated again")                                                   \
    CAUSE(POLL, "somebody wanted the loop's attention")

enum cause {
#define CAUSE(id, text) CAUSE_##id,
    CAUSES(CAUSE)
#undef CAUSE
        CAUSE_COUNT
};

static const char *const texts[] = {
#define CAUSE(id, text) text,
    CAUSES(CAUSE)
#undef CAUSE
};

enum { SPOTS = 8192, SHOWN = 12, PROBES = 8 };

struct spot {
    uint64_t rip;
    gpa addr; /* of a block without translation, else 0 */
    uint64_t count;
    uint32_t mode;
    enum cause cause;
};

struct jit_profile {
    uint64_t enters, count[CAUSE_COUNT];
    struct spot spot[SPOTS];
};

int profile_new(struct ref *c, struct error *err) {
    c->jit.profile = calloc(1, sizeof(*c->jit.profile));
    return c->jit.profile ? 0 : error_set(err, -ENOMEM, "--stats: out of memory");
}

void profile_free(struct ref *c) {
    free(c->jit.profile);
    c->jit.profile = NULL;
}

void profile_enter(struct ref *c) {
    c->jit.profile->enters++;
    c->jit.completed = 1; /* until a handler does not */
}

static enum cause cause_of(const struct ref *c) {
    const struct jit *j = &c->jit;

    if (j->bail)
        return CAUSE_BAIL;
    if (!j->completed)
        return CAUSE_SYSTEM;
    if (j->promote)
        return CAUSE_HOT;
    if (j->dropped)
        return CAUSE_DROPPED;
    if (j->poll)
        return CAUSE_POLL;
    return j->link ? CAUSE_NEW : CAUSE_JUMP;
}

/* Places that come often displace those that do not: each collision wears the old one down. */
static void count_spot(struct jit_profile *p, uint64_t rip, enum cause cause, gpa addr,
                       uint32_t mode) {
    uint64_t hash = (rip ^ (uint64_t)cause << 60) * 0x9e3779b97f4a7c15ull >> 40;
    struct spot *least = NULL;

    for (unsigned i = 0; i < PROBES; i++) {
        struct spot *q = &p->spot[(hash + i) % SPOTS];
        if (!q->count || (q->rip == rip && q->cause == cause)) {
            *q = (struct spot){rip, addr, q->count + 1, mode, cause};
            return;
        }
        if (!least || q->count < least->count)
            least = q;
    }
    if (--least->count == 0)
        *least = (struct spot){rip, addr, 1, mode, cause};
}

void profile_interpret(struct ref *c, const struct ref_block *b) {
    c->jit.profile->count[CAUSE_COLD]++;
    count_spot(c->jit.profile, c->rip, CAUSE_COLD, b->addr, b->mode);
}

void profile_leave(struct ref *c) {
    struct jit_profile *p = c->jit.profile;
    enum cause cause = cause_of(c);
    const struct ref_op *o = c->jit.helper_op;

    p->count[cause]++;
    count_spot(p, cause == CAUSE_SYSTEM ? ref_op_rip(c, o) : c->rip, cause, 0, 0);
}

static int by_count(const void *a, const void *b) {
    uint64_t x = ((const struct spot *)a)->count, y = ((const struct spot *)b)->count;

    return x < y ? 1 : x > y ? -1 : 0;
}

static double percent(uint64_t part, uint64_t whole) {
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static const char *const access_texts[JIT_ACCESSES] = {
    [JIT_BY_TLB] = "through the TLB",
    [JIT_BY_TLB_GROUP] = "through the TLB for a group of them",
    [JIT_BY_SITE] = "that remember their page",
    [JIT_BY_SITE_GROUP] = "that remember the page of a group",
    [JIT_BY_GROUP] = "that another one of their group has checked",
};

static void print_misses(const struct ref *c, FILE *f) {
    for (unsigned i = 0; i < JIT_BY_GROUP; i++)
        if (c->jit.misses[i])
            fprintf(f, "%14llu  misses of accesses %s\n", (unsigned long long)c->jit.misses[i],
                    access_texts[i]);
    fprintf(f, "                (--count adds how often they hit, and what share of runs was "
               "chained)\n");
}

/* Runs are known only if translations count them (--count). */
static void print_shares(struct ref *c, FILE *f) {
    struct dump_counts n;

    if (!c->jit.dump || !dump_count(c, &n)) {
        print_misses(c, f);
        return;
    }
    fprintf(f, "%14llu  runs of translated blocks, %.2f%% of them chained\n",
            (unsigned long long)n.runs, percent(n.runs - c->jit.profile->enters, n.runs));
    fprintf(f, "%14llu  instructions of them\n", (unsigned long long)n.instructions);
    for (unsigned i = 0; i < JIT_ACCESSES; i++)
        if (n.accesses[i])
            fprintf(f, "%14llu  accesses %s, %.3f%% hits\n", (unsigned long long)n.accesses[i],
                    access_texts[i], 100 - percent(c->jit.misses[i], n.accesses[i]));
}

/* What keeps a block from being translated is mostly its first instruction. */
static void print_spot(struct ref *c, FILE *f, const struct spot *s) {
    const uint8_t *p = mem_ptr(c->mem, s->addr, 1, false);
    unsigned left = 4096 - (s->addr & 4095);
    char text[100] = "";
    struct insn in;

    if (s->addr && p && insn_decode(&in, p, left, ref_code_size(s->mode)) > 0)
        insn_format(&in, s->rip, text, sizeof(text));
    else if (s->addr)
        snprintf(text, sizeof(text), "at the end of its page");
    fprintf(f, "%14llu  at %#llx: %s%s%s\n", (unsigned long long)s->count,
            (unsigned long long)s->rip, texts[s->cause], *text ? ": " : "", text);
}

void profile_print(struct ref *c, FILE *f) {
    struct jit_profile *p = c->jit.profile;

    fprintf(f, "%14llu  times the loop entered translated code. It was wanted for\n",
            (unsigned long long)p->enters);
    for (unsigned i = 0; i < CAUSE_COUNT; i++)
        if (p->count[i])
            fprintf(f, "%14llu    %s\n", (unsigned long long)p->count[i], texts[i]);
    print_shares(c, f);
    qsort(p->spot, SPOTS, sizeof(p->spot[0]), by_count);
    for (unsigned i = 0; i < SHOWN && p->spot[i].count; i++)
        print_spot(c, f, &p->spot[i]);
}
