/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's state as sections of a snapshot, and back (docs/snapshot.md).
 *
 *   machine      the clock, the address map's memory, what else is the board's own
 *   cpuN         architectural state
 *   cpuid        the features that the guest was told of
 *   DEVICE       each device under its instance name, in order of creation
 *   nicN.port    what the host's end of a network keeps
 *
 * Loading: pass one finds a valid section for every part of this machine, and a part for every
 * section; pass two maps the memory, sets the clock, and loads devices in order of creation, so
 * that interrupt controllers know their wires' levels before the devices set them again.
 *
 * Time: the guest's clocks go on from where they stood, moved by the time that has really passed
 * since, as if the host had not run the machine for that long. So the guest's wall clock is right
 * at once, with no help of the guest. Its kernel is told by the pvclock page (below) not to take
 * the gap for a processor that hung.
 */
#include "machine/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cpu/cpuid.h"
#include "devices/acpi_pm.h"
#include "devices/pci.h"
#include "machine/machine_internal.h"
#include "machine/map.h"
#include "machine/plug_internal.h"
#include "machine/snapshot_internal.h"
#include "net/net.h"

#define NS_PER_SEC  1000000000ull
#define GAP_MAX     (100ull * 365 * 86400 * NS_PER_SEC) /* longer ones are a wrong clock */
#define MIN_MAP_RUN 16                                  /* pages; shorter runs are read */
#define ZERO_RUN    512 /* pages that the host's huge pages may fill */

/* ------------------------------------------------------------------ the board's own */

const struct state_desc machine_state_desc = {
    .name = "machine",
    .version = 1,
    .struct_size = sizeof(struct machine_state),
    .fields =
        (const struct state_field[]){
            STATE(struct machine_state, now),
            STATE(struct machine_state, tsc),
            STATE(struct machine_state, tsc_hz),
            STATE(struct machine_state, saved_at),
            STATE_MAX(struct machine_state, cpus, MACHINE_MAX_CPUS),
            STATE(struct machine_state, reset_wanted),
            STATE_MAX(struct machine_state, ranges, MEM_MAX_RANGES),
            STATE_ARRAY(struct machine_state, range_base),
            STATE_ARRAY(struct machine_state, range_size),
            STATE_ARRAY(struct machine_state, range_offset),
            STATE_END,
        },
};

const struct state_desc machine_cpuid_desc = {
    .name = "cpuid",
    .version = 1,
    .struct_size = sizeof(struct machine_cpuid),
    .fields =
        (const struct state_field[]){
            STATE_ARRAY(struct machine_cpuid, word),
            STATE_END,
        },
};

static uint64_t real_time(void) {
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static void describe(struct machine *m, struct machine_state *s) {
    const struct board *b = machine_board(m);

    memset(s, 0, sizeof(*s));
    s->now = clock_now(b->clock);
    s->tsc = clock_tsc(b->clock);
    s->tsc_hz = clock_tsc_hz(b->clock);
    s->saved_at = real_time();
    s->cpus = b->cpus;
    s->reset_wanted = machine_wants_reset(m);
    s->ranges = b->mem.count;
    for (unsigned i = 0; i < b->mem.count; i++) {
        s->range_base[i] = b->mem.range[i].moving ? MEM_NOWHERE : b->mem.range[i].base;
        s->range_size[i] = b->mem.range[i].whole;
        s->range_offset[i] = b->mem.range[i].offset;
    }
}

static void cpuid_words(struct machine *m, struct machine_cpuid *ret) {
    memset(ret, 0, sizeof(*ret));
    for (unsigned i = 0; i < CPUID_WORDS; i++)
        ret->word[i] = cpuid_word(&machine_cpu(m, 0)->config, i);
    if (machine_config(m)->cpus == 1) /* it has nobody to call */
        ret->word[CPUID_KVM] &= ~CPUID_KVM_CALLS;
}

/* ------------------------------------------------------------------ saving */

static void add_typed(struct snapshot_sections *out, const char *name, const struct state_desc *d,
                      const void *obj) {
    struct buf stream = {0};

    state_save(d, obj, &stream);
    snapshot_add(out, name, SNAPSHOT_TYPED, stream.data, stream.len);
    buf_done(&stream);
}

void machine_sections(struct machine *m, struct snapshot_sections *out) {
    const struct machine_config *config = machine_config(m);
    const struct board *b = machine_board(m);
    struct machine_state own;
    struct machine_cpuid features;
    struct x86_state cpu;
    char name[SNAPSHOT_NAME];

    describe(m, &own);
    add_typed(out, "machine", &machine_state_desc, &own);
    cpuid_words(m, &features);
    add_typed(out, "cpuid", &machine_cpuid_desc, &features);
    for (unsigned i = 0; i < b->cpus; i++) {
        machine_cpu(m, i)->ops->get_state(machine_cpu(m, i), &cpu);
        snprintf(name, sizeof(name), "cpu%u", i);
        add_typed(out, name, &x86_state_desc, &cpu);
    }
    for (unsigned i = 0; i < b->devices; i++)
        if (!plug_is_husk(machine_plug(m), b->device[i]))
            add_typed(out, b->device[i]->name, b->device[i]->cls->state, b->device[i]);
    for (unsigned i = 0, n = 0; i < config->nics; i++) {
        struct buf port = {0};

        if (!config->nic[i].port)
            continue;
        net_save(config->nic[i].port, &port);
        snprintf(name, sizeof(name), "nic%u.port", n++); /* numbers are given anew */
        if (port.len)
            snapshot_add(out, name, SNAPSHOT_RAW, port.data, port.len);
        buf_done(&port);
    }
}

/* ------------------------------------------------------------------ loading: looking */

/* *ret stays as it is unless the section is there and valid. */
static int find_typed(const struct snapshot *s, const char *name, const struct state_desc *d,
                      const void *obj, const struct snapshot_section **ret, struct error *err) {
    const struct snapshot_section *section = snapshot_find(s, name);
    int code;

    if (!section || section->kind != SNAPSHOT_TYPED)
        return error_set(err, -EINVAL,
                         "the snapshot has no state of '%s': it was made of another machine; give "
                         "the options of that one",
                         name);
    code = state_validate(d, obj, section->data, section->size, err);
    if (code < 0)
        return error_prefix(err, "snapshot '%s': section '%s'", s->dir, name);
    *ret = section;
    return 0;
}

static int check_own(struct machine *m, const struct snapshot *s, struct machine_state *ret,
                     struct error *err) {
    const struct snapshot_section *section = NULL;
    struct machine_state ours;
    int code;

    describe(m, &ours);
    *ret = ours;
    code = find_typed(s, "machine", &machine_state_desc, ret, &section, err);
    if (section)
        code = state_load(&machine_state_desc, ret, section->data, section->size, err);
    if (code < 0)
        return code;
    if (ret->cpus != ours.cpus)
        return error_set(err, -EINVAL,
                         "the snapshot is of a machine with %u processors, this one has %u",
                         ret->cpus, ours.cpus);
    if (ret->ranges != ours.ranges ||
        memcmp(ret->range_base, ours.range_base, sizeof(ours.range_base)) != 0 ||
        memcmp(ret->range_size, ours.range_size, sizeof(ours.range_size)) != 0 ||
        memcmp(ret->range_offset, ours.range_offset, sizeof(ours.range_offset)) != 0 ||
        s->pages * SNAPSHOT_PAGE != machine_board(m)->mem.file_size)
        return error_set(err, -EINVAL,
                         "the snapshot is of a machine with another amount of memory: give the "
                         "same --memory");
    if (ret->tsc_hz < 1000000 || ret->tsc_hz > 100 * NS_PER_SEC)
        return error_set(err, -EINVAL,
                         "the snapshot's time stamp counter has an impossible rate of %llu Hz: it "
                         "is damaged",
                         (unsigned long long)ret->tsc_hz);
    return 0;
}

/* Those of older snapshots lack some devices that every machine has now. */
static bool has_state(const struct snapshot *s, const struct device *d) {
    return !d->cls->newer || snapshot_find(s, d->name);
}

static int compare_features(const uint32_t *ours, const uint32_t *theirs, struct error *err) {
    char names[256];
    size_t n = 0;

    for (unsigned i = 0; i < sizeof(((struct machine_cpuid *)0)->word) / sizeof(*ours); i++) {
        uint32_t lacking = theirs[i] & ~ours[i];

        if (!lacking || n >= sizeof(names) - 3)
            continue;
        if (n)
            n += (size_t)snprintf(names + n, sizeof(names) - n, ", ");
        cpuid_print(i, lacking, names + n, sizeof(names) - n);
        n += strlen(names + n);
    }
    return !n ? 0
              : error_set(err, -ENOTSUP,
                          "the snapshot's guest was told of features that this host, --cpu or "
                          "--cpu-model lacks (%s): restore it where they are, or with --cpu soft",
                          names);
}

static int check_cpuid(struct machine *m, const struct snapshot *s, struct error *err) {
    const struct snapshot_section *section = NULL;
    struct machine_cpuid ours, theirs = {0};
    int code = find_typed(s, "cpuid", &machine_cpuid_desc, &theirs, &section, err);

    if (section)
        code = state_load(&machine_cpuid_desc, &theirs, section->data, section->size, err);
    cpuid_words(m, &ours);
    return code < 0 ? code : compare_features(ours.word, theirs.word, err);
}

/* Names that this machine has no part for. */
static int check_rest(struct machine *m, const struct snapshot *s, struct error *err) {
    const struct board *b = machine_board(m);
    unsigned ports = 0, newer = 0;

    for (unsigned i = 0; i < b->devices; i++)
        newer += !has_state(s, b->device[i]);
    for (unsigned i = 0; i < s->sections; i++)
        ports += s->section[i].kind == SNAPSHOT_RAW;
    if (s->sections - ports + newer == b->devices + b->cpus + 2)
        return 0;
    for (unsigned i = 0; i < s->sections; i++) {
        const char *name = s->section[i].name;
        bool known = s->section[i].kind == SNAPSHOT_RAW || !strcmp(name, "machine") ||
                     !strcmp(name, "cpuid") || !strncmp(name, "cpu", 3);

        for (unsigned k = 0; k < b->devices && !known; k++)
            known = !strcmp(name, b->device[k]->name);
        if (!known)
            return error_set(err, -EINVAL,
                             "the snapshot has a device '%s' that this machine lacks: give the "
                             "options of the machine that was saved",
                             name);
    }
    return error_set(err, -EINVAL, "the snapshot's sections do not fit this machine");
}

/* ------------------------------------------------------------------ loading: memory */

struct mapping {
    struct mem *mem;
    const struct snapshot *top, *root;
    uint64_t min_run; /* pages that are worth a mapping of their own */
};

/* Below everything lies the oldest layer's file, whose holes are zero as they should be. */
static const struct snapshot *source(const struct mapping *map, uint64_t page) {
    const struct snapshot *layer = snapshot_page_layer(map->top, page);

    return !layer && snapshot_page_kind(map->root, page) == SNAPSHOT_ZERO ? map->root : layer;
}

/* How many pages from here on come from *ret_from. */
static uint64_t source_run(const struct mapping *map, uint64_t page, uint64_t end,
                           const struct snapshot **ret_from) {
    uint64_t at = page;

    *ret_from = source(map, page);
    do {
        uint64_t next = at + snapshot_page_run(map->top, at, end);

        at += snapshot_page_run(map->root, at, next);
    } while (at < end && source(map, at) == *ret_from);
    return at - page;
}

static int put_run(const struct mapping *map, uint64_t page, uint64_t count,
                   const struct snapshot *from, struct error *err) {
    uint64_t at = page * SNAPSHOT_PAGE, size = count * SNAPSHOT_PAGE;
    uint8_t *host = mem_at_offset(map->mem, at, size);
    unsigned part;
    int code = 0;

    if (count >= map->min_run)
        return mem_map(map->mem, at, size, from ? from->memory_fd : -1, err);
    for (; count && code == 0; count -= part, page += part, host += (size_t)part * SNAPSHOT_PAGE) {
        part = count < SNAPSHOT_CHUNK ? (unsigned)count : SNAPSHOT_CHUNK;
        code = snapshot_read(map->top, page, part, host, err);
    }
    return code;
}

static int map_range(const struct mapping *map, uint64_t first, uint64_t end, struct error *err) {
    int code = mem_map(map->mem, first * SNAPSHOT_PAGE, (end - first) * SNAPSHOT_PAGE,
                       map->root->memory_fd, err);
    uint64_t zeros = 0, n;

    for (uint64_t page = first; page < end && code == 0; page += n) {
        const struct snapshot *from;

        n = source_run(map, page, end, &from);
        if (from != map->root)
            code = put_run(map, page, n, from, err);
    }
    /* Long runs of zeros need no file behind them: a write to them then copies nothing. */
    for (uint64_t page = first; page < end && code == 0; page += n) {
        n = snapshot_page_run(map->top, page, end);
        zeros = snapshot_page_layer(map->top, page) ? 0 : zeros + n;
        if (page + n < end && zeros && !snapshot_page_layer(map->top, page + n))
            continue;
        if (zeros >= ZERO_RUN && zeros >= map->min_run)
            code = mem_map(map->mem, (page + n - zeros) * SNAPSHOT_PAGE, zeros * SNAPSHOT_PAGE, -1,
                           err);
        zeros = 0;
    }
    return code;
}

static int map_memory(struct mem *mem, const struct snapshot *s, struct error *err) {
    /* The host allows 65530 mappings: a chain of increments must not come near. */
    struct mapping map = {.mem = mem, .top = s, .root = s, .min_run = s->pages / 8192};
    int code = 0;

    while (map.root->parent)
        map.root = map.root->parent;
    if (map.min_run < MIN_MAP_RUN)
        map.min_run = MIN_MAP_RUN;
    for (unsigned i = 0; i < mem->count && code == 0; i++)
        code = map_range(&map, mem->range[i].offset / SNAPSHOT_PAGE,
                         (mem->range[i].offset + mem->range[i].whole) / SNAPSHOT_PAGE, err);
    return code;
}

/* ------------------------------------------------------------------ loading: all of it */

/* The guest's watchdogs forgive one gap if this bit is set (Linux, Documentation/virt/kvm/x86/
 * msr.rst, MSR_KVM_SYSTEM_TIME_NEW: flags, bit 1: the guest was paused). */
static void tell_paused(struct mem *mem, const struct x86_state *s) {
    enum { FLAGS = 29, PAUSED = 2 };
    gpa at = (s->kvmclock_system & ~1ull) + FLAGS;
    uint8_t flags;

    if ((s->kvmclock_system & 1) && mem_read(mem, at, &flags, 1) == 0) {
        flags |= PAUSED;
        mem_write(mem, at, &flags, 1);
    }
}

static void set_clock(struct clock *clock, const struct machine_state *s) {
    uint64_t real = real_time(), gap = real > s->saved_at ? real - s->saved_at : 0;
    unsigned __int128 ticks;

    if (gap > GAP_MAX)
        gap = 0;
    ticks = (unsigned __int128)gap * s->tsc_hz / NS_PER_SEC;
    clock_restore(clock, s->now + gap, s->tsc + (uint64_t)ticks, s->tsc_hz);
}

static int load_cpus(struct machine *m, const struct snapshot *s, struct error *err) {
    const struct board *b = machine_board(m);
    int code = 0;

    for (unsigned i = 0; i < b->cpus && code == 0; i++) {
        struct cpu *cpu = machine_cpu(m, i);
        const struct snapshot_section *section = NULL;
        struct x86_state state;
        char name[SNAPSHOT_NAME];

        snprintf(name, sizeof(name), "cpu%u", i);
        cpu->ops->get_state(cpu, &state);
        code = find_typed(s, name, &x86_state_desc, &state, &section, err);
        if (section)
            code = state_load(&x86_state_desc, &state, section->data, section->size, err);
        if (code == 0)
            code = cpuid_check_state(&cpu->config, &state, err);
        if (code == 0)
            code = cpu->ops->set_state(cpu, &state, err);
        if (code == 0)
            tell_paused(&machine_board(m)->mem, &state);
        lapic_sync(b->lapic[i]);
    }
    return code;
}

/* What KVM's processor lacks, software may have: auto chooses anew. */
static int choose_cpu(struct machine *m, const struct snapshot *s, struct error *err) {
    struct error why = {0};

    if (!machine_chooses_cpu(m) || !machine_may_use_software(m) || check_cpuid(m, s, &why) == 0)
        return 0;
    error_prefix(&why, "auto: not KVM");
    return machine_use_software(m, why.text, err);
}

static int check_parts(struct machine *m, const struct snapshot *s, struct error *err) {
    const struct board *b = machine_board(m);
    const struct snapshot_section *section = NULL;
    struct x86_state cpu;
    char name[SNAPSHOT_NAME];
    int code = check_cpuid(m, s, err);

    for (unsigned i = 0; i < b->cpus && code == 0; i++) {
        snprintf(name, sizeof(name), "cpu%u", i);
        machine_cpu(m, i)->ops->get_state(machine_cpu(m, i), &cpu);
        code = find_typed(s, name, &x86_state_desc, &cpu, &section, err);
    }
    for (unsigned i = 0; i < b->devices && code == 0; i++)
        if (has_state(s, b->device[i]))
            code = find_typed(s, b->device[i]->name, b->device[i]->cls->state, b->device[i],
                              &section, err);
    return code < 0 ? code : check_rest(m, s, err);
}

static int load_ports(struct machine *m, const struct snapshot *s, struct error *err) {
    const struct machine_config *config = machine_config(m);
    int code = 0;

    for (unsigned i = 0; i < config->nics && code == 0; i++) {
        const struct snapshot_section *section = NULL;
        char name[SNAPSHOT_NAME];

        snprintf(name, sizeof(name), "nic%u.port", i);
        section = snapshot_find(s, name);
        if (section && section->kind == SNAPSHOT_RAW)
            code = net_load(config->nic[i].port, section->data, section->size, err);
    }
    return code;
}

/* Else a guest that comes from a host with fewer features could not go back there. */
static int tell_features(struct machine *m, const struct snapshot *s, struct error *err) {
    const struct snapshot_section *section = snapshot_find(s, "cpuid");
    struct machine_cpuid told = {0};
    int code = state_load(&machine_cpuid_desc, &told, section->data, section->size, err);

    return code < 0 ? code : machine_tell_features(m, told.word, err);
}

int machine_load(struct machine *m, const struct snapshot *s, struct error *err) {
    struct board *b = machine_board(m);
    struct machine_state own;
    int code = check_own(m, s, &own, err);

    if (code == 0)
        code = choose_cpu(m, s, err);
    if (code == 0)
        code = check_parts(m, s, err);
    if (code == 0)
        code = tell_features(m, s, err);
    if (code == 0)
        code = load_ports(m, s, err);
    if (code == 0)
        code = map_memory(&b->mem, s, err);
    if (code < 0)
        return code;
    set_clock(b->clock, &own);
    for (unsigned i = 0; i < b->devices && code == 0; i++) {
        const struct snapshot_section *section = snapshot_find(s, b->device[i]->name);

        if (section)
            code = state_load(b->device[i]->cls->state, b->device[i], section->data, section->size,
                              err);
    }
    if (code == 0)
        code = load_cpus(m, s, err);
    if (code == 0 && b->flash)
        pflash_tell_all(b->flash);
    if (code == 0)
        code = board_new_generation(b, err);
    if (code == 0)
        acpi_pm_gpe(b->pm, MAP_GPE_GENERATION); /* or a copy draws the same random numbers */
    if (code == 0 && own.reset_wanted)
        machine_reset(m);
    return code;
}
