/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies out of a guest and into it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/write.h"
#include "proto/guest.h"
#include "proto/tree.h"

enum { SLICE = 32 * 1024 };

static int refuse(struct error *err, const char *path, const char *what) {
    return error_set(err, GUEST_REFUSED, "'%s' cannot be %s: %s", path, what, strerror(errno));
}

static void tell_left_out(const struct tree_count *count) {
    if (count->left_out)
        fprintf(stderr, "left out, as they are no files, folders or links: %llu\n",
                (unsigned long long)count->left_out);
}

/* What a tree ended with, unless the connection did: said here, or by the agent. */
static int tree_ended(int r, struct error *err) {
    if (r < 0 && r != -EPIPE && r != -ECONNRESET && r != -ETIMEDOUT)
        err->code = GUEST_REFUSED;
    return r;
}

/* ------------------------------------------------------------------ out of a guest */

static int receive_data(struct guest *g, int fd, const char *to, struct error *err) {
    enum agent_frame type;
    const uint8_t *p;
    size_t n;
    int r;

    while ((r = agent_receive(&g->reader, g->timeout_ms, &type, &p, &n, err)) > 0) {
        if (type == AGENT_RESULT) { /* reading failed in the middle */
            json_t *v = agent_json(p, n, err);
            const char *text = json_string_value(json_object_get(v, "error"));

            error_set(err, GUEST_REFUSED, "%s", text ? text : "the guest's agent gave up");
            json_decref(v);
            return -EIO;
        }
        if (type != AGENT_DATA)
            return error_set(err, -EPROTO, "the guest's agent sent a frame of type %u", type);
        if (!n)
            return 0;
        r = write_all(fd, p, n);
        if (r < 0)
            return error_set(err, GUEST_REFUSED, "'%s' cannot be written: %s", to, strerror(-r));
    }
    return r < 0 ? r : error_set(err, -ETIMEDOUT, "the guest's agent sent no more in time");
}

/* The file appears when it is complete. */
static int take_file(struct guest *g, const json_t *head, const char *to, struct error *err) {
    mode_t mode = (mode_t)json_integer_value(json_object_get(head, "mode")) & 0777;
    char *temporary = NULL;
    int fd, r;

    if (asprintf(&temporary, "%s.viv-XXXXXX", to) < 0)
        return refuse(err, to, "made");
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        r = refuse(err, to, "made");
        free(temporary);
        return r;
    }
    r = receive_data(g, fd, to, err);
    if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(temporary, to) < 0))
        r = refuse(err, to, "put in place");
    if (r < 0)
        unlink(temporary);
    close(fd);
    free(temporary);
    return r;
}

static int take_tree(struct guest *g, const char *to, struct error *err) {
    struct tree_count count = {0};
    int fd = -1, r;

    if (mkdir(to, 0755) < 0 && errno != EEXIST)
        return refuse(err, to, "made");
    fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return refuse(err, to, "opened");
    r = tree_ended(tree_receive(&g->reader, g->timeout_ms, fd, to, &count, err), err);
    if (r == 0 && syncfs(fd) < 0)
        r = refuse(err, to, "written");
    close(fd);
    tell_left_out(&count);
    return r;
}

static int take(struct guest *g, const json_t *head, const char *from, const char *to,
                struct error *err) {
    bool tree = json_is_true(json_object_get(head, "folder"));
    char name[256], *within = NULL;
    struct stat st;
    int r;

    if (!strcmp(to, "-") && !tree)
        return receive_data(g, STDOUT_FILENO, to, err);
    if (!strcmp(to, "-"))
        return error_set(err, GUEST_REFUSED,
                         "'%s' in the guest is a folder, which the output cannot take: name one",
                         from);
    if (stat(to, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (!tree_last(from, name, err) || asprintf(&within, "%s/%s", to, name) < 0)
            return err->code = GUEST_REFUSED;
        to = within;
    }
    r = tree ? take_tree(g, to, err) : take_file(g, head, to, err);
    free(within);
    return r;
}

int guest_copy_out(struct guest *g, const char *from, const char *to, struct error *err) {
    json_t *head =
        guest_ask(g, json_pack("{s:s, s:s, s:b}", "do", "get", "path", from, "tree", g->tree), err);
    int r;

    if (!head)
        return guest_code(err);
    r = take(g, head, from, to, err);
    json_decref(head);
    return r < 0 ? guest_code(err) : 0;
}

/* ------------------------------------------------------------------ into a guest */

static int send_data(struct guest *g, int fd, const char *from, struct error *err) {
    static uint8_t bytes[SLICE];
    ssize_t n;
    int r = 0;

    while (r == 0 && (n = read(fd, bytes, sizeof(bytes))) > 0)
        r = agent_send(g->reader.fd, AGENT_DATA, bytes, (size_t)n, err);
    if (r == 0 && n < 0)
        return refuse(err, from, "read");
    return r < 0 ? r : agent_send(g->reader.fd, AGENT_DATA, NULL, 0, err);
}

static int send_all(struct guest *g, int fd, const struct stat *st, const char *from,
                    const char *to, const char *name, struct error *err) {
    bool tree = S_ISDIR(st->st_mode);
    int r = guest_begin(g,
                        json_pack("{s:s, s:s, s:i, s:b, s:s*}", "do", "put", "path", to, "mode",
                                  S_ISREG(st->st_mode) ? (int)(st->st_mode & 0777) : 0644, "tree",
                                  tree, "name", name),
                        err);

    if (r < 0)
        return r;
    return tree ? tree_ended(tree_send(g->reader.fd, fd, from, err), err)
                : send_data(g, fd, from, err);
}

int guest_copy_in(struct guest *g, const char *from, const char *to, struct error *err) {
    int fd = strcmp(from, "-") ? open(from, O_RDONLY | O_CLOEXEC) : STDIN_FILENO, r;
    struct tree_count count = {0};
    char name[256] = "";
    struct stat st;
    json_t *v;

    if (fd < 0 || fstat(fd, &st) < 0)
        r = refuse(err, from, "read");
    else if (S_ISDIR(st.st_mode) && !g->tree)
        r = error_set(err, GUEST_REFUSED, "'%s' is a folder, which is copied with -r", from);
    else if (fd != STDIN_FILENO && !tree_last(from, name, err))
        r = err->code = GUEST_REFUSED;
    else
        r = send_all(g, fd, &st, from, to, fd != STDIN_FILENO ? name : NULL, err);
    if (fd > STDIN_FILENO)
        close(fd);
    if (r < 0 && err->code != GUEST_REFUSED && g->reader.fd >= 0)
        err->code = 0; /* it may have said why */
    v = r < 0 && err->code ? NULL : guest_result(g, err);
    count.left_out = (uint64_t)json_integer_value(json_object_get(v, "left_out"));
    tell_left_out(&count);
    json_decref(v);
    return v ? 0 : guest_code(err);
}
