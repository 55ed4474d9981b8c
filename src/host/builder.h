/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The script that builds an image (scripts/guest.sh --output FOLDER --suite SUITE), as a child with
 * progress.
 *
 * Contract: the loop's thread. `ended` is called once, with NULL or why it failed, and not after
 * builder_free, which ends the script.
 */
#ifndef HOST_BUILDER_H
#define HOST_BUILDER_H

#include "base/error.h"

struct loop;
struct builder;

struct builder_order {
    const char *suite;
    const char *packages; /* more ones, with commas; "": none */
    const char *mirror;   /* from where; "": as this host has its packages */
};

struct builder *builder_start(struct loop *loop, const char *folder, int folder_fd,
                              const struct builder_order *order,
                              void (*ended)(void *opaque, const struct error *err), void *opaque,
                              struct error *err);
void builder_stop(struct builder *b); /* accepts NULL; `ended` comes when it has */
void builder_free(struct builder *b); /* accepts NULL */
int builder_percent(const struct builder *b);
const char *builder_stage(const struct builder *b);

#endif
