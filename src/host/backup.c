/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making, keeping and restoring backups of the store. */
#include "host/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "host/api.h"
#include "host/worker.h"
#include "proto/units.h"

enum {
    LOOK_MS = 600000,
    FIRST_MS = 60000,
    EVERY_S = 24 * 3600,
    MOST = 1000 /* that are listed */
};

#define PREFIX "store-"
#define SUFFIX ".db"

struct backups {
    struct manager *m;
    struct timer timer;
    bool busy;
};

/* ------------------------------------------------------------------ files */

static int is_backup(const struct dirent *e) {
    size_t n = strlen(e->d_name);

    return n > strlen(PREFIX SUFFIX) && n < 60 && !strncmp(e->d_name, PREFIX, strlen(PREFIX)) &&
           !strcmp(e->d_name + n - strlen(SUFFIX), SUFFIX);
}

/* Names hold the time, so that their order is that of time. For free, each and all. */
static int list(const char *data, struct dirent ***ret) {
    char folder[PATH_MAX];
    int n;

    snprintf(folder, sizeof(folder), "%.4000s/backups", data);
    n = scandir(folder, ret, is_backup, alphasort);
    return n < 0 ? 0 : n;
}

static void list_free(struct dirent **l, int n) {
    for (int i = 0; i < n; i++)
        free(l[i]);
    if (n)
        free(l);
}

void backup_newest(const char *data, char *out, size_t size) {
    struct dirent **l = NULL;
    int n = list(data, &l);

    snprintf(out, size, "%s", n ? l[n - 1]->d_name : "");
    list_free(l, n);
}

void backup_stamp(char *out, size_t size) {
    time_t now = time(NULL);
    struct tm tm = {0};

    gmtime_r(&now, &tm);
    strftime(out, size, "%Y%m%dT%H%M%SZ", &tm);
}

static void sync_folder(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

/* Whole and safe when it returns. */
static int make(const char *data, char *ret_name, size_t size, struct error *err) {
    char folder[PATH_MAX], from[PATH_MAX], part[PATH_MAX], to[PATH_MAX], when[40];

    backup_stamp(when, sizeof(when));
    snprintf(ret_name, size, PREFIX "%s" SUFFIX, when);
    snprintf(folder, sizeof(folder), "%.3900s/backups", data);
    snprintf(from, sizeof(from), "%.3900s/store.db", data);
    snprintf(part, sizeof(part), "%.3900s/backups/part", data);
    snprintf(to, sizeof(to), "%.3900s/backups/%.60s", data, ret_name);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return error_set(err, -errno, "the folder '%.300s' cannot be made: %s", folder,
                         strerror(errno));
    unlink(part);
    if (store_copy(from, part, err) < 0) {
        unlink(part);
        return err->code;
    }
    if (rename(part, to) < 0)
        return error_set(err, -errno, "the backup cannot get its name: %s", strerror(errno));
    sync_folder(folder);
    return 0;
}

static void forget_old(const char *data) {
    struct dirent **l = NULL;
    int n = list(data, &l);

    for (int i = 0; i < n - BACKUP_KEEP; i++) {
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%.3900s/backups/%.60s", data, l[i]->d_name);
        unlink(path);
    }
    list_free(l, n);
}

/* Seconds since the newest was made; a clock that was set back makes it old. */
static int64_t age(const char *data) {
    char name[80], path[PATH_MAX];
    struct stat st;
    int64_t s;

    backup_newest(data, name, sizeof(name));
    snprintf(path, sizeof(path), "%.3900s/backups/%s", data, name);
    if (!*name || stat(path, &st) < 0)
        return INT64_MAX;
    s = (int64_t)time(NULL) - st.st_mtime;
    return s < 0 ? INT64_MAX : s;
}

/* ------------------------------------------------------------------ by itself */

struct making {
    struct manager *m;
    struct http_exchange *x; /* NULL: nobody waits */
    char name[80];
    struct error error;
};

static void make_work(void *opaque) {
    struct making *k = opaque;
    const char *data = k->m->home.place.data;

    if (make(data, k->name, sizeof(k->name), &k->error) == 0)
        forget_old(data);
}

static void gone(void *opaque) { ((struct making *)opaque)->x = NULL; }

static void answer(struct making *k) {
    struct api_failure f = {.kind = FAILURE_FAILED};
    json_t *o;
    char *text;

    if (k->error.code) {
        snprintf(f.reason, sizeof(f.reason), "%s", k->error.text);
        api_send_failure(k->x, &f);
        return;
    }
    o = json_pack("{s:s}", "file", k->name);
    text = json_dumps(o, JSON_COMPACT);
    http_answer(k->x, 200, "application/json", text, strlen(text));
    free(text);
    json_decref(o);
}

static void made(void *opaque) {
    struct making *k = opaque;

    k->m->backups->busy = false;
    if (k->x)
        answer(k);
    else if (k->error.code)
        log_warning("%s", k->error.text);
    free(k);
}

static int begin(struct manager *m, struct http_exchange *x) {
    struct making *k = calloc(1, sizeof(*k));

    if (!k)
        return -ENOMEM;
    *k = (struct making){.m = m, .x = x};
    m->backups->busy = true;
    if (x)
        http_set_gone(x, gone, k);
    workers_run(m->workers, make_work, made, k);
    return 0;
}

static void look(void *opaque) {
    struct backups *b = opaque;

    if (!b->busy && age(b->m->home.place.data) >= EVERY_S)
        begin(b->m, NULL);
    timer_start(b->m->timers, &b->timer, LOOK_MS, look, b);
}

struct backups *backups_new(struct manager *m) {
    struct backups *b = calloc(1, sizeof(*b));

    if (b)
        b->m = m;
    return b;
}

void backups_begin(struct backups *b) { timer_start(b->m->timers, &b->timer, FIRST_MS, look, b); }

void backups_free(struct backups *b) {
    if (b)
        timer_stop(&b->timer);
    free(b);
}

/* ------------------------------------------------------------------ operations */

int backup_create(struct api_call *call) {
    if (strcmp(call->name, "local") != 0)
        return api_fail(call, FAILURE_NOT_FOUND, "name", "ask for 'local'",
                        "there is no host '%.60s' here", call->name);
    if (call->m->backups->busy)
        return api_fail(call, FAILURE_CONFLICT, "", "wait a moment", "a backup is being made");
    return begin(call->m, call->x) < 0 ? api_fail(call, FAILURE_FAILED, "", "", "out of memory")
                                       : 1;
}

int backup_list(struct api_call *call) {
    struct dirent **l = NULL;
    json_t *files = json_array();
    int n;

    if (strcmp(call->name, "local") != 0) {
        json_decref(files);
        return api_fail(call, FAILURE_NOT_FOUND, "name", "ask for 'local'",
                        "there is no host '%.60s' here", call->name);
    }
    n = list(call->m->home.place.data, &l);
    for (int i = n - 1; i >= 0 && i >= n - MOST; i--)
        json_array_append_new(files, json_string(l[i]->d_name));
    list_free(l, n);
    call->result = json_pack("{s:s, s:o}", "folder", "backups", "files", files);
    return call->result ? 0 : api_fail(call, FAILURE_FAILED, "", "", "out of memory");
}
