/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `viv apply` made of the same files earlier, and what of it they have no more.
 *
 * A set (proto/resource_set.c) has a name and the ids of its members. Only what an apply of this
 * set made is ever deleted: not what was there before, not what was made anew under the same name
 * since (its id is another one), not what another set has as well, and nothing at all when
 * something of the files could not be applied.
 */
#ifndef CLI_PRUNE_H
#define CLI_PRUNE_H

#include "cli/cli.h"
#include "proto/manifest.h"

struct prune_one {
    const struct resource *resource;
    char name[64], id[64];
    bool runs;
};

struct prune {
    char set[64];
    json_t *live;          /* the set as it is; NULL: there is none yet */
    json_t *source;        /* the files */
    struct prune_one *one; /* to be deleted, in this order */
    size_t count;
};

/* 0, or -1 with c->failure. */
int prune_open(struct cli *c, const struct manifest *m, struct prune *p);
void prune_done(struct prune *p);
/* Tells what would go, and asks on a terminal: 0: do it. Without --yes and a terminal a failure. */
int prune_confirm(struct cli *c, const struct prune *p);
/* Before anything is made: what may be made is written down. `made`: it is to be created. */
int prune_begin(struct cli *c, struct prune *p, const struct manifest *m, const bool *made);
/* After it: live[i] is what became of the i-th item, NULL: it is not known. */
int prune_note(struct cli *c, struct prune *p, const struct manifest *m, json_t *const *live,
               const bool *made);
/* Deletes, and tells each; the set has them no more. */
int prune_delete(struct cli *c, struct prune *p, json_t *results);
/* {kind, name, result} */
json_t *prune_json(const struct prune_one *o, const char *result);

#endif
