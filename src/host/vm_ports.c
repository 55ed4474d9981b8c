/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/vm_ports.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/resource.h"

enum { PORTS_MAX = 4, HIGHEST = 65535 };

#define TLS_FOLDER "vnc-tls"

const char *ports_socket(unsigned port) {
    static const char *const name[PORTS_MAX] = {"serial", "serial2", "serial3", "serial4"};

    return name[port - 1];
}

int ports_fail(struct api_call *call, unsigned port) {
    return api_fail(call, FAILURE_CONFLICT, "port",
                    "give it more: viv edit NAME --serial-ports 2, and start it anew",
                    "'%s' has no serial port %u now", call->row.name, port);
}

static bool is_given(const json_t *spec, const char *field) {
    const char *text = row_text(spec, field);

    return *text && strcmp(text, "none") != 0;
}

/* Whoever gets there is on this host. */
static bool is_loopback(const char *place) {
    return !strncmp(place, "127.", 4) || !strncmp(place, "localhost:", 10) ||
           !strncmp(place, "[::1]:", 6);
}

static int check_password(struct api_call *call, const char *path) {
    struct stat st;

    if (stat(path, &st) < 0 || access(path, R_OK) < 0)
        return api_fail(call, FAILURE_INVALID, "spec.vnc_password_file",
                        "give a file of the manager's host", "'%.300s' cannot be read: %s", path,
                        strerror(errno));
    if (!S_ISREG(st.st_mode) || !st.st_size)
        return api_fail(call, FAILURE_INVALID, "spec.vnc_password_file",
                        "write the password into its first line", "'%.300s' has no password", path);
    return 0;
}

int ports_check(struct api_call *call, const json_t *spec) {
    const char *vnc = row_text(spec, "vnc");

    if (is_given(spec, "vnc_password_file") &&
        check_password(call, row_text(spec, "vnc_password_file")) < 0)
        return -EINVAL;
    if (!is_given(spec, "vnc"))
        return 0;
    if (strtol(strrchr(vnc, ':') + 1, NULL, 10) > HIGHEST)
        return api_fail(call, FAILURE_INVALID, "spec.vnc", "use 1 to 65535", "'%s' has no port",
                        vnc);
    if (!is_given(spec, "vga"))
        return api_fail(call, FAILURE_INVALID, "spec.vnc", "give it one: --vga std",
                        "there is no screen to show");
    if (!is_loopback(vnc) && !is_given(spec, "vnc_password_file"))
        return api_fail(call, FAILURE_INVALID, "spec.vnc_password_file",
                        "give a password by --vnc-password-file, better with --vnc-tls, or an "
                        "address of this host alone: 127.0.0.1",
                        "everybody who reaches %s could use the machine", vnc);
    return 0;
}

static void add_serials(struct words *w, const json_t *spec, const json_t *memory) {
    int64_t n = row_number(spec, "serial_ports");

    if (memory)
        n = 1 + (int64_t)json_array_size(json_object_get(memory, "more_serials"));
    for (unsigned i = 1; i <= PORTS_MAX && (i == 1 || i <= n); i++) {
        words_add(w, "--serial");
        words_add(w, "unix:%s", ports_socket(i));
    }
}

void ports_words(struct words *w, const json_t *spec, const json_t *memory) {
    add_serials(w, spec, memory);
    if (!is_given(spec, "vga"))
        return;
    words_add(w, "--display");
    words_add(w, "vnc=unix:vnc");
    if (!is_given(spec, "vnc"))
        return;
    words_add(w, "--display");
    words_add(w, "vnc=%s%s%s%s", row_text(spec, "vnc"),
              row_flag(spec, "vnc_tls") ? ",tls=" TLS_FOLDER : "",
              is_given(spec, "vnc_password_file") ? ",password-file=" : "",
              is_given(spec, "vnc_password_file") ? row_text(spec, "vnc_password_file") : "");
}

void ports_forget(json_t *spec) {
    if (is_given(spec, "vnc"))
        row_set_text(spec, "vnc", "none");
}
