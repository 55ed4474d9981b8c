/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where it leads to; of what is not there its folder, and the name. False: nowhere. */
static bool resolve(const char *path, char out[PATH_MAX]) {
    char folder[PATH_MAX], *slash;
    struct stat st;
    size_t used;

    if (realpath(path, out))
        return true;
    /* A link that leads to nothing would be followed by who makes the file. */
    if (errno != ENOENT || lstat(path, &st) == 0 ||
        snprintf(folder, sizeof(folder), "%s", path) >= PATH_MAX)
        return false;
    slash = strrchr(folder, '/');
    if (!slash || !slash[1] || !strcmp(slash + 1, ".") || !strcmp(slash + 1, ".."))
        return false;
    *slash++ = 0;
    if (!realpath(*folder ? folder : "/", out))
        return false;
    used = strlen(out);
    return snprintf(out + used, PATH_MAX - used, "/%s", slash) < (int)(PATH_MAX - used);
}

/* Who may write to a folder on the way may put a link there after we have looked. */
static bool is_ours(const char *folder) {
    struct stat st;

    return lstat(folder, &st) == 0 && S_ISDIR(st.st_mode) &&
           (st.st_uid == 0 || st.st_uid == geteuid()) && !(st.st_mode & S_IWOTH);
}

static bool lies_in(const char *real, const char *folder) {
    char top[PATH_MAX], part[PATH_MAX];
    size_t n;

    if (!realpath(folder, top))
        return false;
    n = strlen(top);
    if (strncmp(real, top, n) != 0 || (real[n] && real[n] != '/') || !is_ours(top))
        return false;
    for (const char *slash = real + n; (slash = strchr(slash + 1, '/'));) {
        snprintf(part, sizeof(part), "%.*s", (int)(slash - real), real);
        if (!is_ours(part))
            return false;
    }
    return true;
}

bool files_within(const char *const folders[], unsigned count, const char *path) {
    char real[PATH_MAX];
    bool yes = false;

    if (*path != '/' || !resolve(path, real))
        return false;
    for (unsigned i = 0; i < count && !yes; i++)
        yes = lies_in(real, folders[i]);
    return yes;
}

static int check_path(struct api_call *call, const char *where, const char *name,
                      const char *path) {
    const struct files_allowed *more = call->m->files;
    const char *folders[FILES_MOST + 1];
    char media[PATH_MAX], remedy[260];
    unsigned n = 0;

    if (!role_names_files(call->role))
        return api_fail(call, FAILURE_FORBIDDEN, where, "ask an admin",
                        "%s may not name files of the manager's host (%s)", call->caller, name);
    if (api_is_local_admin(call))
        return 0;
    snprintf(media, sizeof(media), "%.4000s/" FILES_MEDIA, call->m->home.place.data);
    folders[n++] = media;
    for (unsigned i = 0; more && i < more->count; i++)
        folders[n++] = more->folder[i];
    if (files_within(folders, n, path))
        return 0;
    snprintf(remedy, sizeof(remedy),
             "put it into %.120s, or have vivd started with --remote-files and its folder", media);
    return api_fail(call, FAILURE_FORBIDDEN, where, remedy,
                    "callers from the network may name files of the manager's host only where "
                    "that was allowed (%s)",
                    name);
}

int files_check(struct api_call *call) {
    const json_t *spec = json_object_get(call->body, "spec");

    for (const struct field *f = call->op->args; f->type != FIELD_END; f++) {
        const char *path = field_host_path(f, row_text(call->args, f->name));

        if (path && check_path(call, f->name, f->name, path) < 0)
            return -EINVAL;
    }
    for (const struct field *f = call->resource->fields; f->type != FIELD_END; f++) {
        const char *path =
            f->place == FIELD_SPEC ? field_host_path(f, row_text(spec, f->name)) : NULL;

        if (path && check_path(call, "spec", f->name, path) < 0)
            return -EINVAL;
    }
    return 0;
}
