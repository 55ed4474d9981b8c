/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening to the network, and the operations of the resource portal. */
#include "host/network.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "host/auth.h"
#include "proto/certificate.h"
#include "proto/stream.h"
#include "proto/units.h"

enum { FIRST_PORT = 8443, PORTS = 100, ADDRESS_MAX = 300, AGAIN_MS = 5000, LOOK_MS = 10000 };

struct stamp { /* what changes with a file */
    struct timespec time;
    off_t size;
    ino_t ino;
};

struct network {
    struct manager *m;
    struct network_settings settings;
    struct certificate certificate;
    struct tls *tls;
    struct http_listener *listener;
    char address[ADDRESS_MAX]; /* that it is bound to */
    char reason[600];          /* why it does not listen */
    struct timer again, look;
    struct stamp seen[2]; /* of one's own certificate and its key */
    char wrong[600];      /* what was said of them last */
};

bool network_is_open(const struct network *n) { return n->listener != NULL; }

/* ------------------------------------------------------------------ opening and closing */

static struct stamp stamp_of(const char *path) {
    struct stat st;

    return stat(path, &st) == 0 ? (struct stamp){st.st_mtim, st.st_size, st.st_ino}
                                : (struct stamp){.size = -1};
}

static int read_certificate(struct network *n, struct error *err) {
    const struct network_settings *own = &n->settings;
    struct stamp seen[2] = {{.size = -1}, {.size = -1}};
    struct certificate c;
    char folder[PATH_MAX];
    struct tls *tls;
    int r;

    snprintf(folder, sizeof(folder), "%.4000s/tls", n->m->home.place.data);
    if (own->cert) { /* before they are read, so that a change meanwhile is seen */
        seen[0] = stamp_of(own->cert);
        seen[1] = stamp_of(own->key);
    }
    r = own->cert ? certificate_given(&c, own->cert, own->key, err)
                  : certificate_own(&c, folder, err);
    if (r < 0)
        return r;
    tls = tls_new(c.cert, c.key, err);
    if (!tls)
        return -EINVAL;
    if (n->listener)
        http_listener_set_tls(n->listener, tls);
    tls_free(n->tls);
    n->tls = tls;
    n->certificate = c;
    memcpy(n->seen, seen, sizeof(seen));
    return 0;
}

/* One's own certificate is renewed by somebody else, file by file: until both fit the old one is
 * shown. */
static void look_at_files(void *opaque) {
    struct network *n = opaque;
    struct stamp now[2] = {stamp_of(n->settings.cert), stamp_of(n->settings.key)};
    struct error e = {0};

    if (memcmp(now, n->seen, sizeof(now)) != 0) {
        if (read_certificate(n, &e) == 0)
            log_notice("the certificate '%s' is another one: %s", n->settings.cert,
                       n->certificate.fingerprint);
        else if (strcmp(n->wrong, e.text) != 0)
            log_warning("%s; the one before is kept", e.text);
        snprintf(n->wrong, sizeof(n->wrong), "%s", e.text);
    }
    timer_start(n->m->timers, &n->look, LOOK_MS, look_at_files, n);
}

static int load_certificate(struct network *n, struct error *err) {
    int r = n->tls ? 0 : read_certificate(n, err);

    if (r == 0 && n->settings.cert && !timer_runs(&n->look))
        timer_start(n->m->timers, &n->look, LOOK_MS, look_at_files, n);
    return r;
}

static void close_door(struct network *n) {
    timer_stop(&n->again);
    http_listener_close(n->listener);
    n->listener = NULL;
    *n->address = 0;
    *n->reason = 0;
}

static int open_door(struct network *n, const char *address, struct error *err) {
    struct http_listener *l;
    int fd, r = load_certificate(n, err);

    if (r < 0)
        return r;
    fd = network_listen(address, err);
    if (fd < 0)
        return fd;
    l = http_server_listen(n->m->http, fd, n->tls, err);
    if (!l) {
        close(fd);
        return -ENOMEM;
    }
    close_door(n);
    n->listener = l;
    network_address(fd, n->address, sizeof(n->address));
    log_notice("listens at https://%s, certificate %s", n->address, n->certificate.fingerprint);
    return 0;
}

static int open_somewhere(struct network *n, struct error *err) {
    char address[64];
    int r = -EADDRINUSE;

    for (int i = 0; i < PORTS && r == -EADDRINUSE; i++) {
        *err = (struct error){0};
        snprintf(address, sizeof(address), "127.0.0.1:%d", FIRST_PORT + i);
        r = open_door(n, address, err);
    }
    return r;
}

/* ------------------------------------------------------------------ what the store says */

static bool find_row(struct network *n, struct store_row *ret) {
    return store_find(n->m->store, "portal", "default", "local", ret) == 0;
}

/* Another address of the same port: the old one has to go first, and comes back if that fails. */
static int move_door(struct network *n, const char *address, struct error *err) {
    char before[ADDRESS_MAX];
    int r = open_door(n, address, err);

    if (r != -EADDRINUSE || !n->listener)
        return r;
    snprintf(before, sizeof(before), "%s", n->address);
    close_door(n);
    *err = (struct error){0};
    r = open_door(n, address, err);
    if (r < 0 && open_door(n, before, NULL) < 0)
        log_warning("the manager listens at %s no more", before);
    return r;
}

/* A port that another program has may become free. */
static void try_again(void *opaque) {
    struct network *n = opaque;
    struct store_row row = {0};
    struct error e = {0};

    if (!n->listener && find_row(n, &row) && open_door(n, row_text(row.spec, "listen"), &e) < 0) {
        if (strcmp(n->reason, e.text) != 0)
            log_warning("%s; tried again every %d s", e.text, AGAIN_MS / 1000);
        snprintf(n->reason, sizeof(n->reason), "%s", e.text);
        timer_start(n->m->timers, &n->again, AGAIN_MS, try_again, n);
    }
    store_row_done(&row);
}

struct network *network_new(struct manager *m, const struct network_settings *s,
                            struct error *err) {
    struct network *n = calloc(1, sizeof(*n));

    if (!n) {
        error_set(err, -ENOMEM, "the manager: out of memory");
        return NULL;
    }
    n->m = m;
    n->settings = *s;
    if (s->listen ? open_door(n, s->listen, err) < 0 : s->cert && load_certificate(n, err) < 0) {
        network_free(n);
        return NULL;
    }
    try_again(n);
    return n;
}

void network_free(struct network *n) {
    if (!n)
        return;
    close_door(n);
    timer_stop(&n->look);
    tls_free(n->tls);
    free(n);
}

/* ------------------------------------------------------------------ operations */

static int check_name(struct api_call *call) {
    if (!strcmp(call->name, "local"))
        return 0;
    return api_fail(call, FAILURE_NOT_FOUND, "name", "ask for 'local'",
                    "there is no portal '%.60s' here", call->name);
}

/* A browser goes to an address that it can reach: one that stands for all is none. */
static void put_url(const struct network *n, char *out, size_t size) {
    const char *port = strrchr(n->address, ':');
    char host[HOST_NAME_MAX + 1] = "localhost";

    if (strncmp(n->address, "0.0.0.0:", 8) != 0 && strncmp(n->address, "[::]:", 5) != 0) {
        snprintf(out, size, "https://%s/", n->address);
        return;
    }
    gethostname(host, sizeof(host) - 1);
    snprintf(out, size, "https://%s%s/", host, port);
}

static json_t *describe(const struct network *n) {
    bool open = network_is_open(n);
    json_t *o = json_pack("{s:s, s:s}", "name", "local", "state", open ? "open" : "closed");
    char url[ADDRESS_MAX + 20];

    if (*n->reason)
        row_set_text(o, "reason", n->reason);
    if (open) {
        put_url(n, url, sizeof(url));
        row_set_text(o, "address", n->address);
        row_set_text(o, "url", url);
    }
    if (n->tls) {
        row_set_text(o, "fingerprint", n->certificate.fingerprint);
        row_set_text(o, "certificate", n->certificate.cert);
        row_set_time(o, "expires", n->certificate.expires);
    }
    return o;
}

static int get(struct api_call *call) {
    if (check_name(call) < 0)
        return -EINVAL;
    call->result = describe(call->m->network);
    return 0;
}

/* From now on, and after each start. */
static int save(struct network *n, struct error *err) {
    struct store_row row = {0};
    int r;

    if (find_row(n, &row)) {
        row_set_text(row.spec, "listen", n->address);
        r = store_update(n->m->store, &row, err);
    } else {
        row = (struct store_row){.kind = "portal",
                                 .tenant = "default",
                                 .name = "local",
                                 .spec = json_object(),
                                 .status = json_object(),
                                 .wanted = json_object()};
        row_set_text(row.spec, "listen", n->address);
        r = store_insert(n->m->store, &row, err);
    }
    store_row_done(&row);
    return r;
}

static int listen_as_asked(struct api_call *call, struct error *err) {
    struct network *n = call->m->network;
    const char *listen = row_text(call->args, "listen");

    if (n->listener && (!*listen || !strcmp(listen, n->address)))
        return 0;
    if ((*listen ? move_door(n, listen, err) : open_somewhere(n, err)) < 0)
        return -1;
    /* What an option asked for is the option's: the next start has it again. */
    return n->settings.listen && !*listen ? 0 : save(n, err);
}

static int open_it(struct api_call *call) {
    struct caller caller = {.role = call->role};
    struct network *n = call->m->network;
    char code[AUTH_TEXT], url[ADDRESS_MAX + 20];
    struct error e = {0};
    int64_t expires;

    if (check_name(call) < 0)
        return -EINVAL;
    if (listen_as_asked(call, &e) < 0)
        return api_fail(call, e.code == -EINVAL ? FAILURE_INVALID : FAILURE_CONFLICT, "listen", "",
                        "%s", e.text);
    snprintf(caller.name, sizeof(caller.name), "%s", call->caller);
    snprintf(caller.tenant, sizeof(caller.tenant), "%s", call->tenant);
    if (!auth_code_new(call->m->auth, &caller, code, &expires))
        return api_fail(call, FAILURE_LIMIT, "", "use one of them, or wait ten minutes",
                        "too many codes wait to be used");
    put_url(n, url, sizeof(url));
    call->result = json_pack("{s:s, s:s, s:s}", "address", n->address, "url", url, "fingerprint",
                             n->certificate.fingerprint);
    row_set_time(call->result, "expires", expires);
    call->once =
        json_pack("{s:s, s:o}", "code", code, "url", json_sprintf("%s#code=%s", url, code));
    return 0;
}

static int close_it(struct api_call *call) {
    struct network *n = call->m->network;
    struct store_row row = {0};
    struct error e = {0};
    int r = 0;

    if (check_name(call) < 0)
        return -EINVAL;
    if (find_row(n, &row))
        r = store_delete(n->m->store, "portal", row.id, &e);
    store_row_done(&row);
    if (r < 0)
        return api_fail_error(call, &e);
    close_door(n);
    call->result = describe(n);
    return 0;
}

const struct api_handler portal_handlers[] = {
    {"get", get}, {"open", open_it}, {"close", close_it}, {NULL, NULL}};
