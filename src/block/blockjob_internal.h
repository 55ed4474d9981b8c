/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a job sees on its thread, and what jobs share. */
#ifndef BLOCK_BLOCKJOB_INTERNAL_H
#define BLOCK_BLOCKJOB_INTERNAL_H

#include "block/blockjob.h"
#include "block/dirty.h"
#include "block/disk.h"

/* The job's work. Its disk is open and nobody else rearranges it; the gate is open before and
 * after. */
typedef int blockjob_fn(struct blockjob *j, struct error *err);
blockjob_fn blockjob_run_snapshot, blockjob_run_commit, blockjob_run_stream, blockjob_run_mirror,
    blockjob_run_backup, blockjob_run_resize;

struct disk *blockjob_disk(struct blockjob *j);
const struct blockjob_spec *blockjob_spec(const struct blockjob *j);
/* 0, or -ECANCELED with a sentence. */
int blockjob_check(struct blockjob *j, struct error *err);
bool blockjob_is_cancelled(struct blockjob *j);
/* Waits as long as the limit of speed wants for so many bytes, or until it is cancelled. */
void blockjob_pace(struct blockjob *j, uint64_t bytes);
void blockjob_tell(struct blockjob *j, uint64_t done, uint64_t total);
void blockjob_ready(struct blockjob *j);
/* Waits up to ms; true: the job is to be completed or cancelled. */
bool blockjob_wait(struct blockjob *j, unsigned ms);

/* ------------------------------------------------------------------ copies of a running disk */

struct copy {
    struct blockjob *job;
    struct chain *to;
    unsigned depth;     /* only what the layers above this one hold; 0: everything */
    struct dirty dirty; /* what differs, or may */
    struct disk_filter filter;
    uint64_t done; /* bytes copied so far */
    bool hurry;    /* the guest waits: no limit of speed */
    uint8_t *buf;
};

/* From now on it is known what the guest writes. copy_end accepts a copy that did not begin, with
 * the gate open. */
int copy_begin(struct copy *c, struct blockjob *j, struct chain *to, unsigned depth,
               struct error *err);
void copy_end(struct copy *c);
/* Copies until nothing is left for a moment, tells that it is ready, and goes on until it is to be
 * completed (0) or cancelled. */
int copy_until_told(struct copy *c, struct error *err);
/* What is left, with the gate closed: then both are equal, and the copy is safe. */
int copy_rest(struct copy *c, struct error *err);

/* One piece from layer to layer, as it was mapped. */
int copy_piece(struct chain *from, struct chain *to, uint8_t *buf, uint64_t offset, uint64_t length,
               bool zero);
enum { COPY_PIECE = 1 << 20 };

/* With the gate closed: what is known of the disk's writes is known of the image that takes its
 * place, too, if that can have bitmaps. */
int blockjob_carry_bitmaps(struct chain *to, struct chain *from, struct error *err);

/* A new file, opened as the disk's own are. */
struct chain *blockjob_new_image(struct blockjob *j, const struct chain_create *c,
                                 struct error *err);
struct chain *blockjob_open_image(struct blockjob *j, const struct chain_options *o,
                                  struct error *err);

#endif
