/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files of a machine's disk: disk.qcow2, disk.1.qcow2 ... in one folder, each on top of an
 * earlier one, the first on an image elsewhere. Only the newest in use is written, all others are
 * frozen.
 *
 * Frozen files are shared between machines by hard links: each folder has all that its machine
 * stands on, and the file system counts. So a machine goes with its folder, whatever else stands on
 * its files, and the last folder takes them along. They name each other by names without a folder.
 *
 * Contract: functions wait, and work for one folder at a time; 0 or a negative errno with a
 * sentence.
 */
#ifndef HOST_LAYERS_H
#define HOST_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct chain;
struct image_files;

enum { LAYER_NAME = 64, LAYERS_MOST = 240 }; /* of a chain: less than can be opened */

struct layers_progress {
    int64_t *done, *of; /* atomic; bytes */
    const int *stop;    /* atomic: not 0 ends it with -ECANCELED */
};

bool layers_is_disk(const char *name);
void layers_name(int64_t number, char out[LAYER_NAME]);
/* What the files of a machine may lie on, as `backing` of struct chain_options. */
const char *layers_base(const struct image_files *files);
/* One file alone, for reading. */
struct chain *layers_open(const char *folder, const char *name, struct error *err);
/* The file of the same folder that `name` lies on; "": none. */
int layers_below(const char *folder, const char *name, char out[LAYER_NAME], struct error *err);
int layers_depth(const char *folder, const char *name, unsigned *ret, struct error *err);
/* May one more be put on top? -ELOOP with the remedy. */
int layers_check_room(const char *folder, const char *name, struct error *err);
/* Is nothing written into it? */
int layers_is_empty(const char *folder, const char *name, bool *ret, struct error *err);

/* An empty file `next` on top of `name`. One that is there and whole may hold what a guest wrote
 * after a manager that was killed: it stays. */
int layers_put_on_top(const char *folder, const char *name, const char *next, struct error *err);
/* The same in an existing folder for a file that nobody has used yet: made anew. */
int layers_make_on_top(const char *folder, const char *name, const char *next, struct error *err);
/* Links `name` and what it lies on into another folder of the same depth, which is made. */
int layers_link(const char *from, const char *name, const char *to, struct error *err);
struct layers_copy {
    const char *name, *base; /* the file, and what layers_base says of its machine */
    const char *out, *format;
};
/* Writes what a file shows, with all below it, to a new one of its folder. If that is there, it is
 * complete, of somebody who was ended before it was told: then nothing is done. */
int layers_flatten(const char *folder, const struct layers_copy *c, const struct layers_progress *p,
                   struct error *err);
/* Removes all disk files of the folder but one. */
void layers_remove_others(const char *folder, const char *keep);

#endif
