/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of OCI images as people write them: "oci:PATH[:TAG][@DIGEST]". oci-archive: and
 * docker-archive: mean the same, since what a file is can be seen.
 */
#ifndef PROTO_OCI_REF_H
#define PROTO_OCI_REF_H

#include <limits.h>
#include <stdbool.h>

#include "base/error.h"

enum { OCI_TAG = 256 }; /* with a 0 behind it */

struct oci_ref {
    char path[PATH_MAX];
    char tag[OCI_TAG]; /* a tag, a name with one, or a digest; "": the only image */
};

/* Does the word begin as one? */
bool oci_ref_is(const char *word);
/* A colon belongs to the path if there is such a file. -EINVAL with a sentence. */
int oci_ref_parse(const char *word, struct oci_ref *ret, struct error *err);
/* "sha256:" and 64 hexadecimal digits. */
bool oci_is_digest(const char *s);

#endif
