/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors of any bytes, and archives with such: what is found lies within them. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/memory_path.h"
#include "host/ova.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        abort();
}

static void read_descriptor(const uint8_t *data, size_t size) {
    struct error e = {0};
    struct ovf *o = malloc(sizeof(*o));
    char *exact = malloc(size + !size); /* nothing behind it may be read */

    check(o && exact);
    memcpy(exact, data, size);
    if (ovf_read(exact, size, o, &e) == 0) {
        check(o->disks <= OVF_FILES);
        for (unsigned i = 0; i < o->disks; i++)
            check(strlen(o->disk[i].file) < OVF_NAME);
    } else {
        check(e.code < 0 && *e.text);
    }
    free(exact);
    free(o);
}

static void read_archive(const uint8_t *data, size_t size) {
    char path[MEMORY_PATH];
    int fd = memory_path(data, size, path), stop = 0;
    int64_t done = 0, of = 0;
    struct transfer t = {.file = path, .done = &done, .of = &of, .stop = &stop};
    struct error e = {0};
    struct ova_disk d;

    if (ova_find(&t, "", &d, &e) == 0)
        check(d.offset <= size && d.size <= size - d.offset);
    else
        check(e.code < 0 && *e.text);
    close(fd);
}

/* Ours is read again as what it says. */
static void write_one(const uint8_t *data, size_t size) {
    char name[64] = {0};
    struct buf out = {0};
    struct error e = {0};
    struct ovf *o = malloc(sizeof(*o));

    memcpy(name, data, size < 63 ? size : 63);
    for (char *p = name; *p; p++)
        if (*p < ' ') /* names of files that have such are not written */
            *p = '_';
    ovf_write(&out, name, name, size, size);
    check(o && ovf_read((char *)out.data, out.len, o, &e) == 0 && o->disks == 1);
    check(!strcmp(o->disk[0].file, name));
    free(o);
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    read_descriptor(data, size);
    read_archive(data, size);
    if (size)
        write_one(data, size);
    return 0;
}
