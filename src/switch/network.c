/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A network as a whole: its beginning and end, what may change while it runs, captures. */
#include "switch/network.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/trace.h"
#include "net/forward.h"
#include "net/user.h"

enum { FLUSH_MS = 500 };

/* ------------------------------------------------------------------ forwards */

static struct forward *find_forward(struct network *n, const struct net_forward *f) {
    assert(!n->forwards || n->forward);
    for (unsigned i = 0; i < n->forwards; i++)
        if (net_forward_clash(&n->forward[i].f, f))
            return &n->forward[i];
    return NULL;
}

static void open_forward(struct network *n, struct forward *f) {
    char text[NET_FORWARD_TEXT];
    struct error e = {0};

    if (f->open)
        return;
    f->open = net_user_add_forward(n->uplink.user, &f->f, &e) == 0;
    net_forward_print(&f->f, text);
    trace(switch_forward, text, e.text);
    if (!f->open && strncmp(f->error, e.text, sizeof(f->error) - 1) != 0)
        log_warning("%s", e.text);
    snprintf(f->error, sizeof(f->error), "%.199s", f->open ? "" : e.text);
}

static void drop_forward(struct network *n, struct forward *f) {
    struct error e = {0};

    if (f->open)
        net_user_remove_forward(n->uplink.user, &f->f, &e);
    *f = n->forward[--n->forwards];
}

static struct forward *append_forward(struct network *n, const struct net_forward *f) {
    struct forward *more = realloc(n->forward, (n->forwards + 1) * sizeof(*more));

    if (!more)
        return NULL;
    n->forward = more;
    more[n->forwards] = (struct forward){.f = *f};
    return &more[n->forwards++];
}

int network_add_forward(struct network *n, const struct net_forward *f, struct error *err) {
    struct forward *new;

    if (find_forward(n, f))
        return error_set(err, -EBUSY,
                         "port %u is forwarded by this network already: remove that forward first",
                         f->host_port);
    if (n->forwards >= CONFIG_MAX_FORWARDS || !(new = append_forward(n, f)))
        return error_set(err, -ENOSPC, "a network has at most %d forwards", CONFIG_MAX_FORWARDS);
    new->asked = true;
    open_forward(n, new);
    if (new->open)
        return 0;
    error_set(err, -EADDRINUSE, "%s", new->error);
    drop_forward(n, new);
    return -EADDRINUSE;
}

int network_remove_forward(struct network *n, const struct net_forward *f, struct error *err) {
    struct forward *old = find_forward(n, f);
    char text[NET_FORWARD_TEXT];

    net_forward_print(f, text);
    if (!old || old->f.guest_port != f->guest_port)
        return error_set(err, -EINVAL, "there is no forward %s", text);
    drop_forward(n, old);
    return 0;
}

static bool wanted(const struct network *n, const struct forward *f) {
    for (unsigned i = 0; i < n->config.forwards; i++)
        if (net_forward_equal(&n->config.forward[i], &f->f))
            return true;
    return f->asked;
}

/* Those that go make room for those that come. */
static void set_forwards(struct network *n) {
    for (unsigned i = n->forwards; i-- > 0;)
        if (!wanted(n, &n->forward[i]))
            drop_forward(n, &n->forward[i]);
    for (unsigned i = 0; i < n->config.forwards; i++) {
        struct forward *f = find_forward(n, &n->config.forward[i]);

        if (!f)
            append_forward(n, &n->config.forward[i]);
        else if (!net_forward_equal(&f->f, &n->config.forward[i])) /* two want the same port */
            log_warning("port %u is forwarded twice: the first one counts", f->f.host_port);
    }
    for (unsigned i = 0; i < n->forwards; i++)
        open_forward(n, &n->forward[i]);
}

/* ------------------------------------------------------------------ captures */

static void tap(void *opaque, const struct switch_port *from, const struct switch_port *to,
                const uint8_t *frame, size_t len) {
    struct network *n = opaque;
    const struct switch_port *p = to ? to : from;
    bool of_port = *n->capture_port && p != &n->uplink.port &&
                   !strcmp(((const struct plug *)p)->name, n->capture_port);

    if (*n->capture_port ? of_port : !to)
        pcap_put(n->capture, frame, len);
}

static void flush_capture(void *opaque) {
    struct network *n = opaque;

    pcap_flush(n->capture);
    timer_start(n->timers, &n->capture_timer, FLUSH_MS, flush_capture, n);
}

int network_capture(struct network *n, const char *path, const char *port, uint64_t limit,
                    struct error *err) {
    if (n->capture)
        return error_set(err, -EBUSY, "a capture is written to '%s' already: stop it first",
                         pcap_path(n->capture));
    n->capture = pcap_new(path, limit, err);
    if (!n->capture)
        return err->code;
    snprintf(n->capture_port, sizeof(n->capture_port), "%s", port);
    switch_set_tap(n->core, tap, n);
    flush_capture(n);
    return 0;
}

void network_stop_capture(struct network *n) {
    switch_set_tap(n->core, NULL, NULL);
    timer_stop(&n->capture_timer);
    pcap_free(n->capture);
    n->capture = NULL;
}

/* ------------------------------------------------------------------ life */

int network_reload(struct network *n, struct error *err) {
    struct config c, old = n->config;

    if (config_read(n->config_path, &c, err) < 0)
        return err->code;
    if (c.directory.subnet.network != old.directory.subnet.network ||
        c.directory.subnet.prefix != old.directory.subnet.prefix || c.isolated != old.isolated ||
        c.spoofing != old.spoofing || c.mtu != old.mtu) {
        config_done(&c);
        return error_set(err, -EBUSY,
                         "subnet, isolation, spoofing and MTU of a network that runs stay as they "
                         "are: start viv-net anew");
    }
    n->config = c;
    net_user_set_connections(n->uplink.user, c.connections);
    plugs_check(n);
    config_done(&old);
    set_forwards(n);
    return 0;
}

int network_open(struct network *n, struct loop *loop, const char *config_path,
                 const char *ports_path, struct error *err) {
    n->loop = loop;
    n->config_path = config_path;
    n->listener = -1;
    if (config_read(config_path, &n->config, err) < 0)
        return -EINVAL;
    n->timers = timers_new(loop, err);
    n->core = n->timers ? switch_new() : NULL;
    if (!n->core)
        return error_set(err, -ENOMEM, "out of memory");
    if (uplink_open(n, err) < 0)
        return -EINVAL;
    set_forwards(n);
    return plugs_listen(n, ports_path, err);
}

void network_close(struct network *n) {
    if (n->capture)
        network_stop_capture(n);
    plugs_close(n);
    uplink_close(n);
    switch_free(n->core);
    timers_free(n->timers);
    config_done(&n->config);
    free(n->forward);
}
