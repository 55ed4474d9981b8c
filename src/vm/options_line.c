/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of what leads in and out: lines, sockets, folders, screens. */
#include "vm/options_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "share/share.h"
#include "vm/chardev.h"

static int set_line(const char **to, const char *what, const char *v, struct error *err) {
    if (!chardev_spec_valid(v))
        return error_set(err, -EINVAL,
                         "'%s' is no place for the %s: use stdio, file:PATH, unix:PATH or none", v,
                         what);
    *to = v;
    return 0;
}

int option_serial(struct options *o, const char *v, struct error *err) {
    if (o->serials == MACHINE_MAX_SERIALS)
        return error_set(err, -EINVAL, "a machine has at most %d serial ports",
                         MACHINE_MAX_SERIALS);
    return set_line(&o->serial[o->serials++], "serial port", v, err);
}

int option_serial_log(struct options *o, const char *v, struct error *err) {
    if (!*v)
        return error_set(err, -EINVAL, "--serial-log needs the name of a file");
    o->serial_log = v;
    return 0;
}

int option_console(struct options *o, const char *v, struct error *err) {
    return set_line(&o->console, "console", v, err);
}

int option_vsock(struct options *o, const char *v, struct error *err) {
    const char *cid = strstr(v, ",cid=");
    size_t length = cid ? (size_t)(cid - v) : strlen(v);
    char *end = NULL, *path;

    if (strncmp(v, "unix:", 5) != 0 || length <= 5)
        return error_set(err, -EINVAL, "'%s' is no place for a vsock: use unix:PATH[,cid=NUMBER]",
                         v);
    path = options_keep(o, v + 5);
    if (!path)
        return error_set(err, -ENOMEM, "--vsock: out of memory");
    path[length - 5] = 0;
    o->vsock = path;
    if (cid) {
        errno = 0;
        o->vsock_cid = strtoull(cid + 5, &end, 10);
        if (cid[5] < '0' || cid[5] > '9' || *end || errno || o->vsock_cid < VSOCK_CID_DEFAULT ||
            o->vsock_cid >= UINT32_MAX)
            return error_set(err, -EINVAL,
                             "'%s' is no address for a guest: cid takes a number from 3 to "
                             "4294967294",
                             cid + 5);
    }
    return 0;
}

int options_add_share(struct options *o, const char *tag, const char *path, bool readonly,
                      struct error *err) {
    if (o->shares == MACHINE_MAX_SHARES)
        return error_set(err, -EINVAL, "at most %d folders can be shared", MACHINE_MAX_SHARES);
    if (!*tag || strlen(tag) > SHARE_TAG_MAX || !*path)
        return error_set(err, -EINVAL,
                         "a shared folder has a tag of 1 to %d characters, by which the guest "
                         "mounts it, and a path: use TAG=PATH[,ro]",
                         SHARE_TAG_MAX);
    for (unsigned i = 0; i < o->shares; i++)
        if (!strcmp(o->share[i].tag, tag))
            return error_set(err, -EINVAL,
                             "two folders have the tag '%s': give one of them another", tag);
    o->share[o->shares++] = (struct options_share){tag, path, readonly};
    return 0;
}

int option_share(struct options *o, const char *v, struct error *err) {
    char *rest = options_keep(o, v), *tag, *path, *part;
    bool readonly = false;

    if (!rest)
        return error_set(err, -ENOMEM, "out of memory");
    tag = option_next_part(&rest);
    path = strchr(tag, '=');
    if (!path)
        return error_set(err, -EINVAL, "'%s' has no path: use TAG=PATH[,ro]", v);
    *path++ = 0;
    while ((part = option_next_part(&rest))) {
        if (strcmp(part, "ro") != 0)
            return error_set(err, -EINVAL,
                             "'%s' is nothing a shared folder knows: ro makes it read-only, and a "
                             "comma in a path is written twice",
                             part);
        readonly = true;
    }
    return options_add_share(o, tag, path, readonly, err);
}

int option_control(struct options *o, const char *v, struct error *err) {
    if (strncmp(v, "unix:", 5) != 0 || !v[5])
        return error_set(err, -EINVAL, "'%s' is no place for a control socket: use unix:PATH", v);
    o->control = v + 5;
    return 0;
}

bool options_vga_valid(const char *v) {
    return !strcmp(v, "std") || !strcmp(v, "virtio") || !strcmp(v, "none");
}

int options_set_display(struct options *o, const char *text, struct error *err) {
    int r;

    if (o->displays == OPTIONS_MAX_DISPLAYS)
        return error_set(err, -EINVAL, "at most %d --display can be given", OPTIONS_MAX_DISPLAYS);
    r = vnc_options_parse(text, &o->vnc[o->displays], err);
    if (r == 0)
        o->display[o->displays++] = text;
    return r;
}

int option_display(struct options *o, const char *v, struct error *err) {
    return options_set_display(o, v, err);
}

int option_vga(struct options *o, const char *v, struct error *err) {
    if (!options_vga_valid(v))
        return error_set(err, -EINVAL, "'%s' is no display adapter: use std, virtio or none", v);
    o->vga = v;
    return 0;
}

/* Serial ports, and behind them the console: no two have the same place. */
int option_check_lines(const struct options *o, struct error *err) {
    for (unsigned i = 0; i < o->serials; i++)
        for (unsigned k = i + 1; k <= o->serials; k++) {
            const char *other = k < o->serials ? o->serial[k] : o->console;

            if (other && !strcmp(o->serial[i], other) && strcmp(other, "none") != 0)
                return error_set(err, -EINVAL,
                                 "--serial and %s both want %s: give one of them "
                                 "another place",
                                 k < o->serials ? "another --serial" : "--console", other);
        }
    return 0;
}

bool options_has_screen(const struct options *o) {
    return o->vga ? strcmp(o->vga, "none") != 0 : o->displays > 0;
}
