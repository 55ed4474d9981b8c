/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The library of images. An image is a folder, images/ID/, that never changes once it is ready:
 * disk.raw (unless it has none), vmlinuz, initrd.img, and a key that its root accepts. One that was
 * imported has the kernel that was given with it. Members of a row's `wanted`:
 *   export      {file, format}: where its disk is to be written, by the job in status.job
 *   vm, image   of a template: the machine that it is made of, and the image that this lies on
 *   append, initrd, boot   how it boots: as that image; what the machine's kernel was told
 *   firmware    or by that, as the machine does
 *   linked, frozen, broken, why   vm_clone.h
 */
#ifndef HOST_IMAGE_H
#define HOST_IMAGE_H

#include <limits.h>

#include "host/manager.h"

struct images;

struct image_files {
    char kernel[PATH_MAX], initrd[PATH_MAX]; /* "" if it has none */
    char firmware[16];                       /* without a kernel: bios, uefi or uefi-secure */
    char disk[PATH_MAX];                     /* relative to a machine's folder; "" if it has none */
    char vars[PATH_MAX];                     /* variables of UEFI firmware, "" if it has none */
    char append[2048];                       /* what its kernel wants to be told */
    int64_t size;                            /* of the disk */
    bool has_disk;                           /* machines of it have one of their own */
    bool oci;                                /* our init runs its command */
};

struct images *images_new(struct manager *m, struct error *err);
void images_load(struct images *is);
void images_leave_work(struct images *is); /* accepts NULL */
void images_free(struct images *is); /* what is being made is given up, and begun anew next time */
void images_kick(struct images *is, const char *id);
void images_job_changed(struct images *is, const char *job);
unsigned images_active(const struct images *is);

/* -ENOENT, -EAGAIN (not ready, or nothing that could boot it) with a sentence. */
int image_files(struct manager *m, const char *id, struct image_files *ret, struct error *err);
/* The same of a machine's image, which may have none (VM_NO_IMAGE): an empty disk then. */
int vm_files(struct manager *m, const struct store_row *vm, struct image_files *ret,
             struct error *err);
#define VM_NO_IMAGE "none"
/* In the folder of a machine, or of an image that is a template. */
#define UEFI_VARS "uefi-vars"

#endif
