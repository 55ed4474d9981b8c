/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting a manager for this user. */
#ifndef CLI_LAUNCH_H
#define CLI_LAUNCH_H

#include "base/error.h"
#include "proto/place.h"

/* Starts vivd in the background and waits until it answers. Another one that is faster is as
 * good. */
int launch_manager(const struct place *p, struct error *err);

#endif
