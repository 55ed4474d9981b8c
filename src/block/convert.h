/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying of whole images, from any of our formats to any.
 *
 * Contract: functions block; 0 or a negative errno. Nobody else writes to the images meanwhile.
 */
#ifndef BLOCK_CONVERT_H
#define BLOCK_CONVERT_H

#include "block/chain.h"

struct convert {
    struct chain *from, *to; /* `to` reads as zeroes and is not smaller */
    bool compress;           /* `to` is a qcow2 image */
    unsigned threads;        /* 0: one for each processor, up to a limit */
    const int *stop;         /* atomic: not 0 ends it with -ECANCELED; NULL: never */
    /* Called a few times a second by the thread that called; NULL: not. */
    void (*progress)(void *opaque, uint64_t done, uint64_t total);
    void *opaque;
};

/* The target is not synced. */
int convert_all(const struct convert *c);

/* Length bytes at offset from one to the other, holes kept; the target reads as zeroes if `fresh`.
 */
int convert_range(struct chain *from, struct chain *to, uint64_t offset, uint64_t length,
                  bool fresh);

#endif
