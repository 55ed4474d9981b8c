/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the helper may open for the process in the jail, by canonical path. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jail/jail_internal.h"

struct grant {
    char *given, *canonical; /* both absolute */
    unsigned rights;
};

struct grants {
    struct grant *grant;
    unsigned count, room;
    bool internet;
};

struct grants *grants_new(void) {
    return calloc(1, sizeof(struct grants));
}

static bool absolute(const char *path, char ret[PATH_MAX]) {
    char here[PATH_MAX];
    int n;

    if (*path == '/')
        n = snprintf(ret, PATH_MAX, "%s", path);
    else if (!getcwd(here, sizeof(here)))
        return false;
    else
        n = snprintf(ret, PATH_MAX, "%s/%s", strcmp(here, "/") ? here : "", path);
    if (n < PATH_MAX)
        return true;
    errno = ENAMETOOLONG;
    return false;
}

bool grants_resolve(const char *path, bool follow, char ret[PATH_MAX]) {
    char whole[PATH_MAX], parent[PATH_MAX], *name;
    struct stat st;

    if (!absolute(path, whole))
        return false;
    name = strrchr(whole, '/') + 1;
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..") ||
        (follow && lstat(whole, &st) == 0 && S_ISLNK(st.st_mode)))
        return realpath(whole, ret);
    *(name - 1) = 0;
    if (!realpath(*whole ? whole : "/", parent))
        return false;
    if (snprintf(ret, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", name) < PATH_MAX)
        return true;
    errno = ENAMETOOLONG;
    return false;
}

/* What is written before it gets its name: PATH.part, which may be a folder, and PATH.NUMBER.new.
 * All that goes on behind a dot would be too much: a snapshot may be called as its machine, whose
 * other files are called so, too. */
static bool is_unfinished(const char *rest) {
    size_t digits;

    if (!strncmp(rest, ".part", 5) && (!rest[5] || rest[5] == '/'))
        return true;
    digits = *rest == '.' ? strspn(rest + 1, "0123456789") : 0;
    return digits && !strcmp(rest + 1 + digits, ".new");
}

static bool covers(const struct grant *g, const char *path) {
    size_t n = strlen(g->canonical);

    if (strncmp(g->canonical, path, n) != 0)
        return false;
    return !path[n] || ((g->rights & JAIL_FAMILY) && (path[n] == '/' || is_unfinished(path + n)));
}

unsigned grants_find(const struct grants *g, const char *canonical) {
    unsigned rights = 0;

    for (unsigned i = 0; i < g->count; i++)
        if (covers(&g->grant[i], canonical))
            rights |= g->grant[i].rights;
    return rights;
}

unsigned grants_find_open(const struct grants *g, int fd) {
    struct stat file, named;
    unsigned rights = 0;

    if (fstat(fd, &file) < 0)
        return 0;
    for (unsigned i = 0; i < g->count; i++)
        if (lstat(g->grant[i].canonical, &named) == 0 && named.st_dev == file.st_dev &&
            named.st_ino == file.st_ino)
            rights |= g->grant[i].rights;
    return rights;
}

/* Layers are in the list as they lie, the uppermost first: from `base` up to one that is written
 * already. NULL: all that there are. */
static void commit(struct grants *g, const char *base) {
    char canonical[PATH_MAX];
    unsigned i = 0;

    for (; !base && i < g->count; i++)
        if (g->grant[i].rights & JAIL_IMAGE)
            g->grant[i].rights |= JAIL_WRITE;
    if (!base || !grants_resolve(base, true, canonical))
        return;
    while (i < g->count && strcmp(g->grant[i].canonical, canonical) != 0)
        i++;
    for (i = i < g->count ? i + 1 : 0; i > 0; i--) {
        struct grant *at = &g->grant[i - 1];

        if (!(at->rights & JAIL_IMAGE) || at->rights & JAIL_WRITE)
            break;
        at->rights |= JAIL_WRITE;
    }
}

unsigned grants_add(void *grants, const char *path, unsigned rights) {
    char given[PATH_MAX], canonical[PATH_MAX];
    struct grants *g = grants;
    unsigned had;
    void *more;

    if (rights & JAIL_INTERNET)
        g->internet = true;
    if (rights & JAIL_COMMIT) {
        commit(g, path);
        return 0;
    }
    if (!path || !*path || !absolute(path, given))
        return 0;
    if (!grants_resolve(path, true, canonical))
        memcpy(canonical, given, sizeof(given));
    had = grants_find(g, canonical);
    for (unsigned i = 0; i < g->count; i++)
        if (!strcmp(g->grant[i].given, given) && !strcmp(g->grant[i].canonical, canonical)) {
            g->grant[i].rights |= rights;
            return had;
        }
    if (g->count == g->room) {
        more = realloc(g->grant, (g->room * 2 + 16) * sizeof(*g->grant));
        if (!more)
            return had; /* it cannot be opened then */
        g->grant = more;
        g->room = g->room * 2 + 16;
    }
    g->grant[g->count] = (struct grant){strdup(given), strdup(canonical), rights};
    if (g->grant[g->count].given && g->grant[g->count].canonical) {
        g->count++;
        return had;
    }
    free(g->grant[g->count].given);
    free(g->grant[g->count].canonical);
    return had;
}

/* Is `path` a folder above `name`, or itself? */
static bool leads_to(const char *path, const char *name) {
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    return !strncmp(path, name, n) && (!name[n] || name[n] == '/' || n == 1);
}

bool grants_may_look(const struct grants *g, const char *path) {
    char whole[PATH_MAX], canonical[PATH_MAX];

    if (!absolute(path, whole))
        return false;
    if (!grants_resolve(path, false, canonical)) { /* it is not there: is that to be known? */
        if (strstr(whole, "/../"))
            return false;
        memcpy(canonical, whole, sizeof(whole));
    }
    for (unsigned i = 0; i < g->count; i++)
        if (covers(&g->grant[i], canonical) || leads_to(whole, g->grant[i].given) ||
            leads_to(canonical, g->grant[i].canonical) || leads_to(canonical, g->grant[i].given))
            return true;
    return false;
}

bool grants_is_folder(const struct grants *g, const char *canonical) {
    size_t n = strlen(canonical);

    for (unsigned i = 0; i < g->count; i++) {
        const char *name = g->grant[i].canonical, *slash = strrchr(name, '/');

        if ((g->grant[i].rights & JAIL_WRITE) &&
            ((n == 1 && slash == name) ||
             ((size_t)(slash - name) == n && !strncmp(name, canonical, n))))
            return true;
    }
    return false;
}

bool grants_may_connect(const struct grants *g, const char *path) {
    char canonical[PATH_MAX];

    if (!grants_resolve(path, true, canonical))
        return false;
    for (unsigned i = 0; i < g->count; i++) {
        const char *name = g->grant[i].canonical;
        size_t n = strlen(name);

        if ((g->grant[i].rights & JAIL_CONNECT) && !strcmp(name, canonical))
            return true;
        if ((g->grant[i].rights & JAIL_PORTS) && !strncmp(name, canonical, n) &&
            canonical[n] == '_' && canonical[n + 1] &&
            strspn(canonical + n + 1, "0123456789") == strlen(canonical + n + 1))
            return true;
    }
    return false;
}

bool grants_internet(const struct grants *g) { return g->internet; }

void grants_free(struct grants *g) {
    for (unsigned i = 0; g && i < g->count; i++) {
        free(g->grant[i].given);
        free(g->grant[i].canonical);
    }
    if (g)
        free(g->grant);
    free(g);
}
