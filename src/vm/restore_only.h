/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whoever wrote a snapshot says in its machine.json which files, folders and sockets of the host
 * the machine had. A machine that its guest had taken over writes there what it likes: with
 * --restore-only nothing of that is used but what the command line names.
 */
#ifndef VM_RESTORE_ONLY_H
#define VM_RESTORE_ONLY_H

#include "base/error.h"

struct options;

/* After the snapshot's words were filled in; so many serial ports and displays were given. What the
 * guest does not miss (a medium, a display) is taken out, all else refused with -EINVAL. */
int restore_only(struct options *o, unsigned serials, unsigned displays, struct error *err);

#endif
