/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The module with TLS: beside the program in a build, in lib/vivarium when it is installed. */
#include "vm/tls.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/tls_module.h"

/* The program's folder, as it was named when the program began: in a namespace of mounts of its
 * own, in a chroot, the kernel gives its path from another root. */
static char self[PATH_MAX];

__attribute__((constructor)) static void find_self(void) {
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    self[n > 0 ? n : 0] = 0;
    slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
}

static void *open_module(const char *folder, const char *name) {
    char path[PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

const struct tls_module *tls_module_load(struct error *err) {
    void *m = open_module(self, "tls-module.so");
    if (!m)
        m = open_module(self, "../lib/vivarium/tls-module.so");
    if (m)
        return dlsym(m, TLS_MODULE_SYMBOL);
    error_set(err, -ENOENT,
              "TLS cannot be loaded: %s; it is tls-module.so, which is installed with viv-vm, and "
              "needs OpenSSL 3 (package libssl3)",
              dlerror());
    return NULL;
}
