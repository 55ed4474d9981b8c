/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of viv-vm. */
#include "vm/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/man.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_scsi.h"
#include "net/forward.h"
#include "net/link.h"
#include "share/share.h"
#include "vm/chardev.h"
#include "vm/nics.h"

enum { BOOTFILE_MAX = 127 };

/* ---- values ---- */

static int parse_size(const char *s, uint64_t *ret, struct error *err) {
    char *end;
    unsigned long long v;
    unsigned shift = 0;

    errno = 0;
    v = isdigit((unsigned char)*s) ? strtoull(s, &end, 10) : (end = (char *)s, 0ull);
    if (end != s && *end && strchr("kKmMgGtT", *end)) {
        shift = 10 * (1 + (unsigned)(strchr("kmgt", tolower((unsigned char)*end)) - "kmgt"));
        end++;
    }
    if (end == s || *end || errno || v > UINT64_MAX >> shift)
        return error_set(err, -EINVAL,
                         "'%s' is no size: write a number with K, M, G or T, as in 512M", s);
    *ret = (uint64_t)v << shift;
    return 0;
}

static int parse_number(const char *s, unsigned long min, unsigned long max, unsigned long *ret,
                        struct error *err) {
    char *end;
    unsigned long v;

    errno = 0;
    v = isdigit((unsigned char)*s) ? strtoul(s, &end, 10) : (end = (char *)s, 0ul);
    if (end == s || *end || errno || v < min || v > max)
        return error_set(err, -EINVAL, "'%s' is not a number from %lu to %lu", s, min, max);
    *ret = v;
    return 0;
}

char *options_keep(struct options *o, const char *s) {
    char *copy = strdup(s);
    unsigned i = 0;

    while (i < o->copy_count && o->copies[i])
        i++;
    if (!copy || i == sizeof(o->copies) / sizeof(o->copies[0])) {
        free(copy);
        return NULL;
    }
    o->copies[i] = copy;
    if (i == o->copy_count)
        o->copy_count++;
    return copy;
}

void options_drop(struct options *o, const char *s) {
    for (unsigned i = 0; s && i < o->copy_count; i++)
        if (o->copies[i] == s) {
            free(o->copies[i]);
            o->copies[i] = NULL;
        }
}

/* Next comma-separated part; a doubled comma stands for one in a value (file names). */
static char *next_part(char **rest) {
    char *from = *rest, *to = from, *start = from;

    if (!from)
        return NULL;
    for (; *from; from++) {
        if (*from == ',' && from[1] == ',')
            from++;
        else if (*from == ',')
            break;
        *to++ = *from;
    }
    *rest = *from ? from + 1 : NULL;
    *to = 0;
    return start;
}

/* ---- one function an option ---- */

static int set_name(struct options *o, const char *v, struct error *err) {
    if (!*v || strlen(v) > 63)
        return error_set(err, -EINVAL, "a machine's name has 1 to 63 characters");
    o->name = v;
    return 0;
}

static int set_cpus(struct options *o, const char *v, struct error *err) {
    char *copy = strdup(v), *rest = copy, *part = copy ? next_part(&rest) : NULL;
    unsigned long n = 0, max = 0;
    int r;

    if (!copy)
        return error_set(err, -ENOMEM, "out of memory");
    r = parse_number(part ? part : "", 1, MACHINE_MAX_CPUS, &n, err);
    part = r == 0 ? next_part(&rest) : NULL;
    if (part && strncmp(part, "max=", 4) != 0)
        r = error_set(err, -EINVAL, "'%s' is no property of processors: use max=N", part);
    else if (part)
        r = parse_number(part + 4, n, MACHINE_MAX_CPUS, &max, err);
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
    int r = parse_size(text, &n, err);

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
static int set_memory(struct options *o, const char *v, struct error *err) {
    char *copy = strdup(v), *rest = copy, *part = copy ? next_part(&rest) : NULL;
    int r = 0;

    if (!copy)
        return error_set(err, -ENOMEM, "out of memory");
    if (!part || !strchr(part, '=')) {
        r = parse_memory(part ? part : "", 0, &o->memory, err);
        o->memory_max = 0;
        o->memory_sized = true;
        part = NULL;
    }
    while (r == 0 && (part || (part = next_part(&rest)))) {
        r = memory_part(o, part, err);
        part = NULL;
    }
    free(copy);
    return r;
}

static int set_numa(struct options *o, const char *v, struct error *err) {
    return placement_numa(&o->placement, v, err);
}

static int set_pin(struct options *o, const char *v, struct error *err) {
    return placement_pin(&o->placement, v, err);
}

static int set_priority(struct options *o, const char *v, struct error *err) {
    return placement_priority(&o->placement, v, err);
}

static int set_cpu(struct options *o, const char *v, struct error *err) {
    o->cpu = v;
    return cpu_select(v, "it is not tried yet", NULL, 0, err) ? 0 : -EINVAL;
}

static int set_cpu_model(struct options *o, const char *v, struct error *err) {
    o->cpu_model = v;
    return cpuid_check_model(v, err);
}

static int set_kernel(struct options *o, const char *v, struct error *err) {
    o->kernel = v;
    return 0;
}

static int set_initrd(struct options *o, const char *v, struct error *err) {
    if (o->initrds == MACHINE_MAX_INITRDS)
        return error_set(err, -EINVAL, "at most %d initial RAM disks or modules can be given",
                         MACHINE_MAX_INITRDS);
    o->initrd[o->initrds++] = v;
    return *v ? 0 : error_set(err, -EINVAL, "give the path of a file");
}

static int set_firmware(struct options *o, const char *v, struct error *err) {
    o->firmware = v;
    return *v ? 0
              : error_set(err, -EINVAL, "give bios, uefi, uefi-secure or the path of a ROM image");
}

static int set_uefi_vars(struct options *o, const char *v, struct error *err) {
    o->uefi_vars = v;
    return *v ? 0 : error_set(err, -EINVAL, "give the path of a file");
}

static int set_firmware_log(struct options *o, const char *v, struct error *err) {
    o->firmware_log = v;
    return 0;
}

static int set_speaker(struct options *o, const char *v, struct error *err) {
    o->speaker = v;
    return *v ? 0 : error_set(err, -EINVAL, "give the path of a file");
}

static int set_append(struct options *o, const char *v, struct error *err) {
    o->append = v;
    return 0;
}

/* Which of the words the value is; they end with NULL. */
static int parse_word(const char *value, const char *const *words, unsigned *ret) {
    for (unsigned i = 0; words[i]; i++)
        if (!strcmp(words[i], value)) {
            *ret = i;
            return 0;
        }
    return -EINVAL;
}

/* In the order of their enums. */
static const char *const cache_words[] = {"writeback", "none", "unsafe", NULL};
static const char *const engine_words[] = {"auto", "io_uring", "threads", NULL};
static const char *const bus_words[] = {"virtio", "sata", "scsi",
                                        "nvme",   "ide",  NULL}; /* enum machine_bus */
static const char *const discard_words[] = {"unmap", "ignore", NULL};
static const char *const error_words[] = {"enospc", "report", "pause", NULL};
static const char *const switch_words[] = {"off", "on", NULL};

/* iops=N, bps-read=SIZE and so on: where the limit stands, NULL if it is none. */
static uint64_t *find_limit(struct block_limits *l, const char *part, const char **ret_value) {
    static const char *const names[2][3] = {{"iops=", "iops-read=", "iops-write="},
                                            {"bps=", "bps-read=", "bps-write="}};

    for (unsigned what = 0; what < 2; what++)
        for (unsigned kind = 0; kind < 3; kind++)
            if (!strncmp(part, names[what][kind], strlen(names[what][kind]))) {
                *ret_value = part + strlen(names[what][kind]);
                return what ? &l->bps[kind] : &l->iops[kind];
            }
    return NULL;
}

static int set_limit(struct block_limits *l, const char *part, struct error *err) {
    const char *value = part;
    uint64_t *limit = find_limit(l, part, &value);
    unsigned long seconds;

    if (limit)
        return parse_size(value, limit, err);
    if (parse_number(part + strlen("burst="), 0, 3600, &seconds, err) < 0)
        return -EINVAL;
    l->burst_ns = seconds * 1000000000ull;
    return 0;
}

static bool is_limit(const char *part) {
    struct block_limits l;
    const char *value;

    return !strncmp(part, "burst=", 6) || find_limit(&l, part, &value);
}

static int set_log_format(struct options *o, const char *v, struct error *err) {
    if (!log_format_read(v, &o->log_json))
        return error_set(err, -EINVAL, "--log-format is text or json, not '%s'", v);
    return 0;
}

static int set_no_jail(struct options *o, const char *v, struct error *err) {
    o->no_jail = true;
    return 0;
}

static int set_jail_user(struct options *o, const char *v, struct error *err) {
    o->jail_user = v;
    return 0;
}

static int set_queues(unsigned *queues, const char *value, struct error *err) {
    unsigned long n;

    if (parse_number(value, 1, VIRTIO_BLK_MAX_QUEUES, &n, err) < 0)
        return error_prefix(err, "queues=");
    *queues = (unsigned)n;
    return 0;
}

/* What udev makes the name of a link of, among others. */
static int set_disk_serial(struct options *o, const char *value, struct error *err) {
    size_t n = strlen(value);

    if (!n || n > VIRTIO_BLK_SERIAL ||
        strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != n)
        return error_set(err, -EINVAL,
                         "serial=: '%s' is no serial number: use 1 to %d letters, digits, '.', '_' "
                         "and '-'",
                         value, VIRTIO_BLK_SERIAL);
    o->disk_serial[o->disks] = value;
    return 0;
}

static int set_bootindex(unsigned *index, const char *value, struct error *err) {
    unsigned long n;

    if (parse_number(value, 1, 999, &n, err) < 0)
        return error_prefix(err, "bootindex=");
    *index = (unsigned)n;
    return 0;
}

/* TARGET or TARGET:LUN */
static int set_unit(unsigned *unit, const char *value, struct error *err) {
    const char *colon = strchr(value, ':');
    char target[8] = "";
    unsigned long t, lun = 0;

    snprintf(target, sizeof(target), "%.*s", colon ? (int)(colon - value) : 7, value);
    if (parse_number(target, 0, VIRTIO_SCSI_TARGETS - 1, &t, err) < 0 ||
        (colon && parse_number(colon + 1, 0, VIRTIO_SCSI_LUNS - 1, &lun, err) < 0))
        return error_prefix(err, "unit=");
    *unit = (unsigned)(1 + t * VIRTIO_SCSI_LUNS + lun);
    return 0;
}

static int set_disk_part(struct options *o, const char *part, struct error *err) {
    struct block_options *d = &o->disk[o->disks];
    unsigned n;

    if (!strncmp(part, "format=", 7))
        d->format = part + 7;
    else if (!strcmp(part, "readonly"))
        d->readonly = true;
    else if (!strncmp(part, "readonly=", 9) && parse_word(part + 9, switch_words, &n) == 0)
        d->readonly = n;
    else if (!strncmp(part, "cache=", 6) && parse_word(part + 6, cache_words, &n) == 0)
        d->cache = n;
    else if (!strncmp(part, "aio=", 4) && parse_word(part + 4, engine_words, &n) == 0)
        d->engine = n;
    else if (!strncmp(part, "discard=", 8) && parse_word(part + 8, discard_words, &n) == 0)
        d->keep_discarded = n;
    else if (!strncmp(part, "on-error=", 9) && parse_word(part + 9, error_words, &n) == 0)
        d->on_error = n;
    else if (!strncmp(part, "queues=", 7))
        return set_queues(&o->disk_queues[o->disks], part + 7, err);
    else if (!strncmp(part, "serial=", 7))
        return set_disk_serial(o, part + 7, err);
    else if (!strncmp(part, "bus=", 4) && parse_word(part + 4, bus_words, &n) == 0)
        o->disk_bus[o->disks] = n;
    else if (!strncmp(part, "unit=", 5))
        return set_unit(&o->disk_unit[o->disks], part + 5, err);
    else if (!strncmp(part, "bootindex=", 10))
        return set_bootindex(&o->disk_boot[o->disks], part + 10, err);
    else if (is_limit(part))
        return set_limit(&d->limits, part, err) < 0 ? error_prefix(err, "%s", part) : 0;
    else
        return error_set(
            err, -EINVAL,
            "'%s' is no property of a disk: use format=raw|qcow2, readonly, "
            "cache=writeback|none|unsafe, aio=auto|io_uring|threads, "
            "bus=virtio|sata|scsi|nvme|ide, unit=TARGET:LUN (of scsi), bootindex=N, "
            "discard=unmap|ignore, on-error=enospc|report|pause, queues=N, serial=TEXT, "
            "iops=N, bps=SIZE (or iops-read= and so on) or burst=SECONDS",
            part);
    return 0;
}

/* The user chose the name, a guest cannot: it may say the format, where the contents may not. */
static bool named_qcow2(const char *path) {
    size_t n = strlen(path);

    return n > 6 && !strcasecmp(path + n - 6, ".qcow2");
}

static int set_disk(struct options *o, const char *v, struct error *err) {
    struct block_options *d = &o->disk[o->disks];
    char *rest, *part;

    if (o->disks == MACHINE_MAX_DISKS)
        return error_set(err, -EINVAL, "a machine has at most %d disks", MACHINE_MAX_DISKS);
    rest = options_keep(o, v);
    part = next_part(&rest);
    if (!part || !*part)
        return error_set(
            err, -EINVAL,
            "--disk needs the path of an image file first, as in --disk disk.raw,readonly");
    *d = (struct block_options){.path = part};
    o->disk_queues[o->disks] = o->disk_boot[o->disks] = o->disk_unit[o->disks] = 0;
    o->disk_bus[o->disks] = MACHINE_BUS_VIRTIO;
    o->disk_serial[o->disks] = o->disk_id[o->disks] = o->disk_device[o->disks] = NULL;
    o->disk_text[o->disks] = options_keep(o, v);
    if (!o->disk_text[o->disks])
        return error_set(err, -ENOMEM, "out of memory");
    while ((part = next_part(&rest)))
        if (set_disk_part(o, part, err) < 0)
            return -EINVAL;
    d->format_assumed = !d->format;
    if (!d->format)
        d->format = named_qcow2(d->path) ? "qcow2" : "raw";
    if (strcmp(d->format, "raw") != 0 && strcmp(d->format, "qcow2") != 0)
        return error_set(err, -EINVAL,
                         "disk '%s': the format '%s' is not supported: use format=raw or "
                         "format=qcow2; viv-img convert makes either of other formats",
                         d->path, d->format);
    if (o->disk_unit[o->disks] && o->disk_bus[o->disks] != MACHINE_BUS_SCSI)
        return error_set(err, -EINVAL, "disk '%s': unit= needs bus=scsi", d->path);
    o->disks++;
    return 0;
}

int options_add_disk(struct options *o, const char *text, struct error *err) {
    return set_disk(o, text, err);
}

void options_unplug_disk(struct options *o, unsigned i) {
    options_drop(o, o->disk[i].path); /* the start of the text that was taken apart */
    options_drop(o, o->disk_text[i]);
    options_drop(o, o->disk_id[i]);
    options_drop(o, o->disk_device[i]);
    o->disk[i] = (struct block_options){.path = NULL};
    o->disk_text[i] = o->disk_id[i] = o->disk_device[i] = NULL;
}

int options_plug_disk(struct options *o, const char *text, const char *id, struct error *err) {
    unsigned count = o->disks, i = 0;
    int r;

    while (i < count && o->disk[i].path)
        i++;
    o->disks = i;
    r = set_disk(o, text, err);
    o->disks = count;
    if (r == 0 && id && !(o->disk_id[i] = options_keep(o, id)))
        r = error_set(err, -ENOMEM, "out of memory");
    if (r < 0) {
        if (i < MACHINE_MAX_DISKS)
            options_unplug_disk(o, i);
        return r;
    }
    if (i == count)
        o->disks++;
    return (int)i;
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

/* What follows the last comma is the bus, if it is one: names of images may have commas. */
static int set_cdrom(struct options *o, const char *v, struct error *err) {
    const char *comma = strrchr(v, ',');
    enum machine_bus bus = MACHINE_BUS_SATA;
    char *path = options_keep(o, v);
    unsigned word;

    if (o->cdroms == MACHINE_MAX_CDROMS)
        return error_set(err, -EINVAL, "a machine has at most %d optical drives",
                         MACHINE_MAX_CDROMS);
    if (!path)
        return error_set(err, -ENOMEM, "out of memory");
    if (comma && !strncmp(comma, ",bus=", 5) && parse_word(comma + 5, bus_words, &word) == 0 &&
        (word == MACHINE_BUS_SATA || word == MACHINE_BUS_SCSI || word == MACHINE_BUS_IDE)) {
        bus = word;
        path[comma - v] = 0;
    }
    if (!*path)
        return error_set(err, -EINVAL, "give the path of an image, or none for an empty drive");
    o->cdrom_bus[o->cdroms] = bus;
    o->cdrom[o->cdroms++] = strcmp(path, "none") != 0 ? path : NULL;
    return 0;
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

static int set_smbios(struct options *o, const char *v, struct error *err) {
    char *rest = options_keep(o, v), *part = next_part(&rest);
    unsigned long type;

    if (!part || strncmp(part, "type=", 5) != 0 || parse_number(part + 5, 0, 127, &type, err) < 0)
        return error_set(err, -EINVAL, "the type comes first, as in type=1,serial=A-17,uuid=...");
    while ((part = next_part(&rest)))
        if (add_smbios(o, (unsigned)type, part, err) < 0)
            return -EINVAL;
    return 0;
}

static int set_hpet(struct options *o, const char *v, struct error *err) {
    unsigned on;

    if (parse_word(v, switch_words, &on) < 0)
        return error_set(err, -EINVAL, "--hpet is on or off, not '%s'", v);
    o->hpet = on;
    return 0;
}

static int set_smm(struct options *o, const char *v, struct error *err) {
    static const char *const words[] = {"auto", "off", "on", NULL}; /* enum options_smm */
    unsigned which;

    if (parse_word(v, words, &which) < 0)
        return error_set(err, -EINVAL, "--smm is on, off or auto, not '%s'", v);
    o->smm = which;
    return 0;
}

int options_set_boot_order(struct options *o, const char *v, struct error *err) {
    if (!*v || strspn(v, "cdn") != strlen(v))
        return error_set(err, -EINVAL,
                         "order= takes the letters c (disks), d (optical drives) and n (network), "
                         "as in order=dc, not '%s'",
                         v);
    o->boot_order = v;
    return 0;
}

static int set_boot(struct options *o, const char *v, struct error *err) {
    char *rest = options_keep(o, v), *part;
    unsigned on;

    while ((part = next_part(&rest))) {
        if (!strncmp(part, "order=", 6)) {
            if (options_set_boot_order(o, part + 6, err) < 0)
                return -EINVAL;
        } else if (!strncmp(part, "first=", 6) && part[6]) {
            o->boot_first = part + 6;
        } else if (!strncmp(part, "menu=", 5) && parse_word(part + 5, switch_words, &on) == 0) {
            o->boot_menu = on;
        } else {
            return error_set(err, -EINVAL,
                             "'%s' is none of order=LETTERS, first=SERIAL and menu=on|off", part);
        }
    }
    return 0;
}

const char *options_disk_properties(const char *text) {
    for (; *text; text++) {
        if (*text == ',' && text[1] != ',')
            return text + 1;
        text += *text == ',';
    }
    return text;
}

/* A switch's socket; properties follow. */
static int set_link(struct options *o, struct options_nic *n, const char *path, struct error *err) {
    if (!*path || strlen(path) > 107)
        return error_set(err, -EINVAL,
                         "the path of a switch's socket must have 1 to 107 characters, not '%s'",
                         path);
    n->link = path;
    n->mtu = LINK_MTU_MAX;
    return 0;
}

static int set_mtu(struct options_nic *n, const char *s, struct error *err) {
    unsigned long v;

    if (!n->link)
        return error_set(err, -EINVAL, "mtu= belongs to a link: --nic link=PATH,mtu=1500");
    if (parse_number(s, LINK_MTU_MIN, LINK_MTU_MAX, &v, err) < 0)
        return error_prefix(err, "mtu=%s", s);
    n->mtu = (uint16_t)v;
    return 0;
}

/* What belongs to booting over the network. 1: something else. */
static int set_nic_boot(struct options_nic *n, const char *part, struct error *err) {
    const char *value = strchr(part, '=');
    struct stat st;

    if (!strncmp(part, "rom=", 4)) {
        n->no_rom = !strcmp(part, "rom=none");
        n->rom = n->no_rom ? NULL : part + 4;
    } else if (!strncmp(part, "bootfile=", 9)) {
        n->bootfile = part + 9;
    } else if (!strncmp(part, "tftp=", 5)) {
        n->tftp = part + 5;
    } else {
        return 1;
    }
    if (!value[1])
        return error_set(err, -EINVAL, "'%s' lacks its value", part);
    if (n->link && part[0] != 'r')
        return error_set(err, -EINVAL, "'%s': the servers of a link's network say what to boot",
                         part);
    if (n->bootfile && strlen(n->bootfile) > BOOTFILE_MAX)
        return error_set(err, -EINVAL, "bootfile= has at most %d characters in DHCP", BOOTFILE_MAX);
    if (n->tftp && (stat(n->tftp, &st) < 0 || !S_ISDIR(st.st_mode)))
        return error_set(err, -EINVAL, "tftp=%s is no folder", n->tftp);
    return 0;
}

static int set_nic_property(struct options_nic *n, const char *part, struct error *err) {
    int r = set_nic_boot(n, part, err);

    if (r <= 0)
        return r;
    if (!strncmp(part, "model=", 6)) {
        if (nics_model_find(part + 6, &n->model))
            return 0;
        return error_set(err, -EINVAL, "'%s': a network interface is model=virtio or model=e1000e",
                         part);
    }
    n->mac_given |= !strncmp(part, "mac=", 4);
    if (!strncmp(part, "mac=", 4))
        return mac_parse(part + 4, n->mac, err);
    if (!strncmp(part, "mtu=", 4))
        return set_mtu(n, part + 4, err);
    if (strncmp(part, "forward=", 8) != 0)
        return error_set(
            err, -EINVAL,
            "'%s' is no property of a network interface: use mac=, mtu=, forward=, model=, "
            "rom=, bootfile= or tftp=",
            part);
    if (n->link)
        return error_set(err, -EINVAL, "'%s': the switch of a link forwards ports, not the machine",
                         part);
    if (n->forwards == OPTIONS_MAX_FORWARDS)
        return error_set(err, -EINVAL, "a network interface has at most %d forwards",
                         OPTIONS_MAX_FORWARDS);
    return net_forward_parse(part + 8, &n->forward[n->forwards++], err);
}

static int set_nic(struct options *o, const char *v, struct error *err) {
    struct options_nic *n = &o->nic[o->nics];
    char *rest, *part;
    int r = 0;

    if (!strcmp(v, "none"))
        return 0;
    if (o->nics == MACHINE_MAX_NICS)
        return error_set(err, -EINVAL, "a machine has at most %d network interfaces",
                         MACHINE_MAX_NICS);
    /* Stable across runs, as the guest's network configuration may be keyed by it. */
    *n = (struct options_nic){.mac = {0x52, 0x54, 0x00, 0x12, 0x34, (uint8_t)(0x56 + o->nics)}};
    rest = n->kept = options_keep(o, v);
    part = next_part(&rest);
    if (part && !strncmp(part, "link=", 5))
        r = set_link(o, n, part + 5, err);
    else if (!part || strcmp(part, "user") != 0)
        r = error_set(err, -EINVAL,
                      "'%s' is no kind of network: use --nic user, --nic link=PATH or --nic none",
                      part ? part : "");
    while (r == 0 && (part = next_part(&rest)))
        r = set_nic_property(n, part, err);
    if (r < 0)
        return r;
    o->nics++;
    return 0;
}

void options_unplug_nic(struct options *o, unsigned i) {
    options_drop(o, o->nic[i].kept);
    options_drop(o, o->nic[i].id);
    options_drop(o, o->nic[i].device);
    o->nic[i] = (struct options_nic){.absent = true};
}

int options_plug_nic(struct options *o, const char *text, const char *id, struct error *err) {
    unsigned count = o->nics, i = 0;
    int r = strcmp(text, "none") != 0 ? 0 : error_set(err, -EINVAL, "'none' adds no interface");

    while (i < count && !o->nic[i].absent)
        i++;
    o->nics = i;
    if (r == 0)
        r = set_nic(o, text, err);
    o->nics = count;
    if (r == 0 && id && !(o->nic[i].id = options_keep(o, id)))
        r = error_set(err, -ENOMEM, "out of memory");
    if (r < 0) {
        if (i < MACHINE_MAX_NICS)
            options_unplug_nic(o, i);
        return r;
    }
    if (i == count)
        o->nics++;
    return (int)i;
}

static int set_line(const char **to, const char *what, const char *v, struct error *err) {
    if (!chardev_spec_valid(v))
        return error_set(err, -EINVAL,
                         "'%s' is no place for the %s: use stdio, file:PATH, unix:PATH or none", v,
                         what);
    *to = v;
    return 0;
}

static int set_serial(struct options *o, const char *v, struct error *err) {
    if (o->serials == MACHINE_MAX_SERIALS)
        return error_set(err, -EINVAL, "a machine has at most %d serial ports",
                         MACHINE_MAX_SERIALS);
    return set_line(&o->serial[o->serials++], "serial port", v, err);
}

static int set_serial_log(struct options *o, const char *v, struct error *err) {
    if (!*v)
        return error_set(err, -EINVAL, "--serial-log needs the name of a file");
    o->serial_log = v;
    return 0;
}

static int set_console(struct options *o, const char *v, struct error *err) {
    return set_line(&o->console, "console", v, err);
}

static int set_vsock(struct options *o, const char *v, struct error *err) {
    const char *cid = strstr(v, ",cid=");
    size_t length = cid ? (size_t)(cid - v) : strlen(v);
    char *end = NULL, *path;

    if (strncmp(v, "unix:", 5) != 0 || length <= 5)
        return error_set(err, -EINVAL, "'%s' is no place for a vsock: use unix:PATH[,cid=NUMBER]",
                         v);
    path = options_keep(o, v + 5);
    if (!path)
        return error_set(err, -ENOMEM, "--vsock: out of memory");
    path[length - 5] = 0;
    o->vsock = path;
    if (cid) {
        errno = 0;
        o->vsock_cid = strtoull(cid + 5, &end, 10);
        if (cid[5] < '0' || cid[5] > '9' || *end || errno || o->vsock_cid < VSOCK_CID_DEFAULT ||
            o->vsock_cid >= UINT32_MAX)
            return error_set(err, -EINVAL,
                             "'%s' is no address for a guest: cid takes a number from 3 to "
                             "4294967294",
                             cid + 5);
    }
    return 0;
}

int options_add_share(struct options *o, const char *tag, const char *path, bool readonly,
                      struct error *err) {
    if (o->shares == MACHINE_MAX_SHARES)
        return error_set(err, -EINVAL, "at most %d folders can be shared", MACHINE_MAX_SHARES);
    if (!*tag || strlen(tag) > SHARE_TAG_MAX || !*path)
        return error_set(err, -EINVAL,
                         "a shared folder has a tag of 1 to %d characters, by which the guest "
                         "mounts it, and a path: use TAG=PATH[,ro]",
                         SHARE_TAG_MAX);
    for (unsigned i = 0; i < o->shares; i++)
        if (!strcmp(o->share[i].tag, tag))
            return error_set(err, -EINVAL,
                             "two folders have the tag '%s': give one of them another", tag);
    o->share[o->shares++] = (struct options_share){tag, path, readonly};
    return 0;
}

static int set_share(struct options *o, const char *v, struct error *err) {
    char *rest = options_keep(o, v), *tag, *path, *part;
    bool readonly = false;

    if (!rest)
        return error_set(err, -ENOMEM, "out of memory");
    tag = next_part(&rest);
    path = strchr(tag, '=');
    if (!path)
        return error_set(err, -EINVAL, "'%s' has no path: use TAG=PATH[,ro]", v);
    *path++ = 0;
    while ((part = next_part(&rest))) {
        if (strcmp(part, "ro") != 0)
            return error_set(err, -EINVAL,
                             "'%s' is nothing a shared folder knows: ro makes it read-only, and a "
                             "comma in a path is written twice",
                             part);
        readonly = true;
    }
    return options_add_share(o, tag, path, readonly, err);
}

static int set_balloon(struct options *o, const char *v, struct error *err) {
    o->balloon = true;
    return 0;
}

static int set_restore(struct options *o, const char *v, struct error *err) {
    o->restore = v;
    return 0;
}

static int set_renew_identity(struct options *o, const char *v, struct error *err) {
    o->renew_identity = true;
    return 0;
}

static int set_template(struct options *o, const char *v, struct error *err) {
    o->template = true;
    return 0;
}

static int set_prefetch(struct options *o, const char *v, struct error *err) {
    o->prefetch = true;
    return 0;
}

static int set_record_working_set(struct options *o, const char *v, struct error *err) {
    unsigned long seconds;
    int r = parse_number(v, 1, 3600, &seconds, err);

    o->record_working_set = r < 0 ? 0 : (unsigned)seconds;
    return r;
}

static int set_control(struct options *o, const char *v, struct error *err) {
    if (strncmp(v, "unix:", 5) != 0 || !v[5])
        return error_set(err, -EINVAL, "'%s' is no place for a control socket: use unix:PATH", v);
    o->control = v + 5;
    return 0;
}

static int set_paused(struct options *o, const char *v, struct error *err) {
    o->paused = true;
    return 0;
}

bool options_vga_valid(const char *v) {
    return !strcmp(v, "std") || !strcmp(v, "virtio") || !strcmp(v, "none");
}

int options_set_display(struct options *o, const char *text, struct error *err) {
    int r;

    if (o->displays == OPTIONS_MAX_DISPLAYS)
        return error_set(err, -EINVAL, "at most %d --display can be given", OPTIONS_MAX_DISPLAYS);
    r = vnc_options_parse(text, &o->vnc[o->displays], err);
    if (r == 0)
        o->display[o->displays++] = text;
    return r;
}

static int set_display(struct options *o, const char *v, struct error *err) {
    return options_set_display(o, v, err);
}

static int set_vga(struct options *o, const char *v, struct error *err) {
    if (!options_vga_valid(v))
        return error_set(err, -EINVAL, "'%s' is no display adapter: use std, virtio or none", v);
    o->vga = v;
    return 0;
}

static int set_trace(struct options *o, const char *v, struct error *err) {
    if (o->traces == OPTIONS_MAX_TRACES)
        return error_set(err, -EINVAL, "at most %d --trace patterns can be given",
                         OPTIONS_MAX_TRACES);
    o->trace[o->traces++] = v;
    return 0;
}

static int set_no_reboot(struct options *o, const char *v, struct error *err) {
    o->no_reboot = true;
    return 0;
}

static int set_debug_exit(struct options *o, const char *v, struct error *err) {
    o->debug_exit = true;
    return 0;
}

static int set_soft_debug(struct options *o, const char *v, struct error *err) {
    uint32_t off;
    int r = cpu_debug_parse(v, &off, err);

    if (r == 0)
        o->cpu_debug.off |= off;
    return r;
}

static int set_count(struct options *o, const char *v, struct error *err) {
    o->cpu_debug.count = o->cpu_debug.stats = o->stats = true;
    return 0;
}

static int set_perf_map(struct options *o, const char *v, struct error *err) {
    o->cpu_debug.perf_map = true;
    return 0;
}

static int set_dump(struct options *o, const char *v, struct error *err) {
    return cpu_debug_parse_dump(v, &o->cpu_debug, err);
}

static int set_check(struct options *o, const char *v, struct error *err) {
    o->cpu_debug.check = true;
    return 0;
}

static int set_check_all(struct options *o, const char *v, struct error *err) {
    o->cpu_debug.check = o->cpu_debug.check_all = true;
    return 0;
}

static int set_stats(struct options *o, const char *v, struct error *err) {
    o->stats = o->cpu_debug.stats = true;
    return 0;
}

static int set_help(struct options *o, const char *v, struct error *err) {
    o->help = true;
    return 0;
}

static int set_help_man(struct options *o, const char *v, struct error *err) {
    o->help_man = true;
    return 0;
}

static int set_version(struct options *o, const char *v, struct error *err) {
    o->version = true;
    return 0;
}

struct option {
    const char *name, *value; /* value NULL: a switch */
    int (*set)(struct options *o, const char *v, struct error *err);
    const char *help, *example;
};

#define PART_HELP(id, name, help) " " name " (" help ")"

static const struct option table[] = {
    {"name", "N", set_name, "name of the machine, in messages", "--name web"},
    {"log-format", "text|json", set_log_format,
     "how messages are written: json is an object a line with time, level, component, name and "
     "message",
     "--log-format json"},
    {"cpus", "N[,max=M]", set_cpus,
     "number of processors, 1 to 32; may be more than the host has. max: 'viv-ctl PATH cpus-set' "
     "changes it up to there while the guest runs",
     "--cpus 2"},
    {"memory", "SIZE[,max=SIZE][,hugepages=2M|1G|thp|off][,thp=on|off][,lock=on|off]", set_memory,
     "RAM, 16M to 128G; default 512M. max: 'viv-ctl PATH memory-set' changes it up to there while "
     "the guest runs (virtio-mem). hugepages: 2M and 1G are pages of the host's pools, all taken "
     "at once; thp, the default, is huge where the kernel finds some; off, or thp=off, never. "
     "lock=on: it stays in the host's RAM. docs/placement.md says more",
     "--memory 2G,hugepages=2M"},
    {"numa",
     "node=N[,cpus=A-B][,memory=SIZE][,host-node=N][,policy=bind|preferred|interleave]"
     "[,distance=NODE:N]",
     set_numa,
     "a NUMA node of the guest; one option a node. Processors and memory are shared evenly if no "
     "node says what it has. host-node: its memory comes from that node of the host, and its "
     "processors run there",
     "--numa node=0,cpus=0-1,memory=1G,host-node=0 --numa node=1,cpus=2-3,memory=1G,host-node=1"},
    {"pin", "vcpuN=CPUS|vcpus=CPUS|io=CPUS[,...]", set_pin,
     "on which processors of the host the guest's may run, and all other threads (io). CPUS is "
     "2, 0-3 or 0+2",
     "--pin vcpu0=2,vcpu1=3,io=0-1"},
    {"priority", "fifo:N|rr:N|nice:N[,io=...]", set_priority,
     "of the threads of processors, and of all others (io): real-time from 1 to 99, or nice from "
     "-20 to 19",
     "--priority fifo:10,io=fifo:11"},
    {"cpu", "BACKEND", set_cpu,
     "what executes the guest: soft (the translator), ref (the interpreter, exact and slow), kvm "
     "(the "
     "host's processor, docs/kvm.md), or auto; default auto, --stats says what it "
     "chose and why",
     "--cpu ref"},
    {"cpu-model", "MODEL", set_cpu_model,
     "what the guest's CPUID offers: host (all that this host can execute and we implement), "
     "x86-64-v3, x86-64-v2 or x86-64-v1 (the same on every host); default host",
     "--cpu-model x86-64-v2"},
    {"kernel", "FILE", set_kernel,
     "kernel to boot: Linux bzImage, multiboot kernel of version 1 or 2 (may be gzipped), or an "
     "ELF "
     "file with a PVH entry",
     "--kernel vmlinuz"},
    {"initrd", "FILE[ ARGUMENTS]", set_initrd,
     "initial RAM disk for the kernel; may be repeated. Linux gets all as one, a multiboot kernel "
     "each as a module, with the whole text as its string",
     "--initrd initrd.img"},
    {"firmware", "bios|uefi|FILE", set_firmware,
     "instead of a kernel: boot as a PC does, by SeaBIOS (bios), by UEFI firmware (uefi), or by a "
     "ROM image that ends at 4 GiB; docs/firmware.md says more",
     "--firmware bios --disk debian.raw"},
    {"cdrom", "FILE|none[,bus=sata|scsi|ide]", set_cdrom,
     "an optical drive with that image in it, or empty; may be repeated. 'viv-ctl PATH "
     "cdrom-change' changes the medium",
     "--firmware bios --cdrom debian-12-netinst.iso"},
    {"smbios", "type=N[,FIELD=TEXT]...", set_smbios,
     "what the guest's dmidecode shows; may be repeated. Types are 0 (BIOS), 1 (system: "
     "manufacturer, "
     "product, version, serial, uuid, sku, family), 2 (board), 3 (chassis), 4 (processor), 11 (OEM "
     "strings: value) and 17 (memory)",
     "--smbios type=1,serial=A-17,uuid=6f0d3a52-7c1e-4f0a-9d68-2a4c8e1b9f37"},
    {"boot", "order=LETTERS[,first=SERIAL][,menu=on|off]", set_boot,
     "what firmware tries, in this order: c disks, d optical drives, n network; default cdn. "
     "Disks with bootindex= come before, and before all the disk with that serial number (first). "
     "menu=on has the BIOS ask",
     "--boot order=dc"},
    {"uefi-vars", "FILE", set_uefi_vars,
     "keep the variables of UEFI firmware (boot entries, keys) there; a file that is missing is "
     "made. "
     "Without it they end with the machine",
     "--firmware uefi --uefi-vars web.vars"},
    {"firmware-log", "FILE", set_firmware_log,
     "append what firmware writes to its debug port (0x402)", "--firmware-log bios.log"},
    {"append", "STRING", set_append, "command line of the kernel",
     "--append 'root=/dev/vda console=ttyS0'"},
    {"disk",
     "FILE[,format=raw|qcow2][,readonly][,cache=writeback|none|unsafe][,aio=auto|io_uring|threads]"
     "[,discard=unmap|ignore][,on-error=enospc|report|pause][,queues=N][,serial=TEXT]"
     "[,bus=virtio|sata|scsi|nvme|ide][,unit=TARGET[:LUN]][,bootindex=N]"
     "[,iops[-read|-write]=N][,bps[-read|-write]=SIZE][,burst=SECONDS]",
     set_disk,
     "a disk on an image file; may be repeated: vda, vdb ... A comma in the name is written "
     "twice. cache=none goes past the host's cache, cache=unsafe never waits for the disk: a crash "
     "of the host may cost the image. discard=ignore keeps what the guest discards. Failures pause "
     "the "
     "machine if there is no room on the host (on-error=enospc, the default), always (pause) or "
     "never "
     "(report: the guest gets the error). queues, of 1 to 8, is how many the guest may use: one "
     "for each processor without it, but at least two. serial is what Linux calls it by: "
     "/dev/disk/by-id/virtio-TEXT. iops and bps limit requests and bytes a "
     "second; unused "
     "allowance is kept for the burst. docs/disks.md says more",
     "--disk debian.raw --disk data.raw,cache=none,iops=500,burst=10"},
    {"nic",
     "user[,mac=MAC][,forward=tcp|udp:ADDRESS:PORT:GUESTPORT]...[,bootfile=URL][,tftp=FOLDER]|"
     "link=PATH[,mac=MAC][,mtu=N]|none, with [,model=virtio|e1000e][,rom=FILE|none]",
     set_nic,
     "a network interface; may be repeated. user: behind user-mode NAT, with DHCP, 10.0.2.2 "
     "is the host; forwards open ports of the host. link: a cable to the switch (viv-net) whose "
     "socket PATH is, which may come and go; its MTU is 65520 if not given. Default none. bootfile "
     "is what "
     "DHCP tells firmware to boot, tftp a folder that TFTP at 10.0.2.2 shows. rom is an expansion "
     "ROM for firmware; docs/firmware.md says which is there if none is named",
     "--nic user,forward=tcp:127.0.0.1:2222:22"},
    {"serial", "stdio|file:PATH|unix:PATH|none", set_serial,
     "where the first serial port (ttyS0) goes; default stdio. Given again it adds the next one, "
     "up "
     "to four (COM1 to COM4). On stdio, Ctrl-] then q leaves, Ctrl-] twice sends one",
     "--serial unix:/tmp/web.serial"},
    {"serial-log", "FILE", set_serial_log,
     "keeps what the guest says on its first serial port in FILE as well, wherever it goes: the "
     "newest mebibyte, half of it in FILE.old. An earlier log is gone on with",
     "--serial unix:/tmp/web.serial --serial-log /tmp/web.log"},
    {"console", "stdio|file:PATH|unix:PATH|none", set_console,
     "adds a virtio console (hvc0) that goes there",
     "--console unix:/tmp/web.console --serial none"},
    {"balloon", NULL, set_balloon,
     "adds a virtio memory balloon: memory that the guest frees goes back to the host by itself, "
     "and "
     "'viv-ctl PATH balloon-set' takes some of it away for a time",
     "--balloon"},
    {"vsock", "unix:PATH[,cid=NUMBER]", set_vsock,
     "adds a virtio vsock. Programs of the host connect to PATH and say 'CONNECT <port>', a guest "
     "that connects to port N of the host (CID 2) reaches the socket PATH_N; cid is the guest's "
     "own "
     "address, default 3",
     "--vsock unix:/tmp/web.vsock"},
    {"share", "TAG=PATH[,ro]", set_share,
     "shares a folder of the host with the guest, which mounts it with 'mount -t virtiofs TAG "
     "/mnt'; ro: it cannot change anything. May be repeated. docs/share.md says who owns what",
     "--share src=/home/me/src"},
    {"display", "vnc=ADDRESS:PORT|vnc=unix:PATH[,password-file=PATH][,tls=FOLDER]|none",
     set_display,
     "gives the machine a screen, keyboard and mouse; VNC viewers connect there. May be given "
     "twice. The first line of "
     "the file is the password that they must know. tls: everything under TLS, with cert.pem and "
     "key.pem of the folder, made if there are none. none: nobody sees it but 'viv-ctl PATH "
     "screenshot'",
     "--display vnc=127.0.0.1:5900"},
    {"vga", "std|virtio|none", set_vga,
     "the display adapter: std is a VGA with a linear framebuffer (Bochs' display interface), "
     "virtio one for guests with a driver, whose size follows the viewer's window; default std "
     "with --display, else none",
     "--vga std --display none"},
    {"restore", "FOLDER", set_restore,
     "go on with a machine that was saved ('viv-ctl SOCKET snapshot FOLDER'); what other options "
     "do "
     "not say is as it was. --disk, --nic, --serial, --console, --share and --vsock attach "
     "other things of the host",
     "--restore /srv/web.monday --control unix:/tmp/web.ctl"},
    {"renew-identity", NULL, set_renew_identity,
     "with --restore: the network interfaces get new MAC addresses, at random unless --nic says "
     "mac=, and their links go down for some seconds, so that the guest asks for its addresses "
     "again. "
     "For clones that meet each other; docs/snapshot.md says what the guest has to do",
     "--restore /srv/web.monday --renew-identity"},
    {"record-working-set", "SECONDS", set_record_working_set,
     "with --restore: write into the snapshot's folder which of its pages the machine touches in "
     "the "
     "first seconds, for --prefetch",
     "--restore /srv/web.monday --record-working-set 10"},
    {"prefetch", NULL, set_prefetch,
     "with --restore: load the pages that --record-working-set wrote down while the machine runs "
     "already, before it asks for them",
     "--restore /srv/web.monday --prefetch"},
    {"template", NULL, set_template,
     "with --restore and --control: run nothing, but fork a machine from the snapshot for each "
     "'viv-ctl PATH clone', which is quicker than to start viv-vm each time. docs/snapshot.md says "
     "more",
     "--restore /srv/web.monday --template --control unix:/srv/web.template"},
    {"control", "unix:PATH", set_control,
     "listen there for programs that look after the machine: viv-ctl PATH status, pause, resume, "
     "powerdown, reset, quit and more ('viv-ctl --help')",
     "--control unix:/tmp/web.ctl"},
    {"paused", NULL, set_paused, "do not run before 'viv-ctl PATH resume'",
     "--paused --control unix:/tmp/web.ctl"},
    {"speaker", "FILE", set_speaker,
     "write what the PC speaker plays into a WAV file; silence is cut to a second",
     "--speaker beeps.wav"},
    {"hpet", "on|off", set_hpet,
     "high precision event timers, for systems that want them; default off: Linux keeps better "
     "time "
     "by the TSC",
     "--hpet on"},
    {"smm", "on|off|auto", set_smm,
     "system management mode, behind which UEFI firmware keeps the variables of Secure Boot; "
     "default auto: with firmware that needs it",
     "--firmware uefi-secure --smm on"},
    {"no-reboot", NULL, set_no_reboot, "end with code 3 instead when the guest resets or crashes",
     "--no-reboot"},
    {"trace", "PATTERN", set_trace,
     "print trace events whose names match; may be repeated; 'help' lists them",
     "--trace 'virtio_*'"},
    {"no-jail", NULL, set_no_jail,
     "without namespaces and filters around the machine, for debugging: what breaks out of the "
     "guest may do what you may",
     "--no-jail"},
    {"jail-user", "USER", set_jail_user,
     "started by root: become this user, a name, UID or UID:GID; default a number of its own",
     "--jail-user vivarium"},
    {"stats", NULL, set_stats,
     "print counters, and the CPU backend with the reason for it, at the end", "--stats"},
    {"check", NULL, set_check,
     "with --cpu soft: what translated code does is done again by the interpreter and compared, "
     "the "
     "first 64 runs of each piece and one in 61 of the later ones; the first difference is printed "
     "with both states and ends the program with code 1",
     "--cpu soft --check"},
    {"check-all", NULL, set_check_all, "the same for every run, which is very slow",
     "--cpu soft --check-all"},
    {"dump", "guest|host|guest,host[:hot[:N]|:FIRST-LAST]", set_dump,
     "with --cpu soft: print guest instructions and the host's that they became: of the N blocks "
     "that did most (default 10) at the end, or of a range of guest addresses (hexadecimal) as it "
     "is translated",
     "--dump guest,host:ffffffff81000000-ffffffff81000fff"},
    {"count", NULL, set_count,
     "with --cpu soft: --stats with the runs of translated code, the share that was chained, and "
     "how often accesses of each kind hit; counting takes time",
     "--cpu soft --count"},
    {"perf-map", NULL, set_perf_map,
     "with --cpu soft: write /tmp/perf-PID.map, so that 'perf report' names translated code by its "
     "guest address",
     "--cpu soft --perf-map"},
    {"soft-debug", "PART[,PART]...", set_soft_debug,
     "leave parts of the translator out, to find which one is to blame:" CPU_DEBUG_PARTS(
         PART_HELP) ". Each is an option of its own, too",
     "--soft-debug no-chain,no-tier2"},
    {"debug-exit", NULL, set_debug_exit,
     "a 32-bit port at 0xf4: writing v ends the program with exit code (v<<1)|1", "--debug-exit"},
    {"version", NULL, set_version, "print the version and end", "--version"},
    {"help", NULL, set_help, "print this text and end", "--help"},
    {"help-man", NULL, set_help_man, "print this text as a manual page and end",
     "--help-man >viv-vm.1; man ./viv-vm.1"},
};
enum { OPTIONS = sizeof(table) / sizeof(table[0]) };
_Static_assert(OPTIONS <= 64, "options.given has a bit for each");

static const struct option *find_option(const char *arg, const char **ret_value,
                                        struct error *err) {
    size_t n = strcspn(arg, "=");
    const char *ignored;
    uint32_t off;

    for (unsigned i = 0; i < OPTIONS; i++)
        if (strlen(table[i].name) == n && !strncmp(table[i].name, arg, n)) {
            *ret_value = arg[n] ? arg + n + 1 : NULL;
            return &table[i];
        }
    *ret_value = arg; /* --no-chain is --soft-debug no-chain */
    if (!arg[n] && strchr(arg, ',') == NULL && cpu_debug_parse(arg, &off, NULL) == 0)
        return find_option("soft-debug", &ignored, NULL);
    error_set(err, -EINVAL, "there is no option '--%.*s': 'viv-vm --help' lists them all",
              (int)(n < 60 ? n : 60), arg);
    return NULL;
}

/* Another option where a value was due: the value was forgotten. (--opt=VALUE takes any value.) */
static bool is_option(const char *arg) {
    const char *value;

    return !strncmp(arg, "--", 2) && find_option(arg + 2, &value, NULL);
}

static int parse_one(struct options *o, int argc, char **argv, int *i, struct error *err) {
    const char *arg = argv[*i], *value;
    const struct option *opt;
    int r;

    if (strncmp(arg, "--", 2) != 0 || !arg[2])
        return error_set(
            err, -EINVAL,
            "'%.60s' is no option: options begin with --, 'viv-vm --help' lists them all", arg);
    opt = find_option(arg + 2, &value, err);
    if (!opt)
        return -EINVAL;
    if (opt->value && !value) {
        if (*i + 1 >= argc || is_option(argv[*i + 1]))
            return error_set(err, -EINVAL, "--%s needs a value (%s), as in %s", opt->name,
                             opt->value, opt->example);
        value = argv[++*i];
    }
    if (!opt->value && value)
        return error_set(err, -EINVAL, "--%s takes no value", opt->name);
    o->given |= 1ull << (opt - table);
    r = opt->set(o, value, err);
    return r < 0 ? error_prefix(err, "--%s", opt->name) : 0;
}

static int check_nics(const struct options *o, struct error *err) {
    for (unsigned i = 0; i < o->nics; i++)
        for (unsigned k = 0; k < i; k++)
            if (!memcmp(o->nic[i].mac, o->nic[k].mac, sizeof(o->nic[i].mac)))
                return error_set(err, -EINVAL,
                                 "--nic: the interfaces %u and %u have the same MAC address: give "
                                 "one of them another",
                                 k, i);
    return 0;
}

static int check_translator(const struct options *o, struct error *err) {
    const struct cpu_debug *d = &o->cpu_debug;
    bool asked = d->check || d->dump || d->off || d->count || d->perf_map;

    if (asked && cpu_select(o->cpu, "it is not looked into", NULL, 0, err) != &cpu_soft_ops)
        return error_set(err, -EINVAL,
                         "--check, --dump, --count, --perf-map and --soft-debug look into the "
                         "translator, which does not "
                         "run this machine: use --cpu soft");
    if (d->check && options_all_cpus(o) > 1)
        return error_set(err, -EINVAL,
                         "--check runs each block twice, which other processors would see: use "
                         "--cpus 1");
    return 0;
}

/* Serial ports, and behind them the console: no two have the same place. */
static int check_lines(const struct options *o, struct error *err) {
    for (unsigned i = 0; i < o->serials; i++)
        for (unsigned k = i + 1; k <= o->serials; k++) {
            const char *other = k < o->serials ? o->serial[k] : o->console;

            if (other && !strcmp(o->serial[i], other) && strcmp(other, "none") != 0)
                return error_set(err, -EINVAL,
                                 "--serial and %s both want %s: give one of them "
                                 "another place",
                                 k < o->serials ? "another --serial" : "--console", other);
        }
    return 0;
}

static int check(const struct options *o, struct error *err) {
    bool viewers = false;

    if (o->help || o->help_man || o->version)
        return 0;
    for (unsigned i = 0; i < o->traces; i++)
        if (!strcmp(o->trace[i], "help"))
            return 0;
    if (!o->kernel && !o->firmware && !o->restore)
        return error_set(err, -EINVAL,
                         "there is nothing to boot: give a kernel with --kernel FILE, firmware "
                         "with --firmware bios or uefi, or a snapshot with --restore FOLDER");
    if (o->kernel && o->firmware)
        return error_set(err, -EINVAL,
                         "--kernel boots without firmware: leave --firmware out, or have it boot "
                         "from a disk");
    if (o->uefi_vars && !o->restore && (!o->firmware || !strcmp(o->firmware, "bios")))
        return error_set(
            err, -EINVAL,
            "--uefi-vars keeps the variables of UEFI firmware: give it with --firmware "
            "uefi");
    if (o->smm == SMM_ON && !o->firmware && !o->restore)
        return error_set(err, -EINVAL,
                         "--smm on is for firmware: give it with --firmware uefi-secure");
    if (o->firmware && (o->initrds || o->append))
        return error_set(err, -EINVAL,
                         "--initrd and --append belong to --kernel: firmware boots what is on the "
                         "disks, with its own settings");
    if (check_lines(o, err) < 0)
        return -EINVAL;
    for (unsigned i = 0; i < o->displays; i++)
        viewers |= o->vnc[i].on;
    if (viewers && !options_has_screen(o))
        return error_set(err, -EINVAL,
                         "--display shows a screen, and --vga none takes it away: leave one of "
                         "the two out");
    if (o->template && (!o->restore || !o->control))
        return error_set(err, -EINVAL,
                         "--template forks machines from a snapshot for those who ask at a socket: "
                         "give it with --restore FOLDER and --control unix:PATH");
    if ((o->prefetch || o->record_working_set) && !o->restore)
        return error_set(err, -EINVAL,
                         "--prefetch and --record-working-set are about the pages of a snapshot: "
                         "give one with --restore FOLDER");
    if (o->prefetch && o->record_working_set)
        return error_set(err, -EINVAL,
                         "--prefetch would load pages that --record-working-set then takes for "
                         "touched: give one of the two");
    if (o->renew_identity && !o->restore)
        return error_set(err, -EINVAL,
                         "--renew-identity is for machines that go on with a snapshot: give it "
                         "with --restore FOLDER, or give --nic user,mac=MAC");
    if (o->paused && !o->control)
        return error_set(err, -EINVAL,
                         "--paused leaves nobody who could resume the machine: give it --control");
    return check_translator(o, err) < 0 ? -EINVAL : check_nics(o, err);
}

int options_parse(struct options *o, int argc, char **argv, struct error *err) {
    *o = (struct options){.name = "",
                          .cpu = "auto",
                          .cpu_model = "host",
                          .vsock_cid = VSOCK_CID_DEFAULT,
                          .cpus = 1,
                          .memory = 512ull << 20};
    for (int i = 1; i < argc; i++) {
        int r = parse_one(o, argc, argv, &i, err);
        if (r < 0)
            return r;
    }
    if (!o->serials)
        o->serial[o->serials++] = "stdio";
    return check(o, err);
}

bool options_has_screen(const struct options *o) {
    return o->vga ? strcmp(o->vga, "none") != 0 : o->displays > 0;
}

bool options_given(const struct options *o, const char *name) {
    for (unsigned i = 0; i < OPTIONS; i++)
        if (!strcmp(table[i].name, name))
            return o->given >> i & 1;
    return false;
}

void options_done(struct options *o) {
    while (o->copy_count)
        free(o->copies[--o->copy_count]);
}

/* What stands before and behind the table, in --help and in the manual page. */
static const char usage[] = "viv-vm --kernel FILE [OPTION]...";
static const char example[] =
    "viv-vm --memory 1G --kernel vmlinuz --initrd initrd.img \\\n"
    "    --append 'root=LABEL=root console=ttyS0' --disk debian12.raw \\\n"
    "    --nic user,forward=tcp:127.0.0.1:2222:22\n";
static const struct {
    const char *what, *meaning;
} signals[] =
    {
        {"SIGTERM, SIGHUP",
         "press the guest's power button; the second one ends the program with code 1"},
        {"SIGUSR1", "goes on after a pause for a failure of a disk (--disk, on-error)"},
        {"SIGINT", "ends the program with code 1; the guest is not shut down"},
},
  codes[] = {
      {"0", "the guest powered off, or the user left with Ctrl-] q"},
      {"1", "viv-vm itself failed, or was ended by a signal"},
      {"2", "a bad option, or a file that cannot be used"},
      {"3", "under --no-reboot: the guest crashed (triple fault, panic) or asked for a reset"},
      {"other", "what the guest wrote to the port of --debug-exit"},
};

void options_help(FILE *f) {
    fprintf(f, "viv-vm runs one virtual machine.\n\nusage: %s\n\n", usage);
    for (unsigned i = 0; i < OPTIONS; i++)
        fprintf(f, "  --%s%s%s\n      %s.\n      example: %s\n", table[i].name,
                table[i].value ? " " : "", table[i].value ? table[i].value : "", table[i].help,
                table[i].example);
    fprintf(
        f,
        "\nA Debian guest with its disk, its network, and its ssh on port 2222 of this host:\n  %s",
        example);
    fprintf(f, "\nSignals:\n");
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        fprintf(f, "  %-16s%s\n", signals[i].what, signals[i].meaning);
    fprintf(f, "\nExit codes:\n");
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        fprintf(f, "  %-7s%s\n", codes[i].what, codes[i].meaning);
}

void options_help_man(FILE *f) {
    char name[40];

    man_begin(f, "viv-vm", "run one virtual machine", usage + strlen("viv-vm "));
    fputs(".SH OPTIONS\n", f);
    for (unsigned i = 0; i < OPTIONS; i++) {
        snprintf(name, sizeof(name), "--%s", table[i].name);
        man_item(f, name, table[i].value, table[i].help);
        fputs(".br\nExample: \n.B \"", f);
        man_text(f, table[i].example);
        fputs("\"\n", f);
    }
    fputs(".SH EXAMPLE\nA Debian guest with its disk, its network, and its ssh on port 2222 of "
          "this host:\n.PP\n.nf\n",
          f);
    man_text(f, example);
    fputs(".fi\n.SH SIGNALS\n", f);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        man_item(f, signals[i].what, NULL, signals[i].meaning);
    fputs(".SH EXIT STATUS\n", f);
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        man_item(f, codes[i].what, NULL, codes[i].meaning);
}
