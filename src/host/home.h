/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folders of a manager, one set a user:
 *
 *   data     store.db, machines/ID/, images/ID/, volumes/, networks/ID/    $XDG_DATA_HOME/vivarium,
 * ~/.local/share/vivarium runtime  api (the socket), vivd.log $XDG_RUNTIME_DIR/vivarium, or
 * data/run
 *
 * VIV_HOME overrides both (runtime is then its folder run). The system's manager, --system, has
 * /var/lib/vivarium and /run/vivarium.
 */
#ifndef HOST_HOME_H
#define HOST_HOME_H

#include <stdbool.h>

#include "base/error.h"
#include "proto/place.h"

struct home {
    struct place place;
    int lock;     /* descriptor that holds the folder */
    int machines; /* descriptors of folders */
    int images, volumes, networks;
};

/* Makes what is missing (mode 0700), and takes the lock: -EBUSY with a sentence if another manager
 * has it. */
int home_open(struct home *h, bool system, struct error *err);
void home_close(struct home *h);

#endif
