/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records of translations, and how they are printed: guest code with the host's beside it. */
#include "cpu/soft/jit/dump.h"

#include <errno.h>
#include <stdlib.h>

#include "cpu/soft/jit/perfmap.h"
#include "cpu/soft/jit/translate.h"

#define BYTES_MAX ((size_t)256 << 20) /* records kept; what comes later is printed, not kept */
enum { HASH_SIZE = 1 << 14 };

struct dump_line {
    ptrdiff_t bytes; /* in dump_block.guest */
    uint16_t off;    /* in the page */
    uint8_t len;
    uint32_t at; /* of its code */
};

struct dump_block {
    struct dump_block *next;      /* newest first */
    struct dump_block *hash_next; /* the same */
    uint64_t rip, runs;           /* runs: counted by the code itself */
    gpa addr;
    uint32_t mode, lines, guest_size, host_size;
    const uint8_t *code;
    unsigned accesses[JIT_ACCESSES];
    struct dump_line *line;
    uint8_t *guest, *host;
};

struct jit_dump {
    struct dump_block *newest, *open; /* open: being translated */
    struct dump_block *hash[HASH_SIZE];
    size_t bytes;
    const struct cpu_debug *debug;
    bool keep; /* records; else only the map for perf is written */
    FILE *perf_map;
};

static unsigned hash_of(const void *code) { return (unsigned)((uintptr_t)code >> 4) % HASH_SIZE; }

int dump_new(struct ref *c, struct error *err) {
    const struct cpu_debug *debug = &c->cpu.config.debug;
    struct jit_dump *d = calloc(1, sizeof(*d));

    if (!d)
        return error_set(err, -ENOMEM, "the translator's records: out of memory");
    c->jit.dump = d;
    d->debug = debug;
    d->keep = debug->check || debug->count || debug->dump;
    if (!debug->perf_map)
        return 0;
    d->perf_map = perfmap_open(err);
    if (!d->perf_map)
        return -EINVAL;
    perfmap_put_common(d->perf_map, c->jit.cache);
    return 0;
}

static void free_block(struct dump_block *b) {
    if (!b)
        return;
    free(b->line);
    free(b->guest);
    free(b->host);
    free(b);
}

/* ---- making ---- */

void dump_begin(struct trans *t) {
    struct jit_dump *d = t->c->jit.dump;

    free_block(d->open);
    d->open = d->keep && d->bytes < BYTES_MAX ? calloc(1, sizeof(*d->open)) : NULL;
    if (!d->open || !(d->debug->dump_hot || d->debug->count))
        return;
    e_bytes(&t->e, "\x49\xbf", 2); /* mov r15, imm64 */
    e64(&t->e, (uint64_t)(uintptr_t)&d->open->runs);
    e_bytes(&t->e, "\x49\xff\x07", 3); /* inc qword [r15] */
}

static bool copy_lines(struct dump_block *b, const struct trans *t) {
    b->lines = t->current + 1; /* the rest was left to the next block */
    b->guest_size = t->used;
    b->host_size = (uint32_t)(t->e.n - t->k->used); /* without its stubs, which lie elsewhere */
    b->line = calloc(b->lines, sizeof(*b->line));
    b->guest = malloc(b->guest_size);
    b->host = malloc(b->host_size);
    if (!b->line || !b->guest || !b->host)
        return false;
    memcpy(b->guest, t->bytes, b->guest_size);
    memcpy(b->host, t->e.p + t->k->used, b->host_size);
    for (unsigned i = 0; i < b->lines; i++) {
        const struct line *l = &t->line[i];
        b->line[i] = (struct dump_line){
            .bytes = l->bytes - t->bytes, .off = (uint16_t)l->off, .len = l->in.len, .at = l->at};
    }
    return true;
}

static bool wanted(const struct cpu_debug *g, const struct dump_block *b) {
    return g->dump_last && b->rip + b->guest_size > g->dump_first && b->rip <= g->dump_last;
}

void dump_end(struct trans *t, const void *code) {
    struct jit_dump *d = t->c->jit.dump;
    struct dump_block *b = d->open, **slot = &d->hash[hash_of(code)];

    if (d->perf_map)
        perfmap_put(d->perf_map, code, t->e.n - t->k->used, t->c->rip, t->bank, t->tier);
    if (!b)
        return;
    memcpy(b->accesses, t->accesses, sizeof(b->accesses));
    b->rip = t->c->rip;
    b->addr = t->b->addr;
    b->mode = t->b->mode;
    b->code = code;
    if (!copy_lines(b, t))
        return;
    b->next = d->newest;
    d->newest = b;
    b->hash_next = *slot;
    *slot = b;
    d->open = NULL;
    d->bytes += sizeof(*b) + b->guest_size + b->host_size + b->lines * sizeof(*b->line);
    if (wanted(d->debug, b))
        dump_print(b, stderr, d->debug->dump);
}

bool dump_count(struct ref *c, struct dump_counts *ret) {
    struct jit_dump *d = c->jit.dump;

    *ret = (struct dump_counts){0};
    for (const struct dump_block *b = d->newest; b; b = b->next) {
        ret->runs += b->runs;
        ret->instructions += b->runs * b->lines;
        for (unsigned i = 0; i < JIT_ACCESSES; i++)
            ret->accesses[i] += b->runs * b->accesses[i];
    }
    return d->debug->count || d->debug->dump_hot;
}

const struct dump_block *dump_find(struct ref *c, const void *code) {
    const struct dump_block *b = c->jit.dump->hash[hash_of(code)];

    while (b && b->code != code)
        b = b->hash_next;
    return b;
}

/* ---- printing ---- */

void dump_code(FILE *f, const char *indent, const uint8_t *bytes, uint32_t n, uint64_t at,
               unsigned size) {
    struct insn in;
    char text[160], hex[3 * INSN_MAX_LEN + 1];

    for (uint32_t i = 0; i < n; i += in.len) {
        unsigned long long address = at + i;

        if (insn_decode(&in, bytes + i, n - i, size) <= 0) {
            fprintf(f, "%s%llx:  %u more bytes\n", indent, address, n - i);
            return;
        }
        for (unsigned k = 0; k < in.len; k++)
            snprintf(hex + 3 * k, 4, "%02x ", bytes[i + k]);
        insn_format(&in, at + i, text, sizeof(text));
        fprintf(f, "%s%llx:  %-33s%s\n", indent, address, hex, text);
    }
}

static void print_host(const struct dump_block *b, FILE *f, uint32_t from, uint32_t to) {
    dump_code(f, "        ", b->host + from, to - from, (uint64_t)(uintptr_t)b->code + from, 8);
}

void dump_print(const struct dump_block *b, FILE *f, unsigned what) {
    uint32_t first = b->line[0].off, end = b->host_size;

    fprintf(f, "block at %#llx, physical %#llx, mode %#x, ring %s: %u instructions, %u bytes\n",
            (unsigned long long)b->rip, (unsigned long long)b->addr, b->mode,
            b->mode & REF_MODE_USER ? "3" : "0", b->lines, b->host_size);
    if (b->line[0].at && (what & DUMP_HOST))
        print_host(b, f, 0, b->line[0].at);
    for (unsigned i = 0; i < b->lines; i++) {
        const struct dump_line *l = &b->line[i];
        uint32_t to = i + 1 < b->lines ? b->line[i + 1].at : end;

        if (what & DUMP_GUEST)
            dump_code(f, "  ", b->guest + l->bytes, l->len, b->rip + l->off - first,
                      ref_code_size(b->mode));
        if (l->at < to && (what & DUMP_HOST)) /* behind the last one: the ways out */
            print_host(b, f, l->at, to);
    }
}

static int by_work(const void *a, const void *b) {
    const struct dump_block *x = *(const struct dump_block *const *)a;
    const struct dump_block *y = *(const struct dump_block *const *)b;
    uint64_t m = x->runs * x->lines, n = y->runs * y->lines;

    return m < n ? 1 : m > n ? -1 : 0;
}

static void print_hot(struct jit_dump *d, FILE *f) {
    struct dump_block **all;
    size_t n = 0, i = 0;
    uint64_t work = 0;

    for (struct dump_block *b = d->newest; b; b = b->next, n++)
        work += b->runs * b->lines;
    all = calloc(n ? n : 1, sizeof(struct dump_block *));
    if (!all)
        return;
    for (struct dump_block *b = d->newest; b; b = b->next)
        all[i++] = b;
    qsort(all, n, sizeof(struct dump_block *), by_work);
    for (i = 0; i < n && i < d->debug->dump_hot && all[i]->runs; i++) {
        fprintf(f, "\n%zu. run %llu times, %.2f%% of translated instructions: ", i + 1,
                (unsigned long long)all[i]->runs,
                100.0 * (double)(all[i]->runs * all[i]->lines) / (double)work);
        dump_print(all[i], f, d->debug->dump);
    }
    free(all);
}

void dump_free(struct ref *c) {
    struct jit_dump *d = c->jit.dump;

    if (!d)
        return;
    if (d->debug->dump_hot)
        print_hot(d, stderr);
    for (struct dump_block *b = d->newest, *next; b; b = next) {
        next = b->next;
        free_block(b);
    }
    free_block(d->open);
    if (d->perf_map)
        fclose(d->perf_map);
    free(d);
    c->jit.dump = NULL;
}
