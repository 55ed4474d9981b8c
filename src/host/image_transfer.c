/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Imports and exports of images: the disk, its checksum, and the kernel beside it. */
#include "host/image_transfer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/image_known.h"
#include "host/manager.h"
#include "host/oci_import.h"
#include "host/transfer.h"
#include "host/tree.h"

struct image_transfer {
    struct transfer t;
    char file[PATH_MAX], kernel[PATH_MAX], initrd[PATH_MAX], disk[PATH_MAX];
    char format[16], sum[SHA256_TEXT], reference[OCI_NAME], new_initrd[PATH_MAX];
    struct oci_import oci;
    char boot_kernel[PATH_MAX], boot_initrd[PATH_MAX];
    const char *stage; /* atomic */
};

struct image_transfer *image_transfer_new(const json_t *what, const char *disk, int64_t *done,
                                          int64_t *of, const int *stop) {
    struct image_transfer *t = calloc(1, sizeof(*t));

    if (!t)
        abort();
    snprintf(t->file, sizeof(t->file), "%s", row_text(what, "file"));
    snprintf(t->format, sizeof(t->format), "%s", row_text(what, "format"));
    snprintf(t->kernel, sizeof(t->kernel), "%s", row_text(what, "kernel"));
    snprintf(t->initrd, sizeof(t->initrd), "%s", row_text(what, "initrd"));
    snprintf(t->reference, sizeof(t->reference), "%s", row_text(what, "reference"));
    snprintf(t->disk, sizeof(t->disk), "%s", disk);
    snprintf(t->new_initrd, sizeof(t->new_initrd), "%.*s/%s",
             (int)(strrchr(t->disk, '/') - t->disk), t->disk, image_file_names[IMAGE_INITRD]);
    t->t = (struct transfer){.file = t->file,
                             .format = t->format,
                             .reference = t->reference,
                             .disk = t->disk,
                             .done = done,
                             .of = of,
                             .stop = stop,
                             .found = ""};
    t->stage = "copying";
    return t;
}

void image_transfer_free(struct image_transfer *t) { free(t); }

static void set_stage(struct image_transfer *t, const char *stage) {
    __atomic_store_n(&t->stage, stage, __ATOMIC_RELAXED);
}

const char *image_transfer_stage(const struct image_transfer *t) {
    return __atomic_load_n(&t->stage, __ATOMIC_RELAXED);
}

static int take_file(struct image_transfer *t, const char *from, int folder, unsigned which,
                     struct error *err) {
    if (!*from)
        return 0;
    return tree_copy(from, folder, image_file_names[which], t->t.done, t->t.stop, err);
}

void image_transfer_boot(struct image_transfer *t, const char *kernel, const char *initrd) {
    snprintf(t->boot_kernel, sizeof(t->boot_kernel), "%s", kernel);
    snprintf(t->boot_initrd, sizeof(t->boot_initrd), "%s", initrd);
}

/* Of an OCI image there is a disk, a kernel and an initramfs of our own. */
static void import_oci(struct image_transfer *t, int folder, struct error *err) {
    const char *kernel = *t->kernel ? t->kernel : t->boot_kernel;

    t->oci = (struct oci_import){.reference = t->reference,
                                 .modules = *t->kernel ? t->initrd : t->boot_initrd,
                                 .initrd = t->new_initrd};
    if (!*kernel || !*t->oci.modules) {
        error_set(err, -ENOENT,
                  "a machine made of an OCI image runs the kernel of the image 'tiny', "
                  "which is not there: make it first (viv image build tiny)");
        return;
    }
    if (take_file(t, kernel, folder, IMAGE_KERNEL, err) == 0 &&
        oci_import(&t->t, &t->oci, err) == 0 && fsync(folder) < 0)
        error_set(err, -errno, "the image's folder cannot be written: %s", strerror(errno));
}

void image_import(struct image_transfer *t, int folder, struct error *err) {
    if (!strcmp(t->format, "oci") || (!*t->format && oci_import_is(t->file))) {
        import_oci(t, folder, err);
        return;
    }
    if (take_file(t, t->kernel, folder, IMAGE_KERNEL, err) < 0 ||
        take_file(t, t->initrd, folder, IMAGE_INITRD, err) < 0 || transfer_import(&t->t, err) < 0)
        return;
    set_stage(t, "computing its checksum");
    if (transfer_checksum(&t->t, t->sum, err) == 0 && fsync(folder) < 0)
        error_set(err, -errno, "the image's folder cannot be written: %s", strerror(errno));
}

void image_export(struct image_transfer *t, struct error *err) { transfer_export(&t->t, err); }

void image_transfer_note(const struct image_transfer *t, struct store_row *row) {
    const char *name = strrchr(t->file, '/');
    char title[200];

    snprintf(title, sizeof(title), "imported from %.150s (%s)", name ? name + 1 : t->file,
             t->t.found);
    if (*t->oci.digest)
        snprintf(title, sizeof(title), "OCI image %.100s of %.80s", t->oci.name,
                 name ? name + 1 : t->file);
    row_set_text(row->status, "title", title);
    row_set_text(row->status, "sha256", *t->sum ? t->sum : NULL);
    row_set_text(row->status, "digest", *t->oci.digest ? t->oci.digest : NULL);
}
