/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layers of an image, unpacked one on top of the other into a file system (OCI image-spec 1.1,
 * layer.md): changesets as tar archives, plain or compressed with gzip, zstd, xz or bzip2, with
 * whiteouts (.wh.NAME) and opaque folders (.wh..wh..opq).
 *
 * Contract: blocks. The digest of the file and of what it is unpacked are compared at the end of
 * each layer; after a failure the file system is of no use.
 */
#ifndef OCI_LAYER_H
#define OCI_LAYER_H

#include "oci/fs.h"
#include "oci/manifest.h"

struct oci_limits {
    uint64_t bytes;   /* of all layers, unpacked */
    uint64_t entries; /* of all layers */
};

struct oci_progress {
    void (*fn)(void *opaque, uint64_t done, uint64_t total); /* bytes of the layers' files */
    void *opaque;
};

int oci_unpack(struct oci_source *s, const struct oci_image *image, struct oci_fs *fs,
               const struct oci_limits *limits, const struct oci_progress *progress,
               struct error *err);

#endif
