/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of the options goes into machine.json, and how it comes back. */
#include "vm/restore.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/bytes.h"
#include "base/version.h"
#include "block/block.h"
#include "block/disk.h"
#include "cpu/cpuid.h"
#include "devices/virtio/virtio_blk.h"
#include "machine/boot.h"
#include "machine/map.h"
#include "machine/plug.h"
#include "net/link.h"
#include "state/snapshot.h"
#include "vm/chardev.h"
#include "vm/nics.h"
#include "vm/options.h"
#include "vm/restore_only.h"

/*
 * Calls (main): stat newfstatat readlink lstat getcwd
 */

/* ------------------------------------------------------------------ writing */

/* A path means the same wherever viv-vm is started. NULL for bytes that JSON cannot hold. */
static json_t *absolute(const char *path) {
    char full[PATH_MAX];

    if (!path)
        return json_null();
    return json_string(realpath(path, full) ? full : path);
}

static json_t *text(const char *s) { return s ? json_string(s) : json_null(); }

/* When the image was last written, as decimal nanoseconds: JSON's numbers are too short. */
static json_t *modified(const char *path) {
    struct stat st;
    char number[32];

    if (stat(path, &st) < 0)
        return json_null();
    snprintf(number, sizeof(number), "%lld%09ld", (long long)st.st_mtim.tv_sec,
             (long)st.st_mtim.tv_nsec);
    return json_string(number);
}

/* What the guest knows a disk by. */
static json_t *serial(const struct options *o, unsigned i) {
    return o->disk_serial[i] ? json_string(o->disk_serial[i]) : json_sprintf("disk%u", i);
}

/* Numbers that are free are left out: a restored machine counts anew. */
static json_t *disks(const struct options *o, const struct machine *m, struct block *const *disk) {
    json_t *list = json_array();
    struct machine_site at;

    for (unsigned i = 0; i < o->disks; i++) {
        if (!disk[i])
            continue;
        json_array_append_new(
            list,
            json_pack("{s:o, s:s, s:s, s:i, s:I, s:o, s:o, s:s*, s:s*}", "path",
                      absolute(block_info(disk[i])->path), "format", block_info(disk[i])->format,
                      "properties", options_disk_properties(o->disk_text[i]), "queues",
                      (int)options_disk_queues(o, i), "size", (json_int_t)block_info(disk[i])->size,
                      "modified", modified(block_info(disk[i])->path), "serial", serial(o, i), "id",
                      o->disk_id[i], "device",
                      machine_site_of(m, MACHINE_DISK, i, &at) ? at.device : NULL));
    }
    return list;
}

/* The slots of all functions: those that came and went have left holes. */
static json_t *slots(const struct machine *m) {
    struct machine_site at[MACHINE_MAX_SITES];
    unsigned n = machine_sites(m, at);
    json_t *v = json_object();

    for (unsigned i = 0; i < n; i++)
        json_object_set_new(v, at[i].device, json_integer(at[i].slot));
    return v;
}

static json_t *forwards(const struct options_nic *n) {
    json_t *list = json_array();

    for (unsigned i = 0; i < n->forwards; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:i, s:i}", "protocol", n->forward[i].udp ? "udp" : "tcp",
                            "address", n->forward[i].host, "port", (int)n->forward[i].host_port,
                            "guest_port", (int)n->forward[i].guest_port));
    return list;
}

static json_t *nics(const struct options *o, const struct machine *machine) {
    json_t *list = json_array();
    struct machine_site at;
    char mac[18];

    for (unsigned i = 0; i < o->nics; i++) {
        const uint8_t *m = o->nic[i].mac;

        if (o->nic[i].absent)
            continue;
        snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
                 m[5]);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o, s:o, s:i, s:s, s:o, s:o, s:o, s:s*, s:s*}", "network",
                            o->nic[i].link ? "link" : "user", "mac", mac, "forwards",
                            forwards(&o->nic[i]), "link", absolute(o->nic[i].link), "mtu",
                            (int)nics_mtu(o, i), "model", nics_model_name(o->nic[i].model), "rom",
                            absolute(nics_rom(o, i)), "bootfile", text(o->nic[i].bootfile), "tftp",
                            absolute(o->nic[i].tftp), "id", o->nic[i].id, "device",
                            machine_site_of(machine, MACHINE_NIC, i, &at) ? at.device : NULL));
    }
    return list;
}

static json_t *real_time(void) {
    time_t now = time(NULL);
    char s[40];
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(s, sizeof(s), "%Y-%m-%dT%H:%M:%SZ", &tm);
    return json_string(s);
}

/* What is in the drives now; null: nothing. */
static json_t *cdroms(const struct options *o, struct block *const *cdrom) {
    json_t *list = json_array();

    for (unsigned i = 0; i < o->cdroms; i++)
        json_array_append_new(list, cdrom[i] ? absolute(block_info(cdrom[i])->path) : json_null());
    return list;
}

static json_t *absolute_module(const char *s) {
    size_t n = boot_module_path(s);
    char *path = strndup(s, n), full[PATH_MAX];
    const char *found = path ? realpath(path, full) : NULL;
    json_t *v = found ? json_sprintf("%s%s", found, s + n) : json_string(s);

    free(path);
    return v;
}

/* One is a string, as it was before there could be several. */
static json_t *initrds(const struct options *o) {
    json_t *list;

    if (o->initrds <= 1)
        return o->initrds ? absolute_module(o->initrd[0]) : json_null();
    list = json_array();
    for (unsigned i = 0; i < o->initrds; i++)
        json_array_append_new(list, absolute_module(o->initrd[i]));
    return list;
}

static json_t *cdrom_buses(const struct options *o) {
    json_t *list = json_array();

    for (unsigned i = 0; i < o->cdroms; i++)
        json_array_append_new(list, json_integer(o->cdrom_bus[i]));
    return list;
}

/* Of serial ports and displays: the first one stands by itself, as before there could be others. */
static json_t *all_but_first(const char *const *text, unsigned count) {
    json_t *list = json_array();

    for (unsigned i = 1; i < count; i++)
        json_array_append_new(list, json_string(text[i]));
    return list;
}

static json_t *cdrom_devices(const struct options *o, const struct machine *m) {
    json_t *list = json_array();

    for (unsigned i = 0; i < o->cdroms; i++)
        json_array_append_new(list, json_string(machine_drive_name(m, i)));
    return list;
}

/* For the next reset. */
static json_t *smbios(const struct options *o) {
    json_t *list = json_array();

    for (unsigned i = 0; i < o->smbios_settings; i++)
        json_array_append_new(list, json_pack("[i, s, s]", (int)o->smbios[i].type,
                                              o->smbios[i].name, o->smbios[i].value));
    return list;
}

static json_t *shares(const struct options *o) {
    json_t *list = json_array();

    for (unsigned i = 0; i < o->shares; i++)
        json_array_append_new(list, json_pack("{s:s, s:o, s:b}", "tag", o->share[i].tag, "path",
                                              absolute(o->share[i].path), "readonly",
                                              (int)o->share[i].readonly));
    return list;
}

/* Of machines that are not booted directly. A name stands for what the host has installed. */
static json_t *firmware(const struct options *o) {
    return json_pack("{s:o, s:o, s:b, s:o, s:s*}", "uefi_vars", absolute(o->uefi_vars), "rom",
                     strchr(o->firmware, '/') ? absolute(o->firmware) : text(o->firmware),
                     "boot_menu", (int)o->boot_menu, "boot_order", text(o->boot_order),
                     "boot_first", o->boot_first);
}

char *restore_describe(const struct options *o, const struct machine *m, struct block *const *disk,
                       struct block *const *cdrom, struct error *err) {
    json_t *v = json_pack(
        "{s:s, s:s, s:o, s:o, s:i, s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:s, s:b, "
        "s:b, s:o, s:o, s:o, s:b}",
        "format", "vivarium snapshot 1", "program", "viv-vm " VIVARIUM_VERSION, "saved",
        real_time(), "name", text(o->name), "cpus", (int)machine_cpus(m), "memory",
        (json_int_t)o->memory, "cpu_model", o->cpu_model, "kernel", absolute(o->kernel), "initrd",
        initrds(o), "append", text(o->append), "serial", text(o->serial[0]), "console",
        text(o->console), "vsock", text(o->vsock), "vsock_cid", (json_int_t)o->vsock_cid, "display",
        text(o->display[0]), "vga",
        !options_has_screen(o) ? "none"
        : o->vga               ? o->vga
                               : "std",
        "no_reboot", (int)o->no_reboot, "debug_exit", (int)o->debug_exit, "disks",
        disks(o, m, disk), "nics", nics(o, m), "slots", slots(m), "balloon", (int)o->balloon);
    char *s;

    if (v &&
        ((o->memory_max &&
          json_object_set_new(v, "memory_max", json_integer((json_int_t)o->memory_max)) < 0) ||
         (o->cpus_max && json_object_set_new(v, "cpus_max", json_integer(o->cpus_max)) < 0) ||
         (o->firmware && json_object_set_new(v, "firmware", firmware(o)) < 0) ||
         (o->smm == SMM_ON && json_object_set_new(v, "smm", json_true()) < 0) ||
         (o->hpet && json_object_set_new(v, "hpet", json_true()) < 0) ||
         (o->displays > 1 &&
          json_object_set_new(v, "more_displays", all_but_first(o->display, o->displays)) < 0) ||
         (o->serials > 1 &&
          json_object_set_new(v, "more_serials", all_but_first(o->serial, o->serials)) < 0) ||
         (o->shares && json_object_set_new(v, "shares", shares(o)) < 0) ||
         (o->smbios_settings && json_object_set_new(v, "smbios", smbios(o)) < 0) ||
         (o->cdroms && (json_object_set_new(v, "cdroms", cdroms(o, cdrom)) < 0 ||
                        json_object_set_new(v, "cdrom_devices", cdrom_devices(o, m)) < 0 ||
                        json_object_set_new(v, "cdrom_buses", cdrom_buses(o)) < 0)) ||
         (o->placement.numa.nodes &&
          json_object_set_new(v, "numa", placement_describe(&o->placement)) < 0) ||
         (machine_has_sata(m) &&
          (json_object_set_new(v, "sata", json_true()) < 0 ||
           json_object_set_new(v, "sata_msi", json_boolean(!o->sata_no_msi)) < 0)))) {
        json_decref(v);
        v = NULL;
    }
    s = v ? json_dumps(v, JSON_INDENT(2)) : NULL;
    json_decref(v);
    if (!s)
        error_set(err, -EINVAL,
                  "the machine's configuration cannot be written: a name or path in it is not "
                  "UTF-8; rename that file");
    return s;
}

/* ------------------------------------------------------------------ reading */

static json_t *parse(const struct snapshot *s, struct error *err) {
    json_error_t e;
    json_t *v = json_loads(s->json, 0, &e);

    if (json_is_object(v))
        return v;
    json_decref(v);
    error_set(err, -EINVAL, "snapshot '%s': 'machine.json' is no object of JSON (line %d: %s)",
              s->dir, v ? 1 : e.line, v ? "something else" : e.text);
    return NULL;
}

static int missing(const char *key, struct error *err) {
    return error_set(err, -EINVAL,
                     "machine.json: '%s' is missing or no value of its kind; use another snapshot",
                     key);
}

/* A string may be null. Kept with the options. */
static int take_text(struct options *o, const json_t *v, const char *key, const char **to,
                     struct error *err) {
    const json_t *s = json_object_get(v, key);

    if (!json_is_string(s) && !json_is_null(s))
        return missing(key, err);
    *to = json_is_null(s) ? NULL : options_keep(o, json_string_value(s));
    return *to || json_is_null(s) ? 0 : error_set(err, -ENOMEM, "machine.json: out of memory");
}

static int take_number(const json_t *v, const char *key, int64_t min, int64_t max, int64_t *to,
                       struct error *err) {
    const json_t *n = json_object_get(v, key);

    if (!json_is_integer(n) || json_integer_value(n) < min || json_integer_value(n) > max)
        return missing(key, err);
    *to = json_integer_value(n);
    return 0;
}

/* The same text as the user gave, with the path and format that it came to. */
static int take_disk(struct options *o, const json_t *v, struct error *err) {
    const char *path = json_string_value(json_object_get(v, "path")),
               *format = json_string_value(json_object_get(v, "format")),
               *properties = json_string_value(json_object_get(v, "properties"));
    struct buf text = {0};
    int r;

    if (!path || !format || !properties)
        return missing("path, format or properties of a disk", err);
    for (; *path; path++) {
        buf_put(&text, path, 1);
        if (*path == ',')
            buf_put(&text, ",", 1);
    }
    buf_printf(&text, "%s%s,format=%s", *properties ? "," : "", properties, format);
    buf_put(&text, "", 1);
    r = options_add_disk(o, (const char *)text.data, err);
    buf_done(&text);
    return r;
}

/* A word that may be missing, kept with the options. */
static const char *take_word(struct options *o, const json_t *v, const char *key) {
    const char *s = json_string_value(json_object_get(v, key));

    return s && strlen(s) < 128 ? options_keep(o, s) : NULL;
}

static const char *keep_string(struct options *o, const json_t *v) {
    return json_is_string(v) ? options_keep(o, json_string_value(v)) : NULL;
}

/* What the guest knows disks by, and where they are. Older snapshots tell less. */
static void take_places(struct options *o, const json_t *disks, const json_t *nics) {
    const json_t *v;
    size_t i;

    json_array_foreach(disks, i, v) {
        if (i >= o->disks)
            break;
        o->disk_device[i] = take_word(o, v, "device");
        o->disk_id[i] = take_word(o, v, "id");
        if (!o->disk_serial[i])
            o->disk_serial[i] = take_word(o, v, "serial");
    }
    json_array_foreach(nics, i, v) {
        if (i >= o->nics)
            break;
        o->nic[i].device = take_word(o, v, "device");
        o->nic[i].id = take_word(o, v, "id");
    }
}

static int take_slots(struct options *o, const json_t *slots, struct error *err) {
    const char *name;
    const json_t *v;

    json_object_foreach((json_t *)slots, name, v) {
        struct machine_site *at = &o->site[o->sites];

        if (!json_is_integer(v) || json_integer_value(v) < MAP_FIRST_SLOT ||
            json_integer_value(v) > MAP_LAST_SLOT || strlen(name) >= sizeof(at->device) ||
            o->sites == MACHINE_MAX_SITES)
            return missing("slots", err);
        snprintf(at->device, sizeof(at->device), "%s", name);
        at->slot = (unsigned)json_integer_value(v);
        o->sites++;
    }
    return 0;
}

/* As many as the guest's driver knows, unless somebody has said another number. Snapshots before
 * there could be more than one do not tell. */
static int take_queues(struct options *o, const json_t *list, struct error *err) {
    int r = 0;

    for (unsigned i = 0; r == 0 && i < o->disks; i++) {
        const json_t *v = json_array_get(list, i);
        int64_t n = 1;

        if (json_object_get(v, "queues"))
            r = take_number(v, "queues", 1, VIRTIO_BLK_MAX_QUEUES, &n, err);
        if (r == 0 && !o->disk_queues[i])
            o->disk_queues[i] = (unsigned)n;
    }
    return r;
}

static bool same_time(const char *path, const json_t *then) {
    json_t *now = modified(path);
    bool same = json_equal(now, then);

    json_decref(now);
    return same;
}

/* Looked at before they are opened, which may write to them. */
static int take_disks(struct options *o, const json_t *list, struct error *err) {
    const json_t *v;
    size_t i;
    int r = json_is_array(list) && json_array_size(list) <= MACHINE_MAX_DISKS
                ? 0
                : missing("disks", err);

    json_array_foreach(list, i, v) {
        if (r == 0)
            r = take_disk(o, v, err);
        if (r == 0 && !same_time(o->disk[i].path, json_object_get(v, "modified")))
            r = error_set(
                err, -ESTALE,
                "disk '%s' was written after the snapshot was made, the guest's memory no "
                "longer fits it: give a copy from that time with --disk",
                o->disk[i].path);
    }
    return r;
}

static int take_mac(const json_t *v, uint8_t mac[6], struct error *err) {
    const char *s = json_string_value(json_object_get(v, "mac"));
    unsigned b[6];
    char end;

    if (!s ||
        sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6)
        return missing("mac", err);
    for (unsigned i = 0; i < 6; i++)
        mac[i] = (uint8_t)b[i];
    return 0;
}

static int take_forwards(struct options_nic *n, const json_t *list, struct error *err) {
    const json_t *v;
    size_t i;
    int r = json_is_array(list) && json_array_size(list) <= OPTIONS_MAX_FORWARDS
                ? 0
                : missing("forwards", err);

    if (r < 0)
        return r;
    json_array_foreach(list, i, v) {
        struct net_forward *f = &n->forward[i];
        const char *protocol = json_string_value(json_object_get(v, "protocol")),
                   *address = json_string_value(json_object_get(v, "address"));
        int64_t port = 0, guest_port = 0;

        if (!protocol || !address || strlen(address) >= sizeof(f->host))
            return missing("forwards", err);
        r = take_number(v, "port", 1, 65535, &port, err);
        if (r == 0)
            r = take_number(v, "guest_port", 1, 65535, &guest_port, err);
        if (r < 0)
            return r;
        *f = (struct net_forward){.udp = !strcmp(protocol, "udp"),
                                  .host_port = (uint16_t)port,
                                  .guest_port = (uint16_t)guest_port};
        snprintf(f->host, sizeof(f->host), "%s", address);
        n->forwards++;
    }
    return 0;
}

/* Snapshots from before there were links say nothing of one. */
static int take_link(struct options *o, struct options_nic *n, const json_t *v, struct error *err) {
    int64_t mtu = 0;
    int r = json_object_get(v, "link") ? take_text(o, v, "link", &n->link, err) : 0;

    if (r == 0 && (n->link || json_integer_value(json_object_get(v, "mtu"))))
        r = take_number(v, "mtu", LINK_MTU_MIN, LINK_MTU_MAX, &mtu, err);
    n->mtu = (uint16_t)mtu;
    return r;
}

/* What the guest has before it; snapshots from before there was a choice say nothing of it. */
static int take_model(struct options *o, struct options_nic *n, const json_t *v,
                      struct error *err) {
    const char *model = json_string_value(json_object_get(v, "model"));

    n->model = MACHINE_NIC_VIRTIO;
    if (model && !nics_model_find(model, &n->model))
        return missing("model of the network interface", err);
    n->rom = NULL;
    return json_object_get(v, "rom") ? take_text(o, v, "rom", &n->rom, err) : 0;
}

static int take_boot_servers(struct options *o, struct options_nic *n, const json_t *v,
                             struct error *err) {
    int r = json_object_get(v, "bootfile") ? take_text(o, v, "bootfile", &n->bootfile, err) : 0;

    if (r == 0 && json_object_get(v, "tftp"))
        r = take_text(o, v, "tftp", &n->tftp, err);
    return r;
}

/* One that nobody else has, for who counts on chance: locally administered, not a group's. */
static int random_mac(uint8_t mac[6], struct error *err) {
    mac[0] = 0x52;
    mac[1] = 0x54;
    if (getrandom(mac + 2, 4, 0) == 4)
        return 0;
    return error_set(err, -EIO, "--renew-identity: the host gives no random numbers");
}

/* Interfaces given on the command line keep the guest's addresses, unless they name their own or
 * new ones are wanted. */
static int take_nics(struct options *o, const json_t *list, struct error *err) {
    bool given = options_given(o, "nic");
    const json_t *v;
    size_t i;
    int r =
        json_is_array(list) && json_array_size(list) <= MACHINE_MAX_NICS ? 0 : missing("nics", err);

    if (r < 0)
        return r;
    json_array_foreach(list, i, v) {
        struct options_nic *n = &o->nic[i];

        if (given && i < o->nics && take_model(o, n, v, err) < 0)
            return -EINVAL;
        if (given && (i >= o->nics || n->mac_given))
            continue;
        if (!given)
            *n = (struct options_nic){.forwards = 0};
        r = o->renew_identity ? random_mac(n->mac, err) : take_mac(v, n->mac, err);
        if (r == 0 && !given)
            r = take_forwards(n, json_object_get(v, "forwards"), err);
        if (r == 0 && !given)
            r = take_link(o, n, v, err);
        if (r == 0 && !given)
            r = take_model(o, n, v, err);
        if (r == 0 && !given)
            r = take_boot_servers(o, n, v, err);
        if (r < 0)
            return r;
        if (!given)
            o->nics++;
    }
    return 0;
}

static int take_cdroms(struct options *o, const json_t *v, struct error *err) {
    const json_t *list = json_object_get(v, "cdroms"), *path,
                 *buses = json_object_get(v, "cdrom_buses");
    const char *name;
    size_t i;

    if (options_given(o, "cdrom"))
        return 0;
    if (json_array_size(list) > MACHINE_MAX_CDROMS)
        return missing("cdroms", err);
    json_array_foreach(list, i, path) {
        json_int_t bus = json_integer_value(json_array_get(buses, i));

        /* Snapshots from before there was a choice say nothing. */
        o->cdrom_bus[i] = bus == MACHINE_BUS_SCSI || bus == MACHINE_BUS_IDE ? (enum machine_bus)bus
                                                                            : MACHINE_BUS_SATA;
        name = json_string_value(json_array_get(json_object_get(v, "cdrom_devices"), i));
        o->cdrom_device[i] = name && *name && strlen(name) < 128 ? options_keep(o, name) : NULL;
        o->cdrom[i] = json_is_string(path) ? options_keep(o, json_string_value(path)) : NULL;
        o->cdroms++;
    }
    return 0;
}

static int take_smbios(struct options *o, const json_t *v, struct error *err) {
    const json_t *list = json_object_get(v, "smbios"), *one;
    size_t i;

    if (options_given(o, "smbios"))
        return 0;
    json_array_foreach(list, i, one) {
        const char *name = json_string_value(json_array_get(one, 1)),
                   *value = json_string_value(json_array_get(one, 2));
        json_int_t type = json_integer_value(json_array_get(one, 0));

        if (!name || !value || type < 0 || type > 127 || i >= SMBIOS_SETTINGS ||
            smbios_check((unsigned)type, name, value, err) < 0)
            return missing("smbios", err);
        o->smbios[o->smbios_settings++] =
            (struct smbios_setting){(unsigned)type, options_keep(o, name), options_keep(o, value)};
    }
    return 0;
}

static int take_firmware(struct options *o, const json_t *v, struct error *err) {
    const json_t *f = json_object_get(v, "firmware");
    int r;

    if (!f)
        return 0;
    r = options_given(o, "firmware") ? 0 : take_text(o, f, "rom", &o->firmware, err);
    if (r == 0 && !o->firmware)
        r = missing("rom of the firmware", err);
    if (r == 0 && !options_given(o, "uefi-vars"))
        r = take_text(o, f, "uefi_vars", &o->uefi_vars, err);
    if (r == 0)
        r = take_text(o, f, "boot_order", &o->boot_order, err);
    o->boot_first = take_word(o, f, "boot_first");
    o->boot_menu = json_is_true(json_object_get(f, "boot_menu"));
    return r;
}

static int take_initrds(struct options *o, const json_t *v, struct error *err) {
    const json_t *list = json_object_get(v, "initrd");

    if (options_given(o, "initrd") || json_is_null(list))
        return 0;
    o->initrds = json_is_array(list) ? (unsigned)json_array_size(list) : 1;
    if (o->initrds > MACHINE_MAX_INITRDS)
        return missing("initrd", err);
    for (unsigned i = 0; i < o->initrds; i++) {
        const json_t *s = json_is_array(list) ? json_array_get(list, i) : list;

        if (!json_is_string(s))
            return missing("initrd", err);
        o->initrd[i] = options_keep(o, json_string_value(s));
        if (!o->initrd[i])
            return error_set(err, -ENOMEM, "machine.json: out of memory");
    }
    return 0;
}

/* Snapshots from before there was one say nothing of it. */
static int take_vsock(struct options *o, const json_t *v, struct error *err) {
    int64_t cid = VSOCK_CID_DEFAULT;
    int r;

    if (options_given(o, "vsock") || !json_object_get(v, "vsock"))
        return 0;
    r = take_text(o, v, "vsock", &o->vsock, err);
    if (r == 0)
        r = take_number(v, "vsock_cid", VSOCK_CID_DEFAULT, UINT32_MAX - 1, &cid, err);
    o->vsock_cid = (uint64_t)cid;
    return r;
}

/* A port that the options do not speak of is as it was. */
static int take_serials(struct options *o, const json_t *v, struct error *err) {
    const json_t *more = json_object_get(v, "more_serials");
    unsigned count = 1 + (unsigned)json_array_size(more);
    int r = 0;

    if (!options_given(o, "serial"))
        o->serials = 0;
    if (count > MACHINE_MAX_SERIALS)
        return missing("more_serials", err);
    for (; r == 0 && o->serials < count; o->serials++) {
        const char **to = &o->serial[o->serials];

        if (o->serials == 0)
            r = take_text(o, v, "serial", to, err);
        else
            *to = keep_string(o, json_array_get(more, o->serials - 1));
        if (r == 0 && (!*to || !chardev_spec_valid(*to)))
            r = missing("serial or more_serials", err);
    }
    return r;
}

static int take_shares(struct options *o, const json_t *list, struct error *err) {
    const char *tag, *path;
    const json_t *v;
    size_t i;
    int r = 0;

    if (options_given(o, "share"))
        return 0;
    json_array_foreach(list, i, v) {
        tag = take_word(o, v, "tag");
        path = json_string_value(json_object_get(v, "path"));
        path = path ? options_keep(o, path) : NULL;
        if (!tag || !path)
            return missing("tag or path of a shared folder", err);
        r = options_add_share(o, tag, path, json_is_true(json_object_get(v, "readonly")), err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The display may be another one, or none; the adapter is part of the machine. Older snapshots say
 * nothing of either. */
static int take_screen(struct options *o, const json_t *v, struct error *err) {
    const json_t *more = json_object_get(v, "more_displays"), *one;
    const char *display = NULL;
    size_t i;
    int r = 0;

    if (!options_given(o, "vga")) {
        o->vga = "none";
        if (json_object_get(v, "vga"))
            r = take_text(o, v, "vga", &o->vga, err);
        if (r == 0 && (!o->vga || !options_vga_valid(o->vga)))
            r = missing("vga", err);
    }
    if (r < 0 || options_given(o, "display") || !json_object_get(v, "display"))
        return r;
    r = take_text(o, v, "display", &display, err);
    if (r == 0 && display)
        r = options_set_display(o, display, err);
    json_array_foreach(more, i, one) {
        display = keep_string(o, one);
        if (r == 0)
            r = display ? options_set_display(o, display, err) : missing("more_displays", err);
    }
    return r;
}

static int take_all(struct options *o, const json_t *v, struct error *err) {
    const struct {
        const char *option, *key;
        const char **to;
    } texts[] = {
        {"name", "name", &o->name},          {"cpu-model", "cpu_model", &o->cpu_model},
        {"kernel", "kernel", &o->kernel},    {"append", "append", &o->append},
        {"console", "console", &o->console},
    };
    int64_t cpus = o->cpus, max = o->cpus_max, memory = (int64_t)o->memory,
            memory_max = (int64_t)o->memory_max;
    int r = 0;

    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]) && r == 0; i++)
        if (!options_given(o, texts[i].option))
            r = take_text(o, v, texts[i].key, texts[i].to, err);
    if (r == 0)
        r = take_serials(o, v, err);
    if (r == 0 && (!o->name || !o->cpu_model || (o->console && !chardev_spec_valid(o->console))))
        r = missing("name, cpu_model or console", err);
    if (r == 0)
        r = cpuid_check_model(o->cpu_model, err);
    if (r == 0 && !options_given(o, "cpus"))
        r = take_number(v, "cpus", 1, MACHINE_MAX_CPUS, &cpus, err);
    if (r == 0 && !options_given(o, "cpus") && json_object_get(v, "cpus_max"))
        r = take_number(v, "cpus_max", cpus, MACHINE_MAX_CPUS, &max, err);
    if (r == 0 && !o->memory_sized)
        r = take_number(v, "memory", OPTIONS_MEMORY_MIN, (int64_t)OPTIONS_MEMORY_MAX, &memory, err);
    if (r == 0 && !o->memory_sized && json_object_get(v, "memory_max"))
        r = take_number(v, "memory_max", memory, (int64_t)OPTIONS_MEMORY_MAX, &memory_max, err);
    if (r < 0)
        return r;
    if (memory % (2 << 20) || memory_max % (2 << 20))
        return missing("memory", err);
    if (take_vsock(o, v, err) < 0 || take_screen(o, v, err) < 0 || take_firmware(o, v, err) < 0 ||
        take_initrds(o, v, err) < 0 || take_cdroms(o, v, err) < 0 || take_smbios(o, v, err) < 0 ||
        take_shares(o, json_object_get(v, "shares"), err) < 0)
        return -EINVAL;
    o->cpus = (unsigned)cpus;
    o->cpus_max = (unsigned)max;
    o->memory = (uint64_t)memory;
    o->memory_max = (uint64_t)memory_max;
    o->balloon |= json_is_true(json_object_get(v, "balloon"));
    o->no_reboot |= json_is_true(json_object_get(v, "no_reboot"));
    o->debug_exit |= json_is_true(json_object_get(v, "debug_exit"));
    o->smm = json_is_true(json_object_get(v, "smm")) ? SMM_ON : SMM_OFF;
    o->has_sata = json_is_true(json_object_get(v, "sata"));
    o->sata_no_msi = o->has_sata && !json_is_true(json_object_get(v, "sata_msi"));
    o->hpet = json_is_true(json_object_get(v, "hpet"));
    if (!options_given(o, "numa"))
        r = placement_take(&o->placement, json_object_get(v, "numa"), err);
    if (r == 0 && !options_given(o, "disk"))
        r = take_disks(o, json_object_get(v, "disks"), err);
    if (r == 0)
        r = take_queues(o, json_object_get(v, "disks"), err);
    if (r == 0)
        r = take_nics(o, json_object_get(v, "nics"), err);
    if (r == 0)
        r = take_slots(o, json_object_get(v, "slots"), err);
    if (r == 0)
        take_places(o, json_object_get(v, "disks"), json_object_get(v, "nics"));
    return r;
}

int restore_options(struct options *o, const struct snapshot *s, struct error *err) {
    unsigned serials = options_given(o, "serial") ? o->serials : 0;
    unsigned displays = options_given(o, "display") ? o->displays : 0;
    json_t *v = parse(s, err);
    int r = v ? take_all(o, v, err) : -EINVAL;

    if (r == 0 && o->restore_onlys)
        r = restore_only(o, serials, displays, err);
    json_decref(v);
    return r < 0 && v ? error_prefix(err, "snapshot '%s'", s->dir) : r;
}

/* ------------------------------------------------------------------ disks */

/* A disk given instead of the snapshot's may be an empty overlay on that one, for a clone of its
 * own. What the guest would see then is known to fit its memory, or not to. Of a copy nothing is
 * known. */
static int check_overlay(const char *name, struct block *disk, const json_t *v, struct error *err) {
    const char *base = json_string_value(json_object_get(v, "path")),
               *format = json_string_value(json_object_get(v, "format"));
    int depth = base ? disk_find_layer(disk, base) : -ENOENT, r;

    if (depth <= 0)
        return 0;
    if (!same_time(base, json_object_get(v, "modified")))
        return error_set(err, -ESTALE,
                         "disk '%s' lies on '%s', which was written after the snapshot was made: "
                         "the guest's memory no longer fits it; give a disk on a copy from that "
                         "time",
                         name, base);
    r = disk_layers_hold(disk, (unsigned)depth, err);
    if (r == 1)
        r = error_set(err, -EINVAL,
                      "disk '%s' is not empty: what was written on top of '%s' since the snapshot "
                      "does not fit the guest's memory; make a new one: viv-img create -f qcow2 "
                      "-b '%s' -F %s NEW.qcow2",
                      name, base, base, format ? format : "raw");
    return r;
}

static int check_disk(const struct options *o, unsigned i, struct block *disk, const json_t *v,
                      struct error *err) {
    const struct block_info *info = block_info(disk);
    int64_t size = 0;
    int r = take_number(v, "size", 0, INT64_MAX, &size, err);

    if (r < 0)
        return r;
    if ((uint64_t)size != info->size)
        return error_set(err, -EINVAL,
                         "disk '%s' has %" PRIu64 " bytes, the guest's has %" PRId64
                         ": give the image that the snapshot was made with",
                         o->disk[i].path, info->size, size);
    return options_given(o, "disk") ? check_overlay(o->disk[i].path, disk, v, err) : 0;
}

int restore_check_disks(const struct options *o, struct block *const *disk,
                        const struct snapshot *s, struct error *err) {
    json_t *v = parse(s, err), *list = json_object_get(v, "disks");
    int r = v ? 0 : -EINVAL;

    if (v && json_array_size(list) != o->disks)
        r = error_set(
            err, -EINVAL,
            "snapshot '%s' is of a machine with %zu disks, %u are given with --disk: give "
            "all of them or none",
            s->dir, json_array_size(list), o->disks);
    for (unsigned i = 0; i < o->disks && r == 0; i++)
        r = check_disk(o, i, disk[i], json_array_get(list, i), err);
    json_decref(v);
    return r;
}
