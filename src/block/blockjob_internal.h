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
void blockjob_began(struct blockjob *j); /* of a backup */
void blockjob_ready(struct blockjob *j);
/* Waits up to ms; true: the job is to be completed or cancelled. */
bool blockjob_wait(struct blockjob *j, unsigned ms);

/*
 * A point that all jobs of a group come to, and go on from only together: 0 when all have come with
 * a result of 0; what it was asked with, or -ECANCELED with a sentence, when one has failed or was
 * cancelled. All of them get the same answer. A job that is in no group gets its own result.
 */
int blockjob_meet(struct blockjob *j, int result, struct error *err);
/* The first of them: before it, no request is left that only the loop could bring to its end, which
 * might wait for another disk of the group meanwhile. */
int blockjob_meet_first(struct blockjob *j, int result, struct error *err);

/* ---- between blockjob.c and blockjob_group.c ---- */

/* A member of a group (NULL: none), which it belongs to until it has ended. */
struct blockjob *blockjob_start_in(struct blockjob_group *group, struct block *b,
                                   const struct blockjob_spec *spec, const struct blockjob_fns *fns,
                                   struct error *err);
struct blockjob_group *blockjob_group_of(struct blockjob *j);
void blockjob_tell_cancelled(struct blockjob *j); /* any thread */
/* Any thread: the others give up. */
void blockjob_group_fail(struct blockjob_group *g, const struct error *err);
void blockjob_group_forget(struct blockjob_group *g, const struct blockjob *j);

/* ------------------------------------------------------------------ copies of a running disk */

enum { COPY_CLAIMS = 32 };

struct copy_claim { /* bytes of the disk that somebody writes or copies now; end 0: free */
    uint64_t offset, end;
};

struct copy {
    struct blockjob *job;
    struct chain *to;
    unsigned depth;     /* only what the layers above this one hold; 0: everything */
    struct dirty dirty; /* what differs, or may */
    struct disk_filter filter;
    uint64_t done;  /* bytes copied so far */
    bool hurry;     /* the guest waits: no limit of speed */
    bool following; /* gate: what the guest writes goes to the copy, too */
    int failed;     /* atomic: while it followed */
    uint8_t *buf;
    pthread_mutex_t lock; /* innermost, for the claims */
    pthread_cond_t changed;
    struct copy_claim claim[COPY_CLAIMS];
};

/* From now on it is known what the guest writes. copy_end accepts a copy that did not begin, with
 * the gate open. */
int copy_begin(struct copy *c, struct blockjob *j, struct chain *to, unsigned depth,
               struct error *err);
void copy_end(struct copy *c);
/* Copies until little is left, tells that it is ready, and goes on until it is to be completed (0)
 * or cancelled. A guest that writes faster than this can copy has to write to both from then on. */
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
