/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of images. */
#include "host/image_known.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEBIAN(name, version, suite)                                                               \
    {                                                                                              \
        name,                                                                                      \
            "Debian " version " with systemd, sshd and the cloud kernel; root, password vivarium", \
            "vmlinuz", "initrd.img", "debian" version ".raw", "id_ed25519",                        \
            "root=LABEL=root rw console=ttyS0", suite                                              \
    }

static const struct image_known known[] = {
    DEBIAN("debian", "12", "bookworm"),
    DEBIAN("debian-11", "11", "bullseye"),
    DEBIAN("debian-12", "12", "bookworm"),
    DEBIAN("debian-13", "13", "trixie"),
    {"tiny", "a shell in memory: busybox on Debian's cloud kernel, for tests and trying", "vmlinuz",
     "tiny.cpio.gz", NULL, NULL, "console=ttyS0 quiet", "bookworm"},
};
enum { KNOWN = sizeof(known) / sizeof(known[0]) };

const char *const image_file_names[IMAGE_FILES] = {
    [IMAGE_KERNEL] = "vmlinuz",
    [IMAGE_INITRD] = "initrd.img",
    [IMAGE_DISK] = "disk.raw",
    [IMAGE_KEY] = "id_ed25519",
};

const struct image_known *image_known_find(const char *name) {
    for (unsigned i = 0; i < KNOWN; i++)
        if (!strcmp(known[i].name, name))
            return &known[i];
    return NULL;
}

const char *image_known_names(void) {
    static char names[KNOWN * 20];

    if (!*names)
        for (unsigned i = 0; i < KNOWN; i++)
            snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "",
                     known[i].name);
    return names;
}

const char *const *image_known_file(const struct image_known *k, unsigned which) {
    const char *const *const files[IMAGE_FILES] = {&k->kernel, &k->initrd, &k->disk, &k->key};

    return files[which];
}

bool image_file_known(const char *name) {
    for (unsigned i = 0; i < IMAGE_FILES; i++)
        if (!strcmp(image_file_names[i], name))
            return true;
    return false;
}

static bool has_all(const struct image_known *k, const char *folder) {
    char path[PATH_MAX + 64];

    for (unsigned i = 0; i < IMAGE_FILES; i++) {
        const char *name = *image_known_file(k, i);

        if (!name || i == IMAGE_KEY)
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        if (access(path, R_OK) < 0)
            return false;
    }
    return true;
}

void image_known_source(const struct image_known *k, char out[PATH_MAX]) {
    const char *given = getenv("VIV_IMAGE_SOURCE");
    char self[PATH_MAX], folder[PATH_MAX + 16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    *out = 0;
    self[n > 0 ? n : 0] = 0;
    slash = strrchr(self, '/'); /* build/meson/vivd */
    if (slash)
        *slash = 0;
    if (given && *given)
        snprintf(folder, sizeof(folder), "%s", given);
    else
        snprintf(folder, sizeof(folder), "%s/../guest", self);
    if (has_all(k, folder) && strlen(folder) < PATH_MAX)
        memcpy(out, folder, strlen(folder) + 1);
}
