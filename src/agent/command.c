/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Users, environments and folders of commands. */
#include "agent/command.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* ---- the user ---- */

static bool is_number(const char *s, uint32_t *ret) {
    char *end;
    unsigned long v = strtoul(s, &end, 10);

    *ret = (uint32_t)v;
    return *s >= '0' && *s <= '9' && !*end && v < UINT32_MAX;
}

/* The next entry that is read takes the place of this one. */
static void keep(struct command_user *u, const char *name, const char *home, const char *shell,
                 uid_t uid, gid_t gid) {
    u->name = strdup(name);
    u->home = strdup(home && *home ? home : "/");
    u->shell = strdup(shell && *shell ? shell : "/bin/sh");
    u->uid = uid;
    u->group[0] = gid;
    u->groups = 1;
}

static bool read_passwd(struct command_user *u, const char *name, bool numeric, uint32_t uid) {
    FILE *f = fopen("/etc/passwd", "re");
    const struct passwd *p = NULL;

    while (f && (p = fgetpwent(f)) && strcmp(p->pw_name, name) != 0 &&
           !(numeric && p->pw_uid == uid))
        ;
    if (p)
        keep(u, p->pw_name, p->pw_dir, p->pw_shell, p->pw_uid, p->pw_gid);
    if (f)
        fclose(f);
    return p;
}

static void add_groups(struct command_user *u) {
    FILE *f = fopen("/etc/group", "re");
    const struct group *g;

    while (f && (g = fgetgrent(f)) && u->groups < COMMAND_GROUPS)
        for (char **member = g->gr_mem; *member; member++)
            if (u->name && !strcmp(*member, u->name) && g->gr_gid != u->group[0]) {
                u->group[u->groups++] = g->gr_gid;
                break;
            }
    if (f)
        fclose(f);
}

static int find_group(const char *name, gid_t *ret, struct error *err) {
    FILE *f = fopen("/etc/group", "re");
    const struct group *g = NULL;
    uint32_t gid;
    bool numeric = is_number(name, &gid);

    while (f && (g = fgetgrent(f)) && strcmp(g->gr_name, name) != 0)
        ;
    if (g)
        *ret = g->gr_gid;
    else if (numeric)
        *ret = gid;
    if (f)
        fclose(f);
    return g || numeric
               ? 0
               : error_set(err, -ENOENT, "the guest has no group '%.60s' in its /etc/group", name);
}

int command_find_user(struct command_user *ret, const char *given, struct error *err) {
    char name[300];
    const char *colon = strchr(given, ':');
    uint32_t uid;
    bool numeric;

    *ret = (struct command_user){0};
    snprintf(name, sizeof(name), "%.*s", (int)(colon ? colon - given : 290), given);
    if (!*name)
        strcpy(name, "root");
    numeric = is_number(name, &uid);
    if (!read_passwd(ret, name, numeric, uid)) {
        if (!numeric && strcmp(name, "root") != 0)
            return error_set(err, -ENOENT, "the guest has no user '%.60s' in its /etc/passwd",
                             name);
        /* A system without the file has a root all the same. */
        keep(ret, name, numeric ? "/" : "/root", NULL, numeric ? uid : 0, 0);
    }
    if (colon) {
        if (find_group(colon + 1, &ret->group[0], err) < 0)
            return -ENOENT;
    } else {
        add_groups(ret);
    }
    return ret->name && ret->home && ret->shell
               ? 0
               : error_set(err, -ENOMEM, "the guest is out of memory");
}

/* ---- the words ---- */

static size_t put_words(const json_t *list, char **argv, size_t n) {
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one) {
        if (n <= COMMAND_ARGS)
            argv[n++] = (char *)(uintptr_t)json_string_value(one);
        if (!json_is_string(one))
            return COMMAND_ARGS + 1;
    }
    return n;
}

char **command_argv(const json_t *first, const json_t *second, struct error *err) {
    char **argv = calloc(COMMAND_ARGS + 2, sizeof(*argv));
    size_t n = argv ? put_words(second, argv, put_words(first, argv, 0)) : 0;

    if (n && n <= COMMAND_ARGS)
        return argv;
    free(argv);
    error_set(err, -EINVAL, "the command must be a list of 1 to %d strings", COMMAND_ARGS);
    return NULL;
}

/* ---- what it finds ---- */

static void put_assignment(const char *s) {
    const char *eq = strchr(s, '=');
    char *name = eq && eq > s ? strndup(s, (size_t)(eq - s)) : NULL;

    if (name)
        setenv(name, eq + 1, 1);
    free(name);
}

void command_environment(const struct command_user *u, const struct command_image *image,
                         const json_t *env, bool tty) {
    const char *name, *term = getenv("TERM");
    const json_t *value;
    size_t i;

    clearenv();
    setenv("PATH", DEFAULT_PATH, 1);
    setenv("HOME", u->home, 1);
    setenv("USER", u->name, 1);
    setenv("LOGNAME", u->name, 1);
    setenv("SHELL", u->shell, 1);
    if (tty)
        setenv("TERM", term && strcmp(term, "linux") ? term : "xterm-256color", 1);
    json_array_foreach(image ? image->env : NULL, i, value) {
        if (json_is_string(value))
            put_assignment(json_string_value(value));
    }
    json_object_foreach((json_t *)(uintptr_t)env, name, value) {
        if (json_is_string(value))
            setenv(name, json_string_value(value), 1);
    }
}

int command_become(const struct command_user *u, const char *folder) {
    if (getuid() == 0 && (setgroups((size_t)u->groups, u->group) < 0 ||
                          setresgid(u->group[0], u->group[0], u->group[0]) < 0 ||
                          setresuid(u->uid, u->uid, u->uid) < 0))
        return -1;
    if (folder)
        return chdir(folder);
    return chdir(u->home) < 0 ? chdir("/") : 0;
}
