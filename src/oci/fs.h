/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file system (ext4) in a file, filled without being root: owners, modes, devices and extended
 * attributes are whatever is asked for, since only the file of the image is written.
 *
 * Contract: paths are those of a tar archive: relative to the root of the file system, whatever
 * they begin with. Symbolic links in their folders are followed within that root; a path that leads
 * above it by ".." is -EINVAL. Missing folders of a path are made (root's, 0755).
 *
 * fs_begin_layer, then entries: what is there of an earlier layer is replaced, folders stay and
 * become what the entry says. fs_remove and fs_empty touch only what earlier layers made.
 */
#ifndef OCI_FS_H
#define OCI_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct oci_fs;

struct fs_meta {
    uint32_t mode; /* with the type, as of stat */
    uint32_t uid, gid;
    int64_t mtime;
    uint32_t mtime_ns;
    uint32_t major, minor; /* of a device */
    int64_t size;          /* of a file, as far as it is known: room is taken for it at once */
};

/* Makes a new file system of `size` bytes in a file that must not be there yet. */
struct oci_fs *fs_create(const char *path, uint64_t size, struct error *err);
/* All is on the disk then. Frees it in any case; accepts NULL. */
int fs_close(struct oci_fs *fs, struct error *err);

void fs_begin_layer(struct oci_fs *fs);
/* Makes a file, folder, device, or pipe; of a file it becomes the current one. */
int fs_make(struct oci_fs *fs, const char *path, const struct fs_meta *m, struct error *err);
int fs_symlink(struct oci_fs *fs, const char *path, const char *target, const struct fs_meta *m,
               struct error *err);
int fs_link(struct oci_fs *fs, const char *path, const char *target, struct error *err);
/* Of the last one that was made. */
int fs_xattr(struct oci_fs *fs, const char *name, const void *value, size_t n, struct error *err);
int fs_write(struct oci_fs *fs, uint64_t offset, const void *data, size_t n, struct error *err);
int fs_finish_file(struct oci_fs *fs, uint64_t size, struct error *err);

/* What earlier layers have there, with everything in it; 0 also if there is nothing. */
int fs_remove(struct oci_fs *fs, const char *path, struct error *err);
int fs_empty(struct oci_fs *fs, const char *path, struct error *err);

#endif
