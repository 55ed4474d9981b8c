/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs viv-oci twice: it says what the image is, and then makes its disk. */
#include "host/oci_import.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/tar.h"
#include "proto/place.h"

/* 1: a member of a tar archive that only such an archive has. */
static int has_sign(void *unused, const struct tar_member *m, struct error *err) {
    const char *name = m->name + 2 * !strncmp(m->name, "./", 2);

    return !strcmp(name, "oci-layout") || !strcmp(name, "index.json") ||
           !strcmp(name, "manifest.json");
}

bool oci_import_is(const char *path) {
    char file[PATH_MAX];
    struct stat st;
    bool yes;
    int fd;

    if (stat(path, &st) < 0)
        return false;
    if (S_ISDIR(st.st_mode))
        return snprintf(file, sizeof(file), "%s/index.json", path) < PATH_MAX &&
               access(file, F_OK) == 0;
    if (strstr(path, ".tar.") || strstr(path, ".tgz")) /* a compressed disk is called otherwise */
        return true;
    fd = S_ISREG(st.st_mode) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return false;
    yes = tar_walk(fd, path, has_sign, NULL, NULL) == 1;
    close(fd);
    return yes;
}

/* The agent that becomes the init lies beside the other programs, or as the package puts it. */
static void find_agent(char out[PATH_MAX]) {
    char self[PATH_MAX - 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    place_program("viv-agent", out);
    self[n > 0 ? n : 0] = 0;
    slash = strrchr(self, '/');
    if (access(out, R_OK) == 0 || !slash)
        return;
    *slash = 0;
    snprintf(out, PATH_MAX, "%s/../lib/vivarium/viv-agent", self);
}

/* "oci:PATH@DIGEST": what the words mean is said by viv-oci. */
static void put_word(const struct transfer *t, const struct oci_import *o, char *out, size_t n) {
    snprintf(out, n, "oci:%s%s%s", t->file,
             !*o->reference                         ? ""
             : !strncmp(o->reference, "sha256:", 7) ? "@"
                                                    : ":",
             o->reference);
}

static int look(struct transfer *t, char *program, char *word, struct oci_import *o,
                struct error *err) {
    char *argv[] = {program, "inspect", word, NULL}, *output = NULL;
    const char *digest, *name;
    json_t *v;
    int r = child_run(t, argv, &output, err);

    if (r < 0)
        return r;
    v = json_loads(output, 0, NULL);
    digest = json_string_value(json_object_get(v, "digest"));
    name = json_string_value(json_object_get(v, "name"));
    if (digest && name) {
        snprintf(o->digest, sizeof(o->digest), "%s", digest);
        snprintf(o->name, sizeof(o->name), "%s", name);
    } else {
        r = error_set(err, -EIO, "viv-oci says nothing of '%s' that can be understood", t->file);
    }
    json_decref(v);
    free(output);
    return r;
}

int oci_import(struct transfer *t, struct oci_import *o, struct error *err) {
    char program[PATH_MAX], agent[PATH_MAX], word[PATH_MAX + OCI_NAME + 8];
    struct stat st;
    int r;

    place_program("viv-oci", program);
    find_agent(agent);
    put_word(t, o, word, sizeof(word));
    r = look(t, program, word, o, err);
    if (r == 0) {
        char *argv[] = {program,
                        "pack",
                        word,
                        "--disk",
                        (char *)(uintptr_t)t->disk,
                        "--initrd",
                        (char *)(uintptr_t)o->initrd,
                        "--modules",
                        (char *)(uintptr_t)o->modules,
                        "--agent",
                        agent,
                        "--progress",
                        NULL};

        r = child_run(t, argv, NULL, err);
    }
    if (r == 0 && stat(t->disk, &st) < 0)
        r = error_set(err, -errno, "'%s': %s", t->disk, strerror(errno));
    t->found = "oci";
    if (r == 0)
        t->size = st.st_size;
    else
        unlink(t->disk);
    return r;
}
