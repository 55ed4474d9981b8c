/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an OCI image consists of: from an image layout (OCI image-spec 1.1) or an archive of
 * "docker save", the one image that a tag, a digest or the platform linux/amd64 chooses.
 *
 * Contract: every JSON document whose digest is named has been compared with it; layers are only
 * named here, oci/layer.h checks them while it reads them.
 */
#ifndef OCI_MANIFEST_H
#define OCI_MANIFEST_H

#include <jansson.h>

#include "oci/source.h"
#include "proto/oci_ref.h"

enum { OCI_DIGEST = 72, OCI_MOST_LAYERS = 1000 };

struct oci_layer {
    char file[200];           /* in the source */
    char digest[OCI_DIGEST];  /* of that file; "": not told */
    char diff_id[OCI_DIGEST]; /* of what it is unpacked; "": not told */
    uint64_t size;            /* of that file */
};

struct oci_image {
    char digest[OCI_DIGEST]; /* of the manifest; of an archive of docker's that of the config */
    char name[OCI_TAG];      /* the tag, if it has one */
    json_t *config;          /* the whole document; its member "config" says how to run it */
    struct oci_layer *layer; /* the lowest first */
    unsigned layers;
};

/* `wanted`: a tag or digest; "": there must be only one. For oci_image_done. */
int oci_image_find(struct oci_source *s, const char *wanted, struct oci_image *ret,
                   struct error *err);
void oci_image_done(struct oci_image *image);

#endif
