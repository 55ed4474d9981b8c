/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket of a machine (docs/control.md), without waiting.
 *
 * Contract: the loop's thread. The functions of `user` are called from the loop or
 * vm_control_drain, never from inside vm_control_open or vm_control_send. After `closed` the
 * connection is of no use; it is closed there or later, and nowhere else inside one of these
 * functions.
 */
#ifndef HOST_VM_CONTROL_H
#define HOST_VM_CONTROL_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

struct loop;
struct vm_control;

struct vm_control_user {
    /* What the machine is doing; the first call says that it is up. */
    void (*seen)(void *opaque, bool paused, const char *reason);
    void (*event)(void *opaque, const char *name, const json_t *data);
    /* The result of a command other than events; that of status comes behind `seen`. */
    void (*answered)(void *opaque, const char *command, const json_t *result);
    /* A command was answered with an error. */
    void (*refused)(void *opaque, const char *command, const char *text);
    void (*closed)(void *opaque, const char *why);
    void *opaque;
};

/* NULL with err->code -ENOENT or -ECONNREFUSED while the machine does not listen yet. */
struct vm_control *vm_control_open(struct loop *loop, const char *path,
                                   const struct vm_control_user *user, struct error *err);
void vm_control_send(struct vm_control *c, const char *command);
/* Takes `args`. */
void vm_control_send_args(struct vm_control *c, const char *command, json_t *args);
/* Reads what has come, such as the last words of a process that is known to have ended. */
void vm_control_drain(struct vm_control *c);
void vm_control_close(struct vm_control *c); /* accepts NULL */

#endif
