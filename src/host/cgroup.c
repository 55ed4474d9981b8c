/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control groups: cgroups(7), Linux Documentation/admin-guide/cgroup-v2.rst.
 *
 * The group is made below that of the manager; its limit is that of the controller `pids`. In
 * version 1 it is made wherever it can be. In version 2 it is made where the manager's group is the
 * topmost, or was delegated to it (systemd's Delegate=). Controllers are given to the groups below
 * in the topmost alone: elsewhere systemd could not start a manager again beside machines that run,
 * since a group that hands controllers on takes no process (EBUSY). Who delegates may do it; else
 * the group has no limit, and counts what is in it.
 */
#include "host/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* As many as a machine of 256 processors with sixteen disks can have threads, and then some. */
static const char most_processes[] = "1024";
static const char file[] = "cgroup";
enum { TRIES = 400, PAUSE_NS = 25 * 1000 * 1000 };

static bool put(const char *folder, const char *name, const char *text) {
    char path[PATH_MAX];
    int fd;
    bool good;

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= PATH_MAX)
        return false;
    fd = open(path, O_WRONLY | O_CLOEXEC);
    good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return good;
}

/* ------------------------------------------------------------------ where */

/* Is `word` one of those with commas between? */
static bool has_word(const char *list, const char *word) {
    size_t n = strlen(word);

    for (const char *p = strstr(list, word); p; p = strstr(p + 1, word))
        if ((p == list || p[-1] == ',') && (!p[n] || p[n] == ','))
            return true;
    return false;
}

/* Where a hierarchy is mounted; "" if it is not. */
static void find_mount(bool version_2, char ret[PATH_MAX]) {
    FILE *f = fopen("/proc/self/mounts", "re");
    char line[2 * PATH_MAX], place[PATH_MAX], type[40], options[1000];

    *ret = 0;
    while (f && !*ret && fgets(line, sizeof(line), f))
        if (sscanf(line, "%*s %4095s %39s %999s", place, type, options) == 3 &&
            (version_2 ? !strcmp(type, "cgroup2")
                       : !strcmp(type, "cgroup") && has_word(options, "pids")))
            snprintf(ret, PATH_MAX, "%s", place);
    if (f)
        fclose(f);
}

/* Of this process, in the hierarchy; "" if it is in none. */
static void find_own(bool version_2, char ret[PATH_MAX]) {
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[PATH_MAX + 200], *names, *path;

    *ret = 0;
    while (f && !*ret && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = 0;
        names = strchr(line, ':');
        path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        if (version_2 ? !names[1] : has_word(names + 1, "pids"))
            snprintf(ret, PATH_MAX, "%s", path);
    }
    if (f)
        fclose(f);
}

static bool is_delegated(const char *folder) {
    char value[8] = "";

    return (getxattr(folder, "user.delegate", value, sizeof(value) - 1) > 0 && *value == '1') ||
           (getxattr(folder, "trusted.delegate", value, sizeof(value) - 1) > 0 && *value == '1');
}

/* Those of machines whose manager never came back. One whose process is there may just be made. */
static void sweep(const char *base) {
    DIR *d = opendir(base);
    struct dirent *e;
    int pid;

    while (d && (e = readdir(d)))
        if (sscanf(e->d_name, "viv-machine-%d", &pid) == 1 && pid > 0 && kill(pid, 0) < 0 &&
            errno == ESRCH)
            unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR); /* refused while anything is in it */
    if (d)
        closedir(d);
}

static bool look_for_base(char ret[PATH_MAX]) {
    char mount[PATH_MAX], own[PATH_MAX];

    for (int version = 2; version >= 1; version--) {
        find_mount(version == 2, mount);
        find_own(version == 2, own);
        if (!*mount || *own != '/' ||
            snprintf(ret, PATH_MAX, "%s%s", mount, strcmp(own, "/") ? own : "") >= PATH_MAX)
            continue;
        if (version == 1)
            return true;
        if (strcmp(own, "/") ? is_delegated(ret) : put(ret, "cgroup.subtree_control", "+pids"))
            return true;
    }
    return false;
}

bool cgroup_find(char ret[PATH_MAX]) {
    if (!look_for_base(ret))
        return false;
    sweep(ret);
    return true;
}

/* ------------------------------------------------------------------ a machine's */

static void note(int folder, const char *path) {
    int fd = openat(folder, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd >= 0 && write(fd, path, strlen(path)) < 0)
        unlinkat(folder, file, 0);
    if (fd >= 0)
        close(fd);
}

void cgroup_enter(int folder, const char *base) {
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/viv-machine-%d", base, (int)getpid()) >= PATH_MAX)
        return;
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return;
    note(folder, path); /* before anything is in it, so that it is found again */
    put(path, "pids.max", most_processes);
    put(path, "cgroup.procs", "0");
}

static void *remove_later(void *opaque) {
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    char *path = opaque;

    for (unsigned i = 0; i < TRIES && rmdir(path) < 0 && errno == EBUSY; i++)
        nanosleep(&pause, NULL);
    free(path);
    return NULL;
}

void cgroup_clean(int folder) {
    int fd = openat(folder, file, O_RDONLY | O_CLOEXEC);
    char path[PATH_MAX];
    ssize_t n = fd < 0 ? 0 : read(fd, path, sizeof(path) - 1);
    pthread_t thread;
    char *copy;

    if (fd >= 0)
        close(fd);
    path[n > 0 ? n : 0] = 0;
    if (!strstr(path, "/viv-machine-") || rmdir(path) == 0 || errno != EBUSY)
        return;
    copy = strdup(path); /* its helper says its last words */
    if (copy && pthread_create(&thread, NULL, remove_later, copy) == 0)
        pthread_detach(thread);
    else
        free(copy);
}
