/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control groups: cgroups(7), Linux Documentation/admin-guide/cgroup-v2.rst.
 *
 * The group is made below that of the manager. In version 1 it is made wherever it can be, in the
 * hierarchy of the controller `pids`, whose limit is all that there is then. In version 2 it is
 * made where the manager's group is the topmost, or was delegated to it (systemd's Delegate=).
 * Controllers are given to the groups below in the topmost alone: elsewhere systemd could not start
 * a manager again beside machines that run, since a group that hands controllers on takes no
 * process (EBUSY). Who delegates may do it; else the group has no limits, and counts processor
 * time, for which no controller is needed.
 */
#include "host/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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

#include "base/write.h"

/* As many as a machine of 256 processors with sixteen disks can have threads, and then some. */
static const char most_processes[] = "1024";
static const char file[] = "cgroup";
enum { TRIES = 400, PAUSE_NS = 25 * 1000 * 1000 };

static bool put(const char *folder, const char *name, const char *text) {
    char path[PATH_MAX];

    return snprintf(path, sizeof(path), "%s/%s", folder, name) < PATH_MAX &&
           write_setting(path, text);
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

/* Each by itself: version 1 may have some of them. */
static bool hand_on(const char *folder) {
    static const char *const controllers[] = {"+pids", "+memory", "+cpu"};
    bool any = false;

    for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++)
        any |= put(folder, "cgroup.subtree_control", controllers[i]);
    return any;
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
        if (strcmp(own, "/") ? is_delegated(ret) : hand_on(ret))
            return true;
    }
    return false;
}

bool cgroup_find(char ret[PATH_MAX]) {
    if (look_for_base(ret))
        sweep(ret);
    else
        *ret = 0;
    return *ret;
}

/* ------------------------------------------------------------------ a machine's */

static void note(int folder, const char *path) {
    int fd = openat(folder, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd >= 0 && write(fd, path, strlen(path)) < 0)
        unlinkat(folder, file, 0);
    if (fd >= 0)
        close(fd);
}

static void put_number(const char *folder, const char *name, uint64_t n) {
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, n);
    put(folder, name, text);
}

/* Of each period of 100 ms. */
static bool put_cpu(const char *folder, unsigned percent) {
    char text[40] = "max 100000";

    if (percent)
        snprintf(text, sizeof(text), "%u 100000", percent * 1000);
    return put(folder, "cpu.max", text);
}

void cgroup_enter(int folder, const char *base, const struct cgroup_limits *l) {
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/viv-machine-%d", base, (int)getpid()) >= PATH_MAX)
        return;
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return;
    note(folder, path); /* before anything is in it, so that it is found again */
    put(path, "pids.max", most_processes);
    if (l->memory)
        put_number(path, "memory.high", l->memory);
    if (l->weight)
        put_number(path, "cpu.weight", l->weight);
    put_cpu(path, l->cpu);
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

static void read_text(int at, const char *name, char *ret, size_t room) {
    int fd = openat(at, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, ret, room - 1);

    if (fd >= 0)
        close(fd);
    ret[n > 0 ? n : 0] = 0;
}

/* The one that was written down last; false: none was. */
static bool recall(int folder, char ret[PATH_MAX]) {
    read_text(folder, file, ret, PATH_MAX);
    return strstr(ret, "/viv-machine-");
}

bool cgroup_read(int folder, struct cgroup_usage *ret) {
    char path[PATH_MAX], text[2048], *found;
    int group;

    *ret = (struct cgroup_usage){0};
    group = recall(folder, path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (group < 0)
        return false;
    read_text(group, "memory.current", text, sizeof(text));
    ret->memory = strtoll(text, NULL, 10);
    read_text(group, "cpu.stat", text, sizeof(text));
    found = strstr(text, "usage_usec ");
    ret->cpu_ms = found ? strtoll(found + strlen("usage_usec "), NULL, 10) / 1000 : 0;
    close(group);
    return true;
}

bool cgroup_limit_cpu(int folder, unsigned percent) {
    char path[PATH_MAX];

    return recall(folder, path) && put_cpu(path, percent);
}

void cgroup_clean(int folder) {
    char path[PATH_MAX];
    pthread_t thread;
    char *copy;

    if (!recall(folder, path) || rmdir(path) == 0 || errno != EBUSY)
        return;
    copy = strdup(path); /* its helper says its last words */
    if (copy && pthread_create(&thread, NULL, remove_later, copy) == 0)
        pthread_detach(thread);
    else
        free(copy);
}
