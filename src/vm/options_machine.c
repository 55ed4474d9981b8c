/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of the machine itself: processors, memory, where it is on the host, small devices. */
#include "vm/options_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "devices/virtio/virtio_blk.h"

int option_name(struct options *o, const char *v, struct error *err) {
    if (!*v || strlen(v) > 63)
        return error_set(err, -EINVAL, "a machine's name has 1 to 63 characters");
    o->name = v;
    return 0;
}

int option_cpus(struct options *o, const char *v, struct error *err) {
    char *copy = strdup(v), *rest = copy, *part = copy ? option_next_part(&rest) : NULL;
    unsigned long n = 0, max = 0;
    int r;

    if (!copy)
        return error_set(err, -ENOMEM, "out of memory");
    r = option_parse_number(part ? part : "", 1, MACHINE_MAX_CPUS, &n, err);
    part = r == 0 ? option_next_part(&rest) : NULL;
    if (part && strncmp(part, "max=", 4) != 0)
        r = error_set(err, -EINVAL, "'%s' is no property of processors: use max=N", part);
    else if (part)
        r = option_parse_number(part + 4, n, MACHINE_MAX_CPUS, &max, err);
    if (r == 0 && rest)
        r = error_set(err, -EINVAL, "'%s' is too much: write 2,max=8", v);
    free(copy);
    if (r < 0)
        return r;
    o->cpus = (unsigned)n;
    o->cpus_max = (unsigned)max;
    return 0;
}

/* Whole blocks of 2 MiB. */
static int parse_memory(const char *text, uint64_t min, uint64_t *ret, struct error *err) {
    uint64_t n;
    int r = option_parse_size(text, &n, err);

    if (r < 0)
        return r;
    if (n < OPTIONS_MEMORY_MIN || n > OPTIONS_MEMORY_MAX)
        return error_set(err, -EINVAL, "a machine's memory is from 16M to 128G, not %s", text);
    n = (n + (2 << 20) - 1) & ~((2ull << 20) - 1);
    if (n < min)
        return error_set(err, -EINVAL, "max=%s is less than the memory at the start", text);
    *ret = n;
    return 0;
}

static int memory_part(struct options *o, const char *part, struct error *err) {
    int r = placement_memory(&o->placement, part, err);

    if (r != -ENOENT)
        return r;
    if (!strncmp(part, "max=", 4) && o->memory_max)
        return error_set(err, -EINVAL, "'%s' is too much: it has a max= already", part);
    if (!strncmp(part, "max=", 4))
        return parse_memory(part + 4, o->memory, &o->memory_max, err);
    return error_set(err, -EINVAL,
                     "'%s' is no property of memory: there are max=SIZE, hugepages=2M|1G|thp|off, "
                     "thp=on|off and lock=on|off",
                     part);
}

/* A restored machine's size is known, and left out if only its kind is to be another. */
int option_memory(struct options *o, const char *v, struct error *err) {
    char *copy = strdup(v), *rest = copy, *part = copy ? option_next_part(&rest) : NULL;
    int r = 0;

    if (!copy)
        return error_set(err, -ENOMEM, "out of memory");
    if (!part || !strchr(part, '=')) {
        r = parse_memory(part ? part : "", 0, &o->memory, err);
        o->memory_max = 0;
        o->memory_sized = true;
        part = NULL;
    }
    while (r == 0 && (part || (part = option_next_part(&rest)))) {
        r = memory_part(o, part, err);
        part = NULL;
    }
    free(copy);
    return r;
}

int option_numa(struct options *o, const char *v, struct error *err) {
    return placement_numa(&o->placement, v, err);
}

int option_pin(struct options *o, const char *v, struct error *err) {
    return placement_pin(&o->placement, v, err);
}

int option_priority(struct options *o, const char *v, struct error *err) {
    return placement_priority(&o->placement, v, err);
}

int option_cpu(struct options *o, const char *v, struct error *err) {
    o->cpu = v;
    return cpu_select(v, "it is not tried yet", NULL, 0, err) ? 0 : -EINVAL;
}

int option_cpu_model(struct options *o, const char *v, struct error *err) {
    o->cpu_model = v;
    return cpuid_check_model(v, err);
}

int option_dirty_log(struct options *o, const char *v, struct error *err) {
    static const char *const ways[] = {
        [DIRTY_AUTO] = "auto", [DIRTY_OFF] = "off", [DIRTY_LOG] = "on", [DIRTY_RING] = "ring"};
    size_t n = strcspn(v, ",");

    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        if (!strncmp(ways[i], v, n) && !ways[i][n] && (!v[n] || !strcmp(v + n, ",prove"))) {
            o->dirty = (enum dirty_way)i;
            o->dirty_prove = v[n];
            return 0;
        }
    return error_set(err, -EINVAL,
                     "'%s' is no way to know what is written; use auto, on, ring or "
                     "off, and ,prove to compare all the same",
                     v);
}

int option_speaker(struct options *o, const char *v, struct error *err) {
    o->speaker = v;
    return *v ? 0 : error_set(err, -EINVAL, "give the path of a file");
}

unsigned options_all_cpus(const struct options *o) { return o->cpus_max ? o->cpus_max : o->cpus; }

/* Linux puts an I/O scheduler and a kernel thread before a disk with one queue, and nothing before
 * one with more: two, of which one processor uses one, are what makes its requests cheap. */
unsigned options_disk_queues(const struct options *o, unsigned disk) {
    unsigned n = options_all_cpus(o) < 2 ? 2 : options_all_cpus(o);

    if (o->disk_queues[disk])
        return o->disk_queues[disk];
    return n < VIRTIO_BLK_MAX_QUEUES ? n : VIRTIO_BLK_MAX_QUEUES;
}

static int add_smbios(struct options *o, unsigned type, char *part, struct error *err) {
    char *equals = strchr(part, '=');

    if (!equals)
        return error_set(err, -EINVAL, "'%s' is no field: write serial=TEXT, for example", part);
    if (o->smbios_settings == SMBIOS_SETTINGS)
        return error_set(err, -EINVAL, "at most %d fields can be set", SMBIOS_SETTINGS);
    *equals = 0;
    o->smbios[o->smbios_settings++] = (struct smbios_setting){type, part, equals + 1};
    return smbios_check(type, part, equals + 1, err);
}

int option_smbios(struct options *o, const char *v, struct error *err) {
    char *rest = options_keep(o, v), *part = option_next_part(&rest);
    unsigned long type;

    if (!part || strncmp(part, "type=", 5) != 0 ||
        option_parse_number(part + 5, 0, 127, &type, err) < 0)
        return error_set(err, -EINVAL, "the type comes first, as in type=1,serial=A-17,uuid=...");
    while ((part = option_next_part(&rest)))
        if (add_smbios(o, (unsigned)type, part, err) < 0)
            return -EINVAL;
    return 0;
}

int option_hpet(struct options *o, const char *v, struct error *err) {
    unsigned on;

    if (option_parse_word(v, option_switch_words, &on) < 0)
        return error_set(err, -EINVAL, "--hpet is on or off, not '%s'", v);
    o->hpet = on;
    return 0;
}

int option_smm(struct options *o, const char *v, struct error *err) {
    static const char *const words[] = {"auto", "off", "on", NULL}; /* enum options_smm */
    unsigned which;

    if (option_parse_word(v, words, &which) < 0)
        return error_set(err, -EINVAL, "--smm is on, off or auto, not '%s'", v);
    o->smm = which;
    return 0;
}

int option_balloon(struct options *o, const char *v, struct error *err) {
    o->balloon = true;
    return 0;
}
