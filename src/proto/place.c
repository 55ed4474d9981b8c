/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folders by the XDG Base Directory Specification 0.8. */
#include "proto/place.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST = 3500 };

static const char *absolute(const char *variable) {
    const char *v = getenv(variable);

    return v && *v == '/' && strlen(v) < LONGEST ? v : NULL; /* relative ones are to be ignored */
}

static const char *home_folder(void) {
    const char *home = absolute("HOME");
    struct passwd *pw = home ? NULL : getpwuid(getuid());

    return home ? home : pw ? pw->pw_dir : NULL;
}

static int find_data(struct place *p, struct error *err) {
    const char *data = absolute("XDG_DATA_HOME"), *home;

    if (data) {
        snprintf(p->data, sizeof(p->data), "%.3500s/vivarium", data);
        return 0;
    }
    home = home_folder();
    if (!home)
        return error_set(err, -ENOENT, "this user has no home folder: set VIV_HOME to a folder");
    snprintf(p->data, sizeof(p->data), "%.3500s/.local/share/vivarium", home);
    return 0;
}

int place_find(struct place *p, bool system, struct error *err) {
    const char *own = getenv("VIV_HOME"), *runtime = absolute("XDG_RUNTIME_DIR");
    int r = 0;

    if (own && *own && (*own != '/' || strlen(own) >= LONGEST))
        return error_set(err, -EINVAL, "VIV_HOME must be an absolute path, not '%.100s'", own);
    if (system) {
        snprintf(p->data, sizeof(p->data), "/var/lib/vivarium");
        snprintf(p->runtime, sizeof(p->runtime), "/run/vivarium");
    } else if (own && *own) {
        snprintf(p->data, sizeof(p->data), "%.3500s", own);
        snprintf(p->runtime, sizeof(p->runtime), "%.3500s/run", own);
    } else if ((r = find_data(p, err)) == 0) {
        if (runtime)
            snprintf(p->runtime, sizeof(p->runtime), "%.3500s/vivarium", runtime);
        else
            snprintf(p->runtime, sizeof(p->runtime), "%.3600s/run", p->data);
    }
    if (r == 0)
        snprintf(p->socket, sizeof(p->socket), "%.4000s/api", p->runtime);
    return r;
}

void place_program(const char *name, char out[PATH_MAX]) {
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n > 0) {
        self[n] = 0;
        slash = strrchr(self, '/');
        if (slash) {
            *slash = 0;
            if (snprintf(out, PATH_MAX, "%s/%s", self, name) < PATH_MAX && access(out, X_OK) == 0)
                return;
        }
    }
    snprintf(out, PATH_MAX, "%s", name);
}
