/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands of viv-net (proto/network.c declares them). */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/process.h"
#include "base/trace.h"
#include "base/version.h"
#include "jail/jail.h"
#include "net/forward.h"
#include "net/link.h"
#include "net/user.h"
#include "proto/lines.h"
#include "proto/network.h"
#include "proto/server.h"
#include "switch/network.h"

enum { CAPTURE_LIMIT = 100 << 20 };

static int put(struct server_call *call, const char *key, json_t *value) {
    return json_object_set_new(call->result, key, value) < 0 ? -ENOMEM : 0;
}

static const char *text_of(const struct server_call *call, const char *name) {
    const char *s = json_string_value(json_object_get(call->args, name));

    return s ? s : "";
}

static json_t *address_json(uint32_t address) {
    char text[ADDRESS_TEXT];

    address_print(address, text);
    return json_string(text);
}

static json_t *mac_json(const uint8_t mac[6]) {
    char text[MAC_TEXT];

    mac_print(mac, text);
    return json_string(text);
}

/* ------------------------------------------------------------------ what it is */

static json_t *forward_json(const struct network *n, const struct forward *f) {
    const struct member *m = directory_by_address(&n->config.directory, f->f.guest);
    char text[NET_FORWARD_TEXT];
    json_t *v;

    net_forward_print(&f->f, text);
    v = json_pack("{s:s, s:o}", "forward", text, "address", address_json(f->f.guest));
    if (m)
        json_object_set_new(v, "to", message_text(m->name));
    if (!f->open)
        json_object_set_new(v, "error", message_text(f->error));
    return v;
}

static json_t *forwards(const struct network *n, bool open) {
    json_t *list = json_array();

    for (unsigned i = 0; i < n->forwards; i++)
        if (n->forward[i].open == open)
            json_array_append_new(list, forward_json(n, &n->forward[i]));
    return list;
}

static json_t *subnet(const struct directory *d) {
    char text[ADDRESS_TEXT];

    address_print(d->subnet.network, text);
    return json_sprintf("%s/%u", text, d->subnet.prefix);
}

static unsigned plugged(const struct network *n) {
    unsigned count = 0;

    for (const struct plug *p = n->plugs; p; p = p->next)
        count += p->greeted;
    return count;
}

/* Twice in a row at half the time, so that an idle process wakes up rarely. */
static void look_idle(void *opaque) {
    struct network *n = opaque;
    bool idle = !plugged(n) && !server_clients(n->server);

    if (idle && n->idle_seen) {
        n->quit(n);
        return;
    }
    n->idle_seen = idle;
    timer_start(n->timers, &n->idle_timer, (int64_t)n->idle_s * 500, look_idle, n);
}

void control_watch_idle(struct network *n) {
    if (n->idle_s)
        timer_start(n->timers, &n->idle_timer, (int64_t)n->idle_s * 500, look_idle, n);
}

static int do_status(struct server_call *call, struct error *err) {
    const struct network *n = call->opaque;
    json_t *v = json_pack(
        "{s:o, s:s, s:i, s:s, s:o, s:b, s:b, s:i, s:i, s:o, s:o, s:i, s:I}", "name",
        message_text(n->config.name), "version", VIVARIUM_VERSION, "pid", (int)getpid(), "state",
        "running", "subnet", subnet(&n->config.directory), "isolated", (int)n->config.isolated,
        "spoofing", (int)n->config.spoofing, "mtu", (int)n->config.mtu, "ports", (int)plugged(n),
        "open", forwards(n, true), "failed", forwards(n, false), "connections_each",
        (int)n->config.connections, "limited", (json_int_t)net_user_limited(n->uplink.user));
    int r = v ? json_object_update(call->result, v) : -1;

    json_decref(v);
    if (n->capture)
        put(call, "capture",
            json_pack("{s:o, s:I, s:s}", "file", message_text(pcap_path(n->capture)), "frames",
                      (json_int_t)pcap_frames(n->capture), "error", pcap_error(n->capture)));
    return r < 0 ? -ENOMEM : 0;
}

static void add_port(json_t *list, const char *name, const struct switch_port *p,
                     const struct member *m, size_t queued) {
    const struct switch_counters *c = &p->counters;
    json_t *v = json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", message_text(name),
                          "frames_in", (json_int_t)c->frames_in, "bytes_in",
                          (json_int_t)c->bytes_in, "frames_out", (json_int_t)c->frames_out,
                          "bytes_out", (json_int_t)c->bytes_out, "dropped", (json_int_t)c->dropped,
                          "refused", (json_int_t)c->refused, "queued", (json_int_t)queued);

    if (m) {
        json_object_set_new(v, "mac", mac_json(m->mac));
        if (m->address)
            json_object_set_new(v, "address", address_json(m->address));
    }
    json_array_append_new(list, v);
}

static int do_ports(struct server_call *call, struct error *err) {
    const struct network *n = call->opaque;
    json_t *list = json_array();

    for (const struct plug *p = n->plugs; p; p = p->next)
        if (p->greeted)
            add_port(list, p->name, &p->port, p->member, p->out.bytes);
    add_port(list, "gateway", &n->uplink.port, NULL, 0);
    return put(call, "ports", list);
}

struct mac_list {
    const struct network *n;
    json_t *list;
};

static void add_mac(void *opaque, const uint8_t mac[6], uint16_t vlan, const struct switch_port *p,
                    int64_t age) {
    struct mac_list *l = opaque;
    const char *name = p == &l->n->uplink.port ? "gateway" : ((const struct plug *)p)->name;

    json_array_append_new(l->list,
                          json_pack("{s:o, s:i, s:o, s:I}", "mac", mac_json(mac), "vlan", (int)vlan,
                                    "port", message_text(name), "age", (json_int_t)age));
}

static int do_macs(struct server_call *call, struct error *err) {
    const struct network *n = call->opaque;
    struct mac_list l = {n, json_array()};

    switch_each_mac(n->core, timer_now_ms(), add_mac, &l);
    return put(call, "macs", l.list);
}

static int do_members(struct server_call *call, struct error *err) {
    const struct directory *d = &((struct network *)call->opaque)->config.directory;
    json_t *list = json_array();

    for (unsigned i = 0; i < d->members; i++) {
        const struct member *m = &d->member[i];
        json_t *v = json_pack("{s:o, s:o, s:b}", "name", message_text(m->name), "mac",
                              mac_json(m->mac), "guest", (int)m->guest);

        if (m->address)
            json_object_set_new(v, "address", address_json(m->address));
        json_array_append_new(list, v);
    }
    return put(call, "members", list);
}

static void add_counter(void *opaque, const char *name, const char *help, uint64_t value) {
    json_array_append_new(opaque, json_pack("{s:s, s:I, s:s}", "name", name, "value",
                                            (json_int_t)value, "help", help));
}

static int do_stats(struct server_call *call, struct error *err) {
    json_t *counters = json_array();
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    put(call, "cpu_seconds",
        json_real((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                  (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6));
    put(call, "resident_bytes", json_integer((json_int_t)process_resident()));
    stats_each(add_counter, counters);
    return put(call, "counters", counters);
}

/* ------------------------------------------------------------------ changes */

static int do_reload(struct server_call *call, struct error *err) {
    int r = network_reload(call->opaque, err);

    return r < 0 ? r : do_status(call, err);
}

static int do_forward_add(struct server_call *call, struct error *err) {
    struct network *n = call->opaque;
    struct net_forward f;

    if (config_forward(&n->config.directory, text_of(call, "forward"), text_of(call, "to"), &f,
                       err) < 0)
        return -EINVAL;
    return network_add_forward(n, &f, err);
}

static int do_forward_remove(struct server_call *call, struct error *err) {
    struct net_forward f;

    if (net_forward_parse(text_of(call, "forward"), &f, err) < 0)
        return -EINVAL;
    return network_remove_forward(call->opaque, &f, err);
}

static int do_capture(struct server_call *call, struct error *err) {
    const json_t *limit = json_object_get(call->args, "limit");

    return network_capture(call->opaque, text_of(call, "file"), text_of(call, "port"),
                           limit ? (uint64_t)json_integer_value(limit) : CAPTURE_LIMIT, err);
}

static int do_capture_stop(struct server_call *call, struct error *err) {
    struct network *n = call->opaque;

    if (!n->capture)
        return error_set(err, -EBUSY, "there is no capture");
    pcap_flush(n->capture);
    put(call, "file", message_text(pcap_path(n->capture)));
    put(call, "frames", json_integer((json_int_t)pcap_frames(n->capture)));
    if (*pcap_error(n->capture))
        put(call, "error", message_text(pcap_error(n->capture)));
    network_stop_capture(n);
    return 0;
}

static int do_quit(struct server_call *call, struct error *err) {
    struct network *n = call->opaque;

    n->quit(n);
    return 0;
}

static const struct server_handler handlers[] = {
    {"status", do_status},
    {"ports", do_ports},
    {"macs", do_macs},
    {"members", do_members},
    {"stats", do_stats},
    {"reload", do_reload},
    {"forward-add", do_forward_add},
    {"forward-remove", do_forward_remove},
    {"capture", do_capture},
    {"capture-stop", do_capture_stop},
    {"quit", do_quit},
    {NULL, NULL},
};

static int give_listener(void *opaque, int listener) {
    return jail_give_listener(((struct network *)opaque)->jail, listener);
}

int control_open(struct network *n, const char *path, struct error *err) {
    const struct server_config c = {.program = "viv-net",
                                    .name = n->config.name,
                                    .commands = network_commands,
                                    .handlers = handlers,
                                    .opaque = n,
                                    .adopt = n->jail ? give_listener : NULL,
                                    .accept = n->jail ? jail_accept : NULL};

    n->server = server_new(n->loop, path, &c, err);
    return n->server ? 0 : -EINVAL;
}
