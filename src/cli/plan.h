/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What files want (proto/manifest.h) against what there is: for `viv apply` and `viv diff`. Only
 * what a file says is compared; what it leaves out is left alone.
 */
#ifndef CLI_PLAN_H
#define CLI_PLAN_H

#include "cli/cli.h"
#include "proto/manifest.h"

enum plan_action {
    PLAN_SAME,
    PLAN_CREATE,
    PLAN_CHANGE,
    PLAN_REFUSED, /* it differs in what cannot be changed later */
    PLAN_FAILED   /* the manager did not answer, or the file lacks something */
};

struct plan {
    enum plan_action action;
    const struct manifest_item *item;
    json_t *live;    /* NULL: there is none */
    json_t *changes; /* array of {field, from (may be missing), to, in_place} */
    struct remote_failure failure;
};

/* The files that -f names: 0, or -1 with c->failure. The order is that of dependencies. */
int plan_read(struct cli *c, struct manifest *m);
void plan_make(struct cli *c, const struct manifest_item *i, struct plan *ret);
void plan_done(struct plan *p);
/* {kind, name, result, changes} */
json_t *plan_json(const struct plan *p, const char *result);
/* "memory, forward" */
void plan_fields(const struct plan *p, char *out, size_t size);

#endif
