/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Joining of disk files, so that chains do not grow for ever: a file that nobody needs as it is,
 * `into`, and the only one that lies on it, `from`, become one. What `from` holds is written into
 * `into`, what lay on `from` then lies on `into`, and `from` goes.
 *
 * `from` shows the same at every moment, so a crash costs nothing; done again it finds out how far
 * it was. Files that other machines share are left alone. While the machine runs its own process
 * does what concerns files that it has open.
 *
 * Contract: a worker.
 */
#ifndef HOST_MERGE_H
#define HOST_MERGE_H

#include <jansson.h>

#include "host/layers.h"

struct merge {
    const char *folder, *disk; /* the file in use */
    const char *base;          /* layers_base of the machine */
    const char *control;       /* socket of the process; NULL: there is none */
    char into[LAYER_NAME], from[LAYER_NAME];
    const int *stop; /* atomic: not 0 gives it up with -ECANCELED */
};

/* Finds two that can be joined; `needed` has the names of files that must stay as they are. 1:
 * *into and *from are set; 0: there are none; negative: it cannot be told now, as when a machine
 * writes to what is looked at. */
int merge_find(const char *folder, const json_t *needed, char into[LAYER_NAME],
               char from[LAYER_NAME], struct error *err);
int merge_do(const struct merge *m, struct error *err);

#endif
