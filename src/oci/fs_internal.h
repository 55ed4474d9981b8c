/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the writer of file systems share: fs.c makes things, fs_path.c finds and
 * removes them. */
#ifndef OCI_FS_INTERNAL_H
#define OCI_FS_INTERNAL_H

#include <ext2fs/ext2fs.h>
#include <limits.h>

#include "oci/fs.h"
#include "oci/seen.h"

enum { FS_NAME = 256, FS_PATH = 8192 };

struct oci_fs {
    ext2_filsys fs;
    char path[PATH_MAX];
    struct seen seen;
    ext2_ino_t last; /* that was made */
    ext2_file_t file;
    char cached[FS_PATH]; /* a folder by its path, "" if none */
    ext2_ino_t cached_ino;
};

/* The sentence for an error of the library. */
int fs_fail(const struct oci_fs *fs, errcode_t code, const char *path, struct error *err);
/* The folder that a path lies in, made if need be, and its last word. "" as word: the root itself.
 */
int fs_parent(struct oci_fs *fs, const char *path, bool make, ext2_ino_t *ret_folder,
              char name[FS_NAME], struct error *err);
/* 0: none. */
ext2_ino_t fs_lookup(struct oci_fs *fs, ext2_ino_t folder, const char *name);
/* A name with everything below it. */
int fs_delete(struct oci_fs *fs, ext2_ino_t folder, const char *name, struct error *err);
/* A folder of root's; *ret its inode. */
int fs_mkdir(struct oci_fs *fs, ext2_ino_t folder, const char *name, ext2_ino_t *ret,
             const char *path, struct error *err);
int fs_read_inode(struct oci_fs *fs, ext2_ino_t ino, struct ext2_inode *ret, struct error *err);

#endif
