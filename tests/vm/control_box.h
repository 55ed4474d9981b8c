/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine whose guest sleeps, its control and a loop, all in one thread, for tests of clients. */
#ifndef TESTS_VM_CONTROL_BOX_H
#define TESTS_VM_CONTROL_BOX_H

#include <pthread.h>

#include "base/loop.h"
#include "machine/image.h"
#include "machine/machine.h"
#include "proto/lines.h"
#include "vm/attach.h"
#include "vm/control.h"
#include "vm/options.h"
#include "vm/passed.h"
#include "vm/screen.h"

struct control_box {
    pthread_mutex_t lock;
    struct loop *loop;
    struct machine *machine;
    struct control_vm vm;
    struct options options;
    struct control *control;
    struct vm_screen *screen;
    struct attach attach;
    struct passed passed;
    struct block *disk[MACHINE_MAX_DISKS];
    struct net_port *nic[MACHINE_MAX_NICS];
    uint8_t *nic_rom[MACHINE_MAX_NICS];
    struct image image;
    char path[64];
    unsigned quits;
};

/* Ends the program on failure. `started`: the guest runs (it halts at once). */
void control_box_make(struct control_box *b, bool started);
void control_box_free(struct control_box *b);
void control_box_run(struct control_box *b); /* the loop, until it has nothing to do */

/* A client that reads and writes only when told. */
struct raw_client {
    struct control_box *box;
    int fd;
    struct lines in;
    bool ended; /* the other end has closed */
};

void raw_open(struct raw_client *c, struct control_box *b);
void raw_close(struct raw_client *c);
size_t raw_send(struct raw_client *c, const char *bytes, size_t n); /* as many as fit */
void raw_say(struct raw_client *c, const char *line);               /* all of it, with a newline */
/* The next message, NULL if none comes. The caller's. */
json_t *raw_hear(struct raw_client *c);

#endif
