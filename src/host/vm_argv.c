/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a machine's row to the command line of viv-vm. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/cloud.h"
#include "host/image.h"
#include "host/layers.h"
#include "host/snapshot.h"
#include "host/vm.h"
#include "host/vm_devices.h"
#include "host/vm_hardware.h"
#include "host/vm_nics.h"
#include "host/vm_ports.h"
#include "host/volume.h"
#include "host/words.h"
#include "proto/place.h"

enum { MACHINE_JSON_MAX = 1 << 20 }; /* what viv-vm reads of it */

static void add_program(struct words *w) {
    const char *given = getenv("VIV_VM");
    char program[PATH_MAX];

    if (!given || !*given)
        place_program("viv-vm", program);
    words_add(w, "%s", given && *given ? given : program);
}

/* A machine that was broken into writes into its snapshot what it likes. */
static void add_only(struct words *w, const struct store_row *row,
                     const struct image_files *files) {
    const char *cdrom = row_text(row->spec, "cdrom");
    const char *const only[] = {"none", files->kernel, files->initrd, cdrom};

    for (unsigned i = 0; i < sizeof(only) / sizeof(only[0]); i++)
        if (*only[i]) {
            words_add(w, "--restore-only");
            words_add(w, "%s", only[i]);
        }
}

/* From its kernel, by firmware, or from the memory of a snapshot. */
static void add_boot(struct words *w, const struct store_row *row,
                     const struct image_files *files) {
    const json_t *spec = row->spec;

    if (*snapshot_restore(row)) {
        words_add(w, "--restore");
        words_add(w, "memory.%s", snapshot_restore(row));
        if (!strcmp(snapshot_restore(row), row->id)) /* that of another machine */
            words_add(w, "--renew-identity");
        add_only(w, row, files);
        return;
    }
    words_add(w, "--cpus");
    if (row_number(spec, "cpus_max") > row_number(spec, "cpus"))
        words_add(w, "%lld,max=%lld", (long long)row_number(spec, "cpus"),
                  (long long)row_number(spec, "cpus_max"));
    else
        words_add(w, "%lld", (long long)row_number(spec, "cpus"));
    if (strcmp(hardware_boots_by(spec, files), "kernel") != 0)
        return;
    words_add(w, "--kernel");
    words_add(w, "%s", files->kernel);
    if (*files->initrd) {
        words_add(w, "--initrd");
        words_add(w, "%s", files->initrd);
    }
    words_add(w, "--append");
    if (files->oci) /* our init calls the machine so */
        words_add(w, "%s viv.hostname=%s %s", files->append,
                  *row_text(spec, "hostname") ? row_text(spec, "hostname") : row->name,
                  row_text(spec, "append"));
    else
        words_add(w, "%s%s%s", files->append, *row_text(spec, "append") ? " " : "",
                  row_text(spec, "append"));
}

/* A machine that was broken into may have made it as large as the host has room. */
static json_t *load_bounded(const char *path) {
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    json_t *v = NULL;
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= MACHINE_JSON_MAX)
        v = json_loadfd(fd, 0, NULL);
    if (fd >= 0)
        close(fd);
    return v;
}

/* What viv-vm wrote of the machine beside its memory. NULL: it does not go on from memory. */
static json_t *machine_of_memory(const struct manager *m, const struct store_row *row) {
    char path[PATH_MAX];

    if (!*snapshot_restore(row))
        return NULL;
    snprintf(path, sizeof(path), "%.3900s/machines/%s/memory.%s/machine.json", m->home.place.data,
             row->id, snapshot_restore(row));
    return load_bounded(path);
}

/* The words for the volume of the machine that is this file; false: it is another disk. */
static bool find_volume(struct manager *m, const struct store_row *row, const char *path,
                        char *text, size_t size) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(row->spec, "volumes"), i, one) {
        const char *file;

        if (volume_disk(m, row, json_string_value(one), text, size, NULL) < 0)
            continue;
        file = strrchr(text, '/') + 1;
        if (strlen(base) == strcspn(file, ",") && !strncmp(base, file, strlen(base)))
            return true;
    }
    return false;
}

static void add_disk(struct words *w, const char *text) {
    words_add(w, "--disk");
    words_add(w, "%s", text);
}

static int add_remembered(struct words *w, struct manager *m, const struct store_row *row,
                          const json_t *disks, char *const own[], struct error *err) {
    unsigned owns = 0;
    const json_t *one;
    char text[400];
    size_t i;

    json_array_foreach(disks, i, one) {
        const char *path = row_text(one, "path");

        if (find_volume(m, row, path, text, sizeof(text)))
            add_disk(w, text);
        else if (!strstr(path, "/volumes/") && own[owns])
            add_disk(w, own[owns++]);
        else
            return error_set(err, -ENOENT,
                             "the memory that it goes on from knows a disk that it has no more: "
                             "'%.200s'",
                             path);
    }
    return 0;
}

static int add_volumes(struct words *w, struct manager *m, const struct store_row *row,
                       struct error *err) {
    const json_t *one;
    char text[400];
    size_t i;

    json_array_foreach(json_object_get(row->spec, "volumes"), i, one) {
        if (volume_disk(m, row, json_string_value(one), text, sizeof(text), err) < 0)
            return err->code;
        add_disk(w, text);
    }
    return 0;
}

/* Its own disk, that of cloud-init, its volumes. A memory knows them in its order: volumes may have
 * come and gone while the machine ran. */
static int add_disks(struct words *w, struct manager *m, const struct store_row *row,
                     const struct image_files *files, const json_t *memory, struct error *err) {
    const json_t *spec = row->spec, *disks = json_object_get(memory, "disks");
    const char *bus = row_text(spec, "bus");
    char disk[PATH_MAX + 200], limits[VOLUME_LIMITS], seed[] = VM_SEED ",format=raw,readonly",
                                                      *own[3] = {NULL};
    unsigned n = 0;
    int r;

    volume_limits(row_number(spec, "disk_iops"), row_number(spec, "disk_bps"), limits);
    /* Its headers are what the machine says. */
    snprintf(disk, sizeof(disk), "%.80s,format=qcow2,backing=%s%s%.20s%s", snapshot_disk(row),
             layers_base(files), *bus ? ",bus=" : "", bus, limits);
    if (files->has_disk)
        own[n++] = disk;
    if (cloud_wanted(row->spec))
        own[n++] = seed;
    if (disks) {
        r = add_remembered(w, m, row, disks, own, err);
    } else {
        for (unsigned i = 0; i < n; i++)
            add_disk(w, own[i]);
        r = add_volumes(w, m, row, err);
    }
    return r;
}

char **vm_argv(struct manager *m, const struct store_row *row, struct error *err) {
    const json_t *spec = row->spec;
    struct words *w = calloc(1, sizeof(*w));
    struct image_files files;
    json_t *memory;
    int r;

    if (!w || vm_files(m, row, &files, err) < 0) {
        free(w);
        return NULL;
    }
    add_program(w);
    words_add(w, "--name");
    words_add(w, "%s", row->name);
    words_add(w, "--cpu");
    words_add(w, "%s", row_text(spec, "cpu"));
    add_boot(w, row, &files);
    hardware_words(w, row, &files, *snapshot_restore(row));
    memory = machine_of_memory(m, row);
    ports_words(w, spec, memory);
    r = add_disks(w, m, row, &files, memory, err);
    json_decref(memory);
    if (r < 0 || nics_words(m, w, row, err) < 0) {
        vm_argv_free(w->word);
        return NULL;
    }
    if (!*snapshot_restore(row)) /* else they are plugged in when it runs */
        devices_words(w, row);
    words_add(w, "--serial-log");
    words_add(w, VM_SERIAL_LOG);
    words_add(w, "--control");
    words_add(w, "unix:control");
    words_add(w, "--vsock");
    words_add(w, "unix:vsock");
    if (!strcmp(row_text(spec, "power"), "paused"))
        words_add(w, "--paused");
    if (!w->bad)
        return w->word; /* the first member: the same address */
    vm_argv_free(w->word);
    error_set(err, -ENOMEM, "the command line of '%s': out of memory", row->name);
    return NULL;
}

void vm_argv_free(char **argv) {
    for (unsigned i = 0; argv && argv[i]; i++)
        free(argv[i]);
    free(argv);
}
