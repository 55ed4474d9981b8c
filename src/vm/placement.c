/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory, processors and priorities on the host: the options, and what they become. */
#include "vm/placement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/log.h"
#include "proto/units.h"

enum { BLOCK_SHIFT = 21, MAX_TEXT = 400 };
#define MEMORY_MAX (1ll << 40) /* more than a machine may have, and eight of it are a number */

/* ------------------------------------------------------------------ words */

/* "A" or "A-B", both from 0 to `max`; the rest of the text, or NULL. */
static const char *read_range(const char *s, unsigned max, unsigned *ret_first,
                              unsigned *ret_last) {
    unsigned long value[2];

    for (unsigned i = 0; i < 2; i++) {
        char *end;

        if (*s < '0' || *s > '9')
            return NULL;
        value[i] = strtoul(s, &end, 10);
        if (value[i] > max)
            return NULL;
        s = end;
        if (i == 0 && *s != '-')
            value[++i] = value[0];
        else if (i == 0)
            s++;
    }
    if (value[1] < value[0])
        return NULL;
    *ret_first = (unsigned)value[0];
    *ret_last = (unsigned)value[1];
    return s;
}

/* "0-3" and, joined by `joint`, more of these. */
static bool read_bits(const char *s, char joint, unsigned max, uint64_t *bits) {
    unsigned first, last;

    while ((s = read_range(s, max, &first, &last))) {
        for (unsigned i = first; i <= last; i++)
            *bits |= 1ull << i;
        if (!*s)
            return true;
        if (*s++ != joint)
            return false;
    }
    return false;
}

static bool read_set(const char *s, char joint, cpu_set_t *ret) {
    unsigned first, last;

    CPU_ZERO(ret);
    while ((s = read_range(s, CPU_SETSIZE - 1, &first, &last))) {
        for (unsigned i = first; i <= last; i++)
            CPU_SET(i, ret);
        if (!*s || *s == '\n')
            return true;
        if (*s++ != joint)
            return false;
    }
    return false;
}

/* Cuts off the next part of a list. */
static char *next(char **rest, char joint) {
    char *part = *rest, *end = part ? strchr(part, joint) : NULL;

    if (end)
        *end++ = 0;
    *rest = end;
    return part;
}

static const char *value_of(const char *part, const char *key) {
    size_t n = strlen(key);

    return !strncmp(part, key, n) && part[n] == '=' ? part + n + 1 : NULL;
}

/* ------------------------------------------------------------------ --memory */

int placement_memory(struct placement *p, const char *property, struct error *err) {
    static const char *const pages[] = {"thp", "off", "2M", "1G"};
    const char *v = value_of(property, "hugepages"), *thp = value_of(property, "thp"),
               *lock = value_of(property, "lock");
    bool on;

    for (unsigned i = 0; v && i < sizeof(pages) / sizeof(pages[0]); i++)
        if (!strcmp(v, pages[i])) {
            p->backing.pages = (enum mem_pages)i;
            return 0;
        }
    if (v)
        return error_set(err, -EINVAL,
                         "hugepages=%.40s: pages are 2M or 1G of the host's pools, thp (huge where "
                         "the kernel finds some) or off (never huge)",
                         v);
    if (!thp && !lock)
        return -ENOENT;
    v = thp ? thp : lock;
    on = !strcmp(v, "on");
    if (!on && strcmp(v, "off") != 0)
        return error_set(err, -EINVAL, "'%.60s': write on or off", property);
    if (lock)
        p->backing.lock = on;
    else if (p->backing.pages < MEM_PAGES_2M) /* of a pool they are huge in any case */
        p->backing.pages = on ? MEM_PAGES_THP : MEM_PAGES_SMALL;
    return 0;
}

/* ------------------------------------------------------------------ --numa */

static int numa_distance(struct placement *p, unsigned node, const char *v, struct error *err) {
    unsigned to, far, ignored;
    const char *rest = read_range(v, NUMA_MAX_NODES - 1, &to, &ignored);

    if (!rest || *rest != ':' || !(rest = read_range(rest + 1, NUMA_FARTHEST, &far, &ignored)) ||
        *rest || far < NUMA_HERE || to == node)
        return error_set(err, -EINVAL,
                         "distance=%.40s: write NODE:DISTANCE, another node and 10 to 254, as in "
                         "distance=1:21",
                         v);
    p->numa.node[node].distance[to] = (uint8_t)far;
    if (!p->numa.node[to].distance[node])
        p->numa.node[to].distance[node] = (uint8_t)far;
    return 0;
}

static int numa_policy(struct mem_node *n, const char *v, struct error *err) {
    static const char *const names[] = {"bind", "preferred", "interleave"};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(v, names[i])) {
            n->policy = (enum mem_policy)i;
            return 0;
        }
    return error_set(err, -EINVAL, "policy=%.40s: it is bind, preferred or interleave", v);
}

static int numa_memory(struct placement *p, unsigned node, const char *v, struct error *err) {
    int64_t bytes;
    int r = units_read_size(v, &bytes, err);

    if (r < 0)
        return r;
    if (bytes < 0 || bytes > MEMORY_MAX || bytes & ((1 << BLOCK_SHIFT) - 1))
        return error_set(err, -EINVAL,
                         "memory=%.40s: a node's memory is a multiple of 2M, at most 1T", v);
    p->numa.node[node].memory = (uint64_t)bytes;
    p->memory_given[node] = true;
    return 0;
}

static int numa_part(struct placement *p, unsigned node, const char *part, struct error *err) {
    const char *cpus = value_of(part, "cpus"), *memory = value_of(part, "memory"),
               *host = value_of(part, "host-node"), *policy = value_of(part, "policy"),
               *distance = value_of(part, "distance");
    uint64_t bits = 0;

    if (memory)
        return numa_memory(p, node, memory, err);
    if (policy)
        return numa_policy(&p->backing.node[node], policy, err);
    if (distance)
        return numa_distance(p, node, distance, err);
    if (cpus && read_bits(cpus, '+', PLACE_VCPUS - 1, &bits)) {
        p->numa.node[node].cpus |= (uint32_t)bits;
        return 0;
    }
    if (host && read_bits(host, '+', MEM_MAX_HOST_NODES - 1, &bits)) {
        p->backing.node[node].host_nodes |= bits;
        return 0;
    }
    return error_set(err, -EINVAL,
                     "'%.60s': a node has cpus=A-B, memory=SIZE, host-node=N, "
                     "policy=bind|preferred|interleave and distance=NODE:DISTANCE",
                     part);
}

int placement_numa(struct placement *p, const char *text, struct error *err) {
    char copy[MAX_TEXT], *rest = copy, *part;
    const char *v;
    unsigned node, same;
    int r = 0;

    if (strlen(text) >= sizeof(copy))
        return error_set(err, -EINVAL, "it is longer than %d characters", MAX_TEXT);
    snprintf(copy, sizeof(copy), "%s", text);
    part = next(&rest, ',');
    v = value_of(part, "node");
    v = v ? read_range(v, NUMA_MAX_NODES - 1, &node, &same) : NULL;
    if (!v || *v || node != same)
        return error_set(err, -EINVAL, "it begins with node=N, N from 0 to %d, not '%.40s'",
                         NUMA_MAX_NODES - 1, part);
    while (r == 0 && (part = next(&rest, ',')))
        r = numa_part(p, node, part, err);
    if (node >= p->numa.nodes)
        p->numa.nodes = p->backing.nodes = node + 1;
    return r;
}

/* Of all nodes or of none. */
static int share_memory(struct placement *p, uint64_t memory, struct error *err) {
    struct machine_numa *n = &p->numa;
    uint64_t sum = 0, blocks = memory >> BLOCK_SHIFT;
    unsigned given = 0;

    for (unsigned i = 0; i < n->nodes; i++)
        given += p->memory_given[i];
    for (unsigned i = 0; i < n->nodes; i++) {
        if (!given)
            n->node[i].memory = (blocks * (i + 1) / n->nodes - blocks * i / n->nodes)
                                << BLOCK_SHIFT;
        sum += n->node[i].memory;
    }
    if (sum != memory)
        return error_set(err, -EINVAL,
                         "--numa: its nodes have %llu MiB, and the machine's memory is %llu MiB: "
                         "make them the same, or leave memory= out of all nodes",
                         (unsigned long long)(sum >> 20), (unsigned long long)(memory >> 20));
    for (unsigned i = 0; i < n->nodes; i++)
        p->backing.node[i].size = n->node[i].memory;
    return 0;
}

static int share_cpus(struct machine_numa *n, unsigned cpus, struct error *err) {
    uint64_t all = (1ull << cpus) - 1, seen = 0;
    bool given = false;

    for (unsigned i = 0; i < n->nodes; i++)
        given |= n->node[i].cpus != 0;
    for (unsigned i = 0; i < n->nodes; i++) {
        if (!given)
            n->node[i].cpus = (uint32_t)(((1ull << cpus * (i + 1) / n->nodes) - 1) &
                                         ~((1ull << cpus * i / n->nodes) - 1));
        if (seen & n->node[i].cpus)
            return error_set(err, -EINVAL, "--numa: processor %d is in two nodes",
                             __builtin_ctzll(seen & n->node[i].cpus));
        seen |= n->node[i].cpus;
    }
    if (seen == all)
        return 0;
    if (all & ~seen)
        return error_set(err, -EINVAL,
                         "--numa: processor %d is in no node: name it there with cpus=, or leave "
                         "cpus= out of all nodes",
                         __builtin_ctzll(all & ~seen));
    return error_set(err, -EINVAL, "--numa: there is no processor %d: the machine has %u",
                     __builtin_ctzll(seen & ~all), cpus);
}

/* Whose memory is on a node of the host is to run there, too, unless --pin says otherwise. */
static int pin_to_nodes(struct placement *p, unsigned cpus, struct error *err) {
    for (unsigned i = 0; i < p->numa.nodes; i++) {
        uint64_t host = p->backing.node[i].host_nodes;
        cpu_set_t set, one;

        CPU_ZERO(&set);
        for (unsigned n = 0; n < MEM_MAX_HOST_NODES && p->backing.node[i].policy == MEM_BIND; n++) {
            char path[80], line[1024] = "";
            FILE *f;

            if (!(host >> n & 1))
                continue;
            snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", n);
            f = fopen(path, "re");
            if (!f)
                return error_set(err, -EINVAL,
                                 "--numa: the host has no NUMA node %u: 'viv host devices' lists "
                                 "them",
                                 n);
            if (fgets(line, sizeof(line), f) && read_set(line, ',', &one))
                CPU_OR(&set, &set, &one);
            fclose(f);
        }
        if (sched_getaffinity(0, sizeof(one), &one) == 0)
            CPU_AND(&set, &set, &one);
        for (unsigned cpu = 0; CPU_COUNT(&set) && cpu < cpus; cpu++)
            if (p->numa.node[i].cpus >> cpu & 1 && !p->places.vcpu[cpu].pinned) {
                p->places.vcpu[cpu].pinned = p->place = true;
                p->places.vcpu[cpu].cpus = set;
            }
    }
    return 0;
}

int placement_resolve(struct placement *p, unsigned cpus, uint64_t memory, uint64_t memory_max,
                      struct error *err) {
    uint64_t page = mem_page_bytes(p->backing.pages);
    int r = 0;

    if (memory % page || memory_max % page)
        return error_set(err, -EINVAL,
                         "--memory: on pages of 1G it is whole gibibytes, at most as well as at "
                         "the start");
    for (unsigned i = cpus; i < PLACE_VCPUS; i++)
        if (p->pinned >> i & 1)
            return error_set(err, -EINVAL, "--pin: there is no vcpu%u: the machine has %u", i,
                             cpus);
    if (!p->numa.nodes)
        return 0;
    r = share_memory(p, memory, err);
    if (r == 0)
        r = share_cpus(&p->numa, cpus, err);
    return r < 0 ? r : pin_to_nodes(p, cpus, err);
}

/* ------------------------------------------------------------------ --pin, --priority */

/* Whose processors stand behind the `=` of a part, as places. */
static bool read_whom(const char *part, const char *equals, unsigned *first, unsigned *last) {
    *first = 0;
    *last = PLACE_VCPUS - 1;
    if (!strncmp(part, "vcpus=", 6))
        return true;
    if (!strncmp(part, "io=", 3)) {
        *first = *last = PLACE_VCPUS;
        return true;
    }
    return !strncmp(part, "vcpu", 4) && part[4] >= '0' && part[4] <= '9' &&
           read_range(part + 4, PLACE_VCPUS - 1, first, last) == equals;
}

static int pin_part(struct placement *p, const char *part, struct error *err) {
    const char *v = strchr(part, '=');
    unsigned first, last;
    cpu_set_t set;

    if (!v || !read_whom(part, v, &first, &last) || !read_set(v + 1, '+', &set))
        return error_set(err, -EINVAL,
                         "'%.60s': write vcpuN=CPUS, vcpus=CPUS or io=CPUS, where CPUS are "
                         "processors of the host: 2, 0-3 or 0+2",
                         part);
    for (unsigned i = first; i <= last; i++) {
        struct thread_place *t = i < PLACE_VCPUS ? &p->places.vcpu[i] : &p->places.io;

        t->pinned = true;
        t->cpus = set;
        if (i < PLACE_VCPUS && part[4] != 's')
            p->pinned |= 1u << i;
    }
    p->place = true;
    return 0;
}

int placement_pin(struct placement *p, const char *text, struct error *err) {
    char *copy = strdup(text), *rest = copy, *part;
    int r = copy ? 0 : error_set(err, -ENOMEM, "out of memory");

    while (r == 0 && (part = next(&rest, ',')))
        r = pin_part(p, part, err);
    free(copy);
    return r;
}

/* "fifo:10" */
static bool read_priority(const char *s, struct thread_place *t) {
    static const struct {
        const char *name;
        enum place_policy policy;
        int min, max;
    } kinds[] = {{"fifo:", PLACE_FIFO, 1, PLACE_PRIORITY_MAX},
                 {"rr:", PLACE_RR, 1, PLACE_PRIORITY_MAX},
                 {"nice:", PLACE_NICE, -20, 19}};

    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t n = strlen(kinds[i].name);
        char *end;
        long v;

        if (strncmp(s, kinds[i].name, n) != 0)
            continue;
        v = strtol(s + n, &end, 10);
        if (end == s + n || *end || strchr(" +\t", s[n]) || v < kinds[i].min || v > kinds[i].max)
            return false;
        t->policy = kinds[i].policy;
        t->level = (int)v;
        return true;
    }
    return false;
}

int placement_priority(struct placement *p, const char *text, struct error *err) {
    char copy[MAX_TEXT], *rest = copy, *part;

    snprintf(copy, sizeof(copy), "%s", text);
    while ((part = next(&rest, ','))) {
        const char *io = value_of(part, "io");
        struct thread_place t;

        if (!read_priority(io ? io : part, &t))
            return error_set(err, -EINVAL,
                             "'%.60s': write fifo:N or rr:N (real-time, 1 to 99) or nice:N (-20 to "
                             "19), and io= before it for all threads but the processors'",
                             part);
        for (unsigned i = io ? PLACE_VCPUS : 0; i < (io ? PLACE_VCPUS + 1u : PLACE_VCPUS); i++) {
            struct thread_place *to = i < PLACE_VCPUS ? &p->places.vcpu[i] : &p->places.io;

            to->policy = t.policy;
            to->level = t.level;
        }
    }
    p->place = true;
    return 0;
}

/* ------------------------------------------------------------------ snapshots */

/* What the guest was told; where that is on the host is the next host's matter. */
json_t *placement_describe(const struct placement *p) {
    json_t *all = p->numa.nodes ? json_array() : NULL;

    for (unsigned i = 0; all && i < p->numa.nodes; i++) {
        json_t *far = json_array();

        for (unsigned k = 0; k < p->numa.nodes; k++)
            json_array_append_new(far, json_integer(p->numa.node[i].distance[k]));
        json_array_append_new(all, json_pack("{s:I, s:I, s:o}", "cpus",
                                             (json_int_t)p->numa.node[i].cpus, "memory",
                                             (json_int_t)p->numa.node[i].memory, "distance", far));
    }
    return all;
}

int placement_take(struct placement *p, const json_t *v, struct error *err) {
    struct machine_numa n = {.nodes = (unsigned)json_array_size(v)};

    if (!v)
        return 0;
    if (!n.nodes || n.nodes > NUMA_MAX_NODES)
        return error_set(err, -EINVAL, "machine.json: its NUMA nodes are not 1 to %d",
                         NUMA_MAX_NODES);
    for (unsigned i = 0; i < n.nodes; i++) {
        const json_t *node = json_array_get(v, i), *far = json_object_get(node, "distance");
        json_int_t memory = json_integer_value(json_object_get(node, "memory"));

        if (memory < 0 || memory > MEMORY_MAX || memory & ((1 << BLOCK_SHIFT) - 1))
            return error_set(err, -EINVAL, "machine.json: a NUMA node's memory is not whole");
        n.node[i].cpus = (uint32_t)json_integer_value(json_object_get(node, "cpus"));
        n.node[i].memory = (uint64_t)memory;
        p->memory_given[i] = true;
        for (unsigned k = 0; k < n.nodes; k++)
            n.node[i].distance[k] = (uint8_t)json_integer_value(json_array_get(far, k));
    }
    p->numa = n;
    p->backing.nodes = n.nodes;
    return 0;
}

/* ------------------------------------------------------------------ the process */

void placement_limits(const struct placement *p) {
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

    if (p->place)
        place_raise_limits(&p->places);
    if (p->backing.lock)
        setrlimit(RLIMIT_MEMLOCK, &all); /* who may not is told when it does not suffice */
    if (p->backing.pages == MEM_PAGES_SMALL && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) < 0)
        log_warning("huge pages cannot be switched off for this process: %s", strerror(errno));
}

int placement_enter(const struct placement *p, unsigned cpus, struct error *err) {
    return p->place ? place_threads(&p->places, cpus, err) : 0;
}
