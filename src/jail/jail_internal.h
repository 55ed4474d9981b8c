/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the jail share: the channel to the helper, the filters, the grants. */
#ifndef JAIL_JAIL_INTERNAL_H
#define JAIL_JAIL_INTERNAL_H

#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/types.h>

#include "jail/jail.h"

/* ---- the channel: packets, descriptors beside them ---- */

enum message_op { MESSAGE_GRANT = 1, MESSAGE_LISTENER, MESSAGE_SEAL };

struct message {
    uint32_t op, rights;
    char path[PATH_MAX];
};

int channel_send(int fd, const void *p, size_t n, int with); /* with: a descriptor or -1 */
ssize_t channel_receive(int fd, void *p, size_t n, int *ret_with);

/* ---- the helper ---- */

/* Never returns. */
_Noreturn void helper_main(const struct jail_options *o, int channel, int clients, pid_t machine);

struct grants;
struct grants *grants_new(void);
void grants_free(struct grants *g);
unsigned grants_add(void *grants, const char *path, unsigned rights); /* a jail_grant_fn */
unsigned grants_find(const struct grants *g, const char *canonical);
/* What is open, by what it is: the rights of names that lead to it now. */
unsigned grants_find_open(const struct grants *g, int fd);
bool grants_may_look(const struct grants *g, const char *path);       /* it, or what leads to one */
bool grants_is_folder(const struct grants *g, const char *canonical); /* around what is written */
bool grants_may_connect(const struct grants *g, const char *path);
bool grants_internet(const struct grants *g);
/* Absolute, without links up to the last name and, with `follow`, in that one. False: errno. */
bool grants_resolve(const char *path, bool follow, char ret[PATH_MAX]);

struct calls; /* of the process in the jail, done for it */
struct calls *calls_new(struct grants *g, int notify, pid_t machine);
void calls_serve(struct calls *c); /* one */

enum { RELAY_PAIRS = 128 }; /* clients at the same time: a listener and two descriptors each */

struct relay;
struct relay *relay_new(const struct jail_options *o, struct grants *g, int clients);
void relay_listen(struct relay *r, int listener);
struct pollfd;
unsigned relay_poll(struct relay *r, struct pollfd *p, unsigned max);
void relay_polled(struct relay *r, const struct pollfd *p, unsigned n);
bool relay_idle(const struct relay *r); /* nothing is left to be said to clients */
void relay_end(struct relay *r);        /* no more requests */

/* ---- filters ---- */

enum { FILTER_MAX = 600 };

struct filter {
    struct sock_filter code[FILTER_MAX];
    unsigned len, calls;
};

/* Of the calls of these kinds (bits). With `helper` the calls that it does are handed to it.
 * Without `outer` they are allowed, as the outer filter sees them too. */
void filter_make(struct filter *f, unsigned kinds, bool outer, bool helper);
/* For a thread, under the process's filter, which is of the calls of the kinds `process`: without
 * the questions about arguments that that one asks as well. */
void filter_make_within(struct filter *f, unsigned kinds, unsigned process);
int filter_install(const struct filter *f, unsigned flags); /* descriptor, 0, or negative errno */
const char *filter_call_name(unsigned number);
unsigned filter_kinds(bool network);
unsigned filter_helper_kind(void);
unsigned filter_share_kind(void);
int filter_watch(struct error *err); /* SIGSYS: the sentence, and the end */

#endif
