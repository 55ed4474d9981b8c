/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stream: the first layer gets what the layers below show, down to a base, and they go.
 *
 * Each pull keeps the contents of the disk as they are, so a crash at any moment loses nothing; the
 * header changes over to the base when all is safe.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/blockjob_internal.h"

struct stream {
    struct chain *base; /* NULL: none */
    unsigned depth;     /* of the base; UINT_MAX */
};

static int find_base(struct blockjob *j, struct stream *s, struct error *err) {
    const char *path = blockjob_spec(j)->base;
    struct chain *top = blockjob_disk(j)->image;

    s->depth = UINT32_MAX;
    if (!top->backing)
        return error_set(err, -EINVAL,
                         "disk image '%s' has no backing file: there is nothing to stream",
                         top->path);
    if (!path)
        return 0;
    s->base = chain_find(top->backing, path);
    if (!s->base)
        return error_set(err, -EINVAL,
                         "'%s' is no layer below disk image '%s'; viv-img info --backing-chain -U "
                         "lists them",
                         path, top->path);
    s->depth = 1;
    for (struct chain *i = top->backing; i != s->base; i = i->backing)
        s->depth++;
    if (s->depth > 1)
        return 0;
    return error_set(err, -EINVAL, "'%s' is the backing file of disk image '%s' already", path,
                     top->path);
}

/* Without a base what is zero reads as zero by itself. */
static bool is_wanted(const struct stream *s, const struct chain_run *run) {
    return run->present && run->depth > 0 && run->depth < s->depth && (s->base || !run->zero);
}

static int pull_all(struct blockjob *j, const struct stream *s, struct error *err) {
    struct chain *top = blockjob_disk(j)->image;
    uint64_t at = 0, size = top->size, cluster;
    struct qcow2_info info;
    int r = 0;

    qcow2_info(top->qcow2, &info);
    cluster = info.cluster_size;
    while (r == 0 && at < size && (r = blockjob_check(j, err)) == 0) {
        struct chain_run run;
        uint64_t end, from;

        r = chain_map(top, at, size - at, &run);
        if (r < 0)
            break;
        /* The layers' clusters may be smaller than ours, which are pulled as a whole. */
        end = at + (run.length < COPY_PIECE || !run.data ? run.length : COPY_PIECE);
        from = is_wanted(s, &run) ? at : end & ~(cluster - 1);
        from = from < at ? at : from;
        end = (end + cluster - 1) & ~(cluster - 1);
        end = end < size ? end : size;
        if (from < end) {
            r = qcow2_pull(top->qcow2, from, end - from);
            blockjob_pace(j, run.data ? end - from : 0);
        }
        at = end;
        blockjob_tell(j, at, size);
    }
    return r < 0 && !err->code
               ? error_set(err, r,
                           "disk image '%s' cannot take what its backing files hold: %s; nothing "
                           "is lost: make room or check the storage, and begin again",
                           top->path, strerror(-r))
               : r;
}

static int change_base(struct chain *top, const struct chain *base, struct error *err) {
    char *path = base ? chain_name_for(top->path, base) : NULL;
    int r = base && !path ? -ENOMEM : chain_flush(top);

    if (r == 0)
        r = qcow2_set_backing(top->qcow2, path, base ? chain_format(base) : NULL, err);
    free(path);
    return r;
}

int blockjob_run_stream(struct blockjob *j, struct error *err) {
    struct disk *d = blockjob_disk(j);
    struct chain *top = d->image, *gone, *last;
    struct stream s = {0};
    int r = find_base(j, &s, err);

    if (r == 0)
        r = pull_all(j, &s, err);
    if (r == 0)
        chain_flush(top); /* so that there is little left to do while the guest waits */
    if (r < 0)
        return r;
    disk_gate_close(d);
    gone = top->backing;
    r = change_base(top, s.base, err);
    if (r == 0)
        chain_attach(top, s.base);
    disk_gate_open(d);
    if (r < 0)
        return r;
    for (last = gone; last->backing != s.base; last = last->backing)
        ;
    last->backing = NULL;
    chain_close(gone);
    return 0;
}
