/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's end of a serial line or console: the terminal, a file, a unix socket, or nothing.
 *
 * Contract: main thread, machine lock held in every call and callback. Output never blocks: what
 * the host does not take is kept (64 KiB), then chardev_write takes less and on_writable follows
 * later. A socket without a client keeps the newest output and shows it to the next client. One
 * client at a time. Output that cannot be delivered for good (full disk, reader gone) is dropped
 * with one warning.
 */
#ifndef VM_CHARDEV_H
#define VM_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct chardev;
struct line_log;
struct loop;

enum { CHARDEV_RESERVE = 64 }; /* bytes that surely fit while chardev_can_write says yes */

struct chardev_user {
    /* Input: returns how many bytes it took; after less than n it calls chardev_resume_input later.
     */
    size_t (*on_input)(void *opaque, const uint8_t *p, size_t n);
    void (*on_writable)(void *opaque); /* room again after chardev_write took less than n */
    void (*on_leave)(void *opaque);    /* Ctrl-] q on standard input */
    void *opaque;
};

/* spec: "stdio", "file:PATH", "unix:PATH" or "none". */
struct chardev *chardev_open(struct loop *loop, const char *spec, struct error *err);
void chardev_set_user(struct chardev *c, const struct chardev_user *user);
/* What is written from now on is kept there as well, whoever takes it. Closed by chardev_close. */
void chardev_set_log(struct chardev *c, struct line_log *log);
size_t chardev_write(struct chardev *c, const uint8_t *p, size_t n);
bool chardev_can_write(const struct chardev *c);
void chardev_resume_input(struct chardev *c);
/* What came from the host and the guest has not taken: for a snapshot, and out of one. What does
 * not fit is dropped. */
const uint8_t *chardev_kept_input(const struct chardev *c, size_t *ret_n);
void chardev_put_input(struct chardev *c, const uint8_t *p, size_t n);
void chardev_flush(struct chardev *c); /* now, what the host takes without waiting */
/* Writes what is still kept if the host takes it within a second, restores the terminal. Accepts
 * NULL. */
void chardev_close(struct chardev *c);
bool chardev_spec_valid(const char *spec);

#endif
