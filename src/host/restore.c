/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vivd --restore: a backup takes the place of the store, which stays beside it; what the backup
 * does not know is set aside. Each step can be done again after a crash in the middle. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/backup.h"

/* ------------------------------------------------------------------ set aside */

static bool is_known(struct store *s, const char *kind, const char *name) {
    struct store_row row = {0};
    char id[STORE_WORD];
    int r;

    snprintf(id, sizeof(id), "%.*s", (int)strcspn(name, "."), name);
    r = store_get(s, kind, id, &row);
    store_row_done(&row);
    return r != -ENOENT; /* of what cannot be read nothing is moved */
}

static int make_folder(const char *path, struct error *err) {
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    return error_set(err, -errno, "the folder '%.300s' cannot be made: %s", path, strerror(errno));
}

static int move(const char *data, const char *plural, const char *name, const char *when,
                struct error *err) {
    char from[PATH_MAX], to[PATH_MAX];

    snprintf(to, sizeof(to), "%.3000s/lost", data);
    if (make_folder(to, err) < 0)
        return err->code;
    snprintf(to, sizeof(to), "%.3000s/lost/%s", data, when);
    if (make_folder(to, err) < 0)
        return err->code;
    snprintf(to, sizeof(to), "%.3000s/lost/%s/%s", data, when, plural);
    if (make_folder(to, err) < 0)
        return err->code;
    snprintf(from, sizeof(from), "%.3000s/%s/%.255s", data, plural, name);
    snprintf(to, sizeof(to), "%.3000s/lost/%s/%s/%.255s", data, when, plural, name);
    if (rename(from, to) < 0)
        return error_set(err, -errno, "'%.300s' cannot be set aside: %s", from, strerror(errno));
    return 0;
}

int backup_set_aside(const struct home *home, struct store *store, struct error *err) {
    static const struct {
        const char *kind, *plural;
    } kinds[] = {{"vm", "machines"}, {"image", "images"}, {"volume", "volumes"}};
    const char *data = home->place.data;
    int moved = 0, r = 0;
    char when[40];

    backup_stamp(when, sizeof(when));
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char path[PATH_MAX];
        struct dirent *e;
        DIR *d;

        snprintf(path, sizeof(path), "%.3000s/%s", data, kinds[i].plural);
        d = opendir(path);
        while (d && r == 0 && (e = readdir(d))) {
            if (e->d_name[0] == '.' || is_known(store, kinds[i].kind, e->d_name))
                continue;
            r = move(data, kinds[i].plural, e->d_name, when, err);
            moved += r == 0;
        }
        if (d)
            closedir(d);
    }
    return r < 0 ? r : moved;
}

/* ------------------------------------------------------------------ restoring */

static int find(const char *data, const char *which, char *out, size_t size, struct error *err) {
    char name[80];

    if (!strcmp(which, "latest")) {
        backup_newest(data, name, sizeof(name));
        if (!*name)
            return error_set(err, -ENOENT, "there is no backup in '%.300s/backups'", data);
        snprintf(out, size, "%.3000s/backups/%s", data, name);
    } else if (strchr(which, '/')) {
        snprintf(out, size, "%.3900s", which);
    } else {
        snprintf(out, size, "%.3000s/backups/%.255s", data, which);
    }
    if (access(out, R_OK) < 0)
        return error_set(err, -errno,
                         "the backup '%.300s' cannot be read: %s; 'viv backup list' and "
                         "the folder 'backups' tell which there are",
                         out, strerror(errno));
    return 0;
}

/* The old store, with its log of writes, gets other names. */
static void keep_old(const char *data, const char *when) {
    static const char *const ends[] = {"-wal", "-shm", ""};

    for (unsigned i = 0; i < 3; i++) {
        char from[PATH_MAX], to[PATH_MAX];

        snprintf(from, sizeof(from), "%.3000s/store.db%s", data, ends[i]);
        snprintf(to, sizeof(to), "%.3000s/store.db.%s%s", data, when, ends[i]);
        rename(from, to);
    }
}

int backup_restore(struct home *home, const char *which, struct error *err) {
    const char *data = home->place.data;
    char from[PATH_MAX], part[PATH_MAX], to[PATH_MAX], when[40];
    struct store *store;
    int moved;

    backup_stamp(when, sizeof(when));
    snprintf(part, sizeof(part), "%.3000s/store.db.part", data);
    snprintf(to, sizeof(to), "%.3000s/store.db", data);
    unlink(part);
    if (find(data, which, from, sizeof(from), err) < 0 || store_copy(from, part, err) < 0)
        return err->code;
    keep_old(data, when);
    if (rename(part, to) < 0)
        return error_set(err, -errno, "the backup cannot take the place of the store: %s",
                         strerror(errno));
    store = store_open(to, err);
    if (!store)
        return err->code;
    moved = backup_set_aside(home, store, err);
    store_close(store);
    if (moved < 0)
        return moved;
    printf("the store is that of '%s' again; the one before is '%s.%s'\n", from, to, when);
    if (moved)
        printf("%d machines, images or volumes that it does not know are in '%s/lost'\n", moved,
               data);
    return 0;
}
