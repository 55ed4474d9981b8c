/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A shared folder's server as a process of its own, so that the machine needs no right to open
 * files by names, and the server none of what the machine has.
 *
 * Contract: share_server_start comes while the process has one thread, before it gives up what the
 * folder needs; share_open takes the server by its options. Requests are copied there and back; it
 * has no memory of the guest. It ends with share_server_stop, or with the process.
 */
#ifndef SHARE_SERVER_H
#define SHARE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct share_options;
struct share_request;
struct share_server;
struct buf;

enum { SHARE_SAID = 240 };

struct share_confine { /* in the new process, in this order; each may be NULL */
    /* True: the folder is the root now. */
    bool (*root)(const char *path);
    /* With the folder open: all rights go that it does not need, for threads to come as well.
     * What could not be had goes into `missing`. */
    void (*rights)(int folder, bool readonly, char *missing, size_t room);
    /* With all its threads there are. */
    void (*calls)(char *missing, size_t room);
};

/* NULL with the sentence, as share_open has it. */
struct share_server *share_server_start(const struct share_options *o,
                                        const struct share_confine *confine, struct error *err);
void share_server_stop(struct share_server *s); /* accepts NULL */
int share_server_pid(const struct share_server *s);
const char *share_server_missing(const struct share_server *s); /* "": nothing */

/* What share.h says of the functions of these names; any thread, the others the main thread. */
uint32_t share_server_serve(struct share_server *s, const struct share_request *r);
void share_server_reset(struct share_server *s);
void share_server_save(struct share_server *s, struct buf *to);
int share_server_load(struct share_server *s, const void *p, size_t n, struct error *err);

#endif
