/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The screen of a machine as a picture, and input to it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* Whole or not at all, so that who watches the file never sees half a picture. */
static int put_file(struct cli *c, const char *path, const struct buf *data) {
    char part[4200];
    FILE *f;
    bool good;

    snprintf(part, sizeof(part), "%.4000s.part%d", path, (int)getpid());
    f = fopen(part, "wxe");
    good = f && fwrite(data->data, 1, data->len, f) == data->len;
    if (f)
        good = fclose(f) == 0 && good;
    if (good && rename(part, path) == 0)
        return 0;
    remote_fail(&c->failure, FAILURE_FAILED, "choose another place", "'%s' cannot be written: %s",
                path, strerror(errno));
    if (f)
        unlink(part);
    return -1;
}

int do_screenshot(struct cli *c) {
    const char *path = c->names > 1 ? c->name[1] : NULL;
    struct buf png = {0};
    char own[120];
    int r;

    if (!path && isatty(STDOUT_FILENO)) {
        snprintf(own, sizeof(own), "%.100s.png", c->name[0]);
        path = own;
    }
    r = remote_get_text(c->remote, &png, &c->failure, "/v1/vms/%s/screenshot", c->name[0]);
    if (r == 0 && path && strcmp(path, "-") != 0) {
        r = put_file(c, path, &png);
        if (r == 0)
            show_note(c, "the screen of '%s' is in %s", c->name[0], path);
    } else if (r == 0) {
        fwrite(png.data, 1, png.len, stdout);
        if (fflush(stdout) != 0)
            r = remote_fail(&c->failure, FAILURE_FAILED, "", "standard output: %s",
                            strerror(errno));
    }
    buf_done(&png);
    return r;
}

/* Asks it, and says nothing. */
static int send(struct cli *c, json_t *args) {
    json_t *done = NULL;
    int r = remote_call(c->remote, "POST", args, &done, &c->failure, "/v1/vms/%s/%s", c->name[0],
                        c->command->op);

    if (r == 0 && c->json)
        show_json(done);
    json_decref(done);
    return r;
}

int do_send_key(struct cli *c) {
    json_t *args = cli_args(c, "send-key");

    json_object_set_new(args, "keys", json_string(c->name[1]));
    return send(c, args);
}

int do_type(struct cli *c) {
    json_t *args = cli_args(c, "type"), *text = json_string(c->name[1]);

    if (!text) {
        json_decref(args);
        return remote_fail(&c->failure, FAILURE_INVALID, "type ASCII characters",
                           "the text is not UTF-8");
    }
    json_object_set_new(args, "text", text);
    return send(c, args);
}

/* Coordinates stand without flags. */
static json_t *number(const char *word) {
    char *end;
    long v = strtol(word, &end, 10);

    return *end || end == word ? json_string(word) : json_integer(v);
}

int do_pointer(struct cli *c) {
    json_t *args = cli_args(c, "pointer");

    json_object_set_new(args, "x", number(c->name[1]));
    json_object_set_new(args, "y", number(c->name[2]));
    return send(c, args);
}
