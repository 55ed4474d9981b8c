/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Templates: images made of machines.
 *
 * The files that the machine's disk stands on are in the image's folder already (vm_clone.h). On
 * top of them a helper guest, the machine's own kernel with a script as its first process
 * (identity.h), takes the identity away, and what comes of that becomes the image's disk. The
 * machine itself is not touched, whether it runs or not.
 *
 * Contract: template_make waits; a worker. The helper dies with the manager.
 */
#ifndef HOST_TEMPLATE_H
#define HOST_TEMPLATE_H

#include <limits.h>

#include "host/image.h"
#include "host/layers.h"

struct template {
    char folder[PATH_MAX];
    char frozen[LAYER_NAME]; /* file in it that the machine's disk stands on */
    struct image_files from; /* of the image that the machine lies on */
    char append[2048];       /* what its kernel is told */
    char vars[PATH_MAX];     /* variables of UEFI firmware; there may be none */
    bool firmware;           /* boots it: it needs no kernel */
    bool generalize;
    struct layers_progress progress;
    const char *stage; /* atomic: what is being done */
};

int template_make(struct template *t, struct error *err);

#endif
