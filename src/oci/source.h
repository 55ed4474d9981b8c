/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files by name, of a folder or of a tar archive (which may be compressed): what an OCI image
 * layout or an archive of "docker save" consists of.
 *
 * Contract: names are relative and without "..", else -EINVAL. In a folder no symbolic link is
 * followed; in an archive a link leads to another member. Descriptors belong to the source.
 */
#ifndef OCI_SOURCE_H
#define OCI_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct oci_source;

struct oci_file {
    int fd;
    uint64_t offset, size;
    bool own; /* the descriptor is to be closed by oci_file_close */
};

/* NULL with a sentence. */
struct oci_source *oci_source_open(const char *path, struct error *err);
void oci_source_close(struct oci_source *s); /* accepts NULL */
const char *oci_source_path(const struct oci_source *s);
bool oci_source_has(struct oci_source *s, const char *name);
int oci_file_open(struct oci_source *s, const char *name, struct oci_file *ret, struct error *err);
void oci_file_close(struct oci_file *f);
/* A small file as text with a 0 behind it; larger than `most`: -EFBIG. For buf_done. */
int oci_source_text(struct oci_source *s, const char *name, uint64_t most, struct buf *ret,
                    struct error *err);

#endif
