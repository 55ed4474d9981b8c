/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What passes between a machine and the server of its folder. A slot is a pair of sockets and two
 * pieces of memory that both have; a request is
 *
 *   to the server    u64 bytes of the request, u64 room for the answer; the request lies in `out`
 *   from it          u64 bytes of the answer, which lies in `in`
 *
 * The control socket has the rest: u32 what, u32 bytes, the bytes; both ways.
 */
#ifndef SHARE_SERVER_INTERNAL_H
#define SHARE_SERVER_INTERNAL_H

#include "share/server.h"
#include "share/share_internal.h"

enum server_word { SERVER_READY = 1, SERVER_FAILED, SERVER_RESET, SERVER_SAVE, SERVER_LOAD };

enum {
    SERVER_SLOTS = SHARE_THREADS + 1, /* one for who has no thread */
    SERVER_ROOM = SHARE_MAX_PAGES * 4096 + SHARE_REPLY,
    SERVER_LONGEST = 512 << 20, /* what a guest knows of a million names */
};

struct server_slot {
    uint8_t out[SERVER_ROOM], in[SERVER_ROOM];
};

bool server_receive(int fd, void *p, size_t n);
bool server_say(int fd, uint32_t what, const void *p, size_t n);
/* False: the other one is gone, or says more than SERVER_LONGEST. */
bool server_hear(int fd, uint32_t *ret_what, struct buf *ret);

struct server_place { /* the server's ends */
    int control, slot[SERVER_SLOTS];
    struct server_slot *memory;
};

_Noreturn void server_main(const struct server_place *p, const struct share_options *o,
                           const struct share_confine *c);

#endif
