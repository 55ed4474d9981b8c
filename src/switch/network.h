/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtual network as viv-net runs it: the switch, the machines' ports, the way out with the
 * services that live there, forwards, a capture. Shared by the files of this folder.
 *
 * Contract: one thread, one loop.
 */
#ifndef SWITCH_NETWORK_H
#define SWITCH_NETWORK_H

#include <jansson.h>

#include "base/timer.h"
#include "net/net.h"
#include "net/queue.h"
#include "switch/config.h"
#include "switch/pcap.h"
#include "switch/switch.h"

struct loop;
struct server;

/* A machine's end of a cable (plug.c; net/link.h has the words). */
struct plug {
    struct switch_port port; /* first */
    struct network *network;
    struct plug *next;
    char name[DIRECTORY_NAME];
    int fd;
    struct loop_watch *watch;
    struct net_queue out;
    bool greeted, broken;
    const struct member *member; /* of network->config.directory; NULL: it is not there any more */
    int64_t since;
};

/* The way out (uplink.c): NAT, and in front of it DHCP and DNS. */
struct uplink {
    struct switch_port port; /* first */
    struct network *network;
    struct net_port *user;
    uint8_t gateway_mac[6], dns_mac[6];
    bool unflushed;
    uint64_t dhcp_answers, dns_answers;
};

struct forward {
    struct net_forward f;
    bool asked; /* by a command, not by the configuration */
    bool open;
    char error[200]; /* why it is not open */
};

struct jail;

struct network {
    struct jail *jail; /* NULL: none */
    struct loop *loop;
    struct timers *timers;
    const char *config_path;
    struct config config;
    struct switch_core *core;
    struct uplink uplink;
    struct plug *plugs;
    unsigned plugs_count;
    int listener;
    struct loop_watch *listener_watch;
    char *ports_path;
    struct forward *forward;
    unsigned forwards;
    struct pcap *capture;
    char capture_port[DIRECTORY_NAME];
    struct timer capture_timer;
    struct server *server;
    void (*quit)(struct network *n);
    unsigned idle_s; /* ends after so long without anybody; 0: never */
    bool idle_seen;
    struct timer idle_timer;
    uint8_t frame[SWITCH_FRAME_MAX]; /* the one that was just read */
};

/* ---- network.c ---- */

/* Reads the configuration, opens the way out and listens for machines. */
int network_open(struct network *n, struct loop *loop, const char *config_path,
                 const char *ports_path, struct error *err);
void network_close(struct network *n);
/* Reads the configuration again. What is about the network itself must be as it was; members and
 * forwards become those of the file. */
int network_reload(struct network *n, struct error *err);

/* Forwards that cannot be opened are kept, with the reason, and tried again by the next reload. */
int network_add_forward(struct network *n, const struct net_forward *f, struct error *err);
int network_remove_forward(struct network *n, const struct net_forward *f, struct error *err);

int network_capture(struct network *n, const char *path, const char *port, uint64_t limit,
                    struct error *err);
void network_stop_capture(struct network *n);

/* ---- plug.c ---- */

int plugs_listen(struct network *n, const char *path, struct error *err);
void plugs_close(struct network *n);
/* After the members have changed: ports of those that are none any more are closed. */
void plugs_check(struct network *n);

/* ---- uplink.c ---- */

int uplink_open(struct network *n, struct error *err);
void uplink_close(struct network *n);
void uplink_flush(struct network *n); /* after a burst of frames */

/* ---- control.c ---- */

int control_open(struct network *n, const char *path, struct error *err);
/* Calls n->quit when for idle_s seconds no machine was plugged in and nobody was connected. */
void control_watch_idle(struct network *n);

#endif
