/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What vnet.c (the controller of networks) and vnet_process.c (their processes) share. */
#ifndef HOST_VNET_INTERNAL_H
#define HOST_VNET_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/timer.h"
#include "host/manager.h"
#include "host/vm_process.h"
#include "host/vnet.h"

enum { LOOK_AGAIN_MS = 20, CONNECT_MS = 10, AGAIN_MS = 1000 };

struct vnet {
    struct vnets *all;
    struct vnet *next, **link;
    char id[STORE_WORD];
    bool queued, forgotten, busy, removed, looked;
    int folder; /* -1: not opened */
    struct vm_process process;
    struct loop_watch *watch;
    struct vm_control *control;
    bool up, reload_sent;
    char *told;    /* the configuration that the process has read; NULL: not known */
    char *sent;    /* that it is just reading */
    json_t *ids;   /* machines whose forwards stand in `sent` */
    bool unopened; /* forwards of `told` */
    bool running_state;
    int64_t last_cycle, started, unneeded, quit, not_before;
    unsigned failures, restarts;
    struct timer timer;
    int64_t due;
};

struct vnets {
    struct manager *m;
    struct vnet *first;
    unsigned active;
};

/* ---- vnet.c ---- */

void vnet_step(struct vnet *n);
void vnet_kick(void *vnet); /* a step soon */
void vnet_again_in(struct vnet *n, int64_t ms);

/* ---- vnet_process.c ---- */

/* False: later; vnet_step is called again. What this manager does not know, it finds. */
bool vnet_find_process(struct vnet *n);
bool vnet_open_folder(struct vnet *n, bool make);
int vnet_write_config(struct vnet *n, const char *text, struct error *err);
int vnet_launch(struct vnet *n, const char *text, struct error *err);
void vnet_connect_control(struct vnet *n);
void vnet_forget_process(struct vnet *n); /* what is known of it */
void vnet_end_process(struct vnet *n);    /* asked first, killed when it takes too long */

#endif
