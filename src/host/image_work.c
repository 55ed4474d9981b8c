/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What workers do for images: their folders and files. */
#include "host/image_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/image_known.h"
#include "host/image_transfer.h"
#include "host/template.h"
#include "host/tree.h"

int64_t image_file_size(const char *path) {
    struct stat st;

    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

void image_remove_work(void *opaque) {
    struct image *v = opaque;

    tree_remove(v->all->m->home.images, v->id, &v->error);
}

int image_make_folder(struct image *v) {
    int images = v->all->m->home.images, fd;

    if (mkdirat(images, v->id, 0700) < 0 && errno != EEXIST)
        return error_set(&v->error, -errno, "the image's folder cannot be made: %s",
                         strerror(errno));
    fd = openat(images, v->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? error_set(&v->error, -errno, "the image's folder: %s", strerror(errno)) : fd;
}

void image_copy_work(void *opaque) {
    struct image *v = opaque;
    char from[PATH_MAX + 64];
    int folder = image_make_folder(v);

    for (unsigned i = 0; i < IMAGE_FILES && folder >= 0 && !v->error.code; i++) {
        const char *name = *image_known_file(v->known, i), *to = image_file_names[i];
        int64_t size;

        if (!name)
            continue;
        snprintf(from, sizeof(from), "%s/%s", v->source, name);
        size = image_file_size(from);
        if (size < 0 && i == IMAGE_KEY)
            continue;
        __atomic_store_n(&v->copied, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&v->of, size, __ATOMIC_RELAXED);
        tree_copy(from, folder, to, &v->copied, &v->stop, &v->error);
    }
    if (folder >= 0 && fsync(folder) < 0)
        error_set(&v->error, -errno, "the image's folder cannot be written: %s", strerror(errno));
    if (folder >= 0)
        close(folder);
    v->used = tree_used(v->all->m->home.images, v->id);
}

void image_import_work(void *opaque) {
    struct image *v = opaque;
    int folder = image_make_folder(v);

    if (folder >= 0) {
        image_import(v->transfer, folder, &v->error);
        close(folder);
    }
    v->used = tree_used(v->all->m->home.images, v->id);
}

void image_template_work(void *opaque) {
    struct image *v = opaque;

    template_make(v->template, &v->error);
    v->used = tree_used(v->all->m->home.images, v->id);
}

void image_export_work(void *opaque) {
    struct image *v = opaque;

    image_export(v->transfer, &v->error);
}

void image_tidy_work(void *opaque) {
    struct image *v = opaque;
    int folder = image_make_folder(v);
    DIR *d = NULL;
    struct dirent *e;

    for (unsigned i = 0; i < IMAGE_FILES && folder >= 0 && !v->error.code; i++) {
        const char *name = *image_known_file(v->known, i);

        if (name && renameat(folder, name, folder, image_file_names[i]) < 0)
            error_set(&v->error, -errno, "the script made no file '%s'", name);
    }
    if (folder >= 0)
        d = fdopendir(folder);
    while (d && !v->error.code && (e = readdir(d)))
        if (e->d_name[0] != '.' && !image_file_known(e->d_name))
            tree_remove(dirfd(d), e->d_name, NULL);
    if (d && (syncfs(dirfd(d)) < 0))
        error_set(&v->error, -errno, "the image cannot be written: %s", strerror(errno));
    if (d)
        closedir(d);
    v->used = tree_used(v->all->m->home.images, v->id);
}
