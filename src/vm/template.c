/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The template's process, and its children until they are machines. */
#include "vm/template.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unix_socket.h"
#include "base/version.h"
#include "proto/control.h"
#include "proto/lines.h"
#include "state/snapshot.h"
#include "vm/options.h"

enum { SOCKET_MODE = 0600, CLIENT_MS = 30000, WORDS_MAX = 256 };

struct clone {
    struct snapshot *snapshot;
    /* The client's, and the words of the options, which refer to them as long as the machine runs.
     */
    json_t *message;
    char **words;
    int client;
};

/* ------------------------------------------------------------------ the client */

static void say(const struct clone *c, json_t *message) {
    struct buf line = {0};

    if (message && message_put(&line, message)) /* a client that does not read gets no answer */
        send(c->client, line.data, line.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    buf_done(&line);
    json_decref(message);
}

static void answer(const struct clone *c, const struct error *err) {
    json_t *m = json_object(), *id = json_object_get(c->message, "id");

    if (json_is_string(id) || json_is_integer(id))
        json_object_set(m, "id", id);
    if (err->code)
        json_object_set_new(m, "error",
                            json_pack("{s:s, s:o}", "kind",
                                      err->code == -EINVAL ? CONTROL_INVALID : CONTROL_FAILED,
                                      "text", message_text(err->text)));
    else
        json_object_set_new(m, "result", json_pack("{s:i}", "pid", (int)getpid()));
    say(c, m);
}

static int64_t now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* NULL: the client says nothing, or nothing that can be understood. */
static json_t *read_message(int fd, struct error *err) {
    struct lines in = {.max = CONTROL_REQUEST_MAX};
    int64_t end = now_ms() + CLIENT_MS, left;
    json_t *message = NULL;
    size_t len = 0;
    char *line;

    while (!(line = lines_next(&in, &len)) && (left = end - now_ms()) > 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        size_t room;
        void *to = lines_room(&in, &room);
        ssize_t n = to && poll(&p, 1, (int)left) > 0 ? recv(fd, to, room, MSG_DONTWAIT) : -1;

        if (n > 0)
            lines_came(&in, (size_t)n);
        else if (n == 0 || !to || (errno != EAGAIN && errno != EINTR))
            break;
    }
    if (line)
        message = message_parse(line, len, err);
    else
        error_set(err, -EPROTO, "no command came");
    lines_done(&in);
    return message;
}

static const json_t *wanted_options(const json_t *message, struct error *err) {
    const char *name = json_string_value(json_object_get(message, "command"));
    const json_t *args = json_object_get(message, "arguments");

    if (!name || strcmp(name, "clone") != 0) {
        error_set(
            err, -EINVAL,
            "this is a template, which runs nothing itself: it knows the command clone alone");
        return NULL;
    }
    if (command_check(command_find(control_commands, name), args, err) < 0)
        return NULL;
    return json_object_get(args, "options");
}

/* ------------------------------------------------------------------ its options */

/* Does the word belong to this option, and does its value follow as a word of its own? */
static bool is_option(const char *word, const char *name, bool *ret_value_follows) {
    size_t n = strlen(name);

    *ret_value_follows = !word[0] || !word[1] || !word[2 + n];
    return !strncmp(word, "--", 2) && !strncmp(word + 2, name, n) &&
           (!word[2 + n] || word[2 + n] == '=');
}

/* The template's words without what is the template's own, then the client's, then what a process
 * without a terminal needs. */
static int make_words(int argc, char **argv, const json_t *list, char **words) {
    bool value, serial = false;
    const json_t *one;
    size_t i;
    int n = 0;

    for (int k = 0; k < argc && n < WORDS_MAX; k++) {
        if (k && is_option(argv[k], "template", &value))
            continue;
        if (k && is_option(argv[k], "control", &value)) {
            k += value;
            continue;
        }
        serial |= is_option(argv[k], "serial", &value);
        words[n++] = argv[k];
    }
    json_array_foreach(list, i, one) {
        serial |= is_option(json_string_value(one), "serial", &value);
        if (n < WORDS_MAX)
            words[n++] = (char *)(uintptr_t)json_string_value(one);
    }
    if (!serial && n < WORDS_MAX)
        words[n++] = "--serial=none";
    return n;
}

static int parse_options(struct clone *c, struct options *o, int argc, char **argv,
                         const json_t *list, struct error *err) {
    int r;

    c->words = calloc(WORDS_MAX + 1, sizeof(*c->words));
    if (!c->words)
        return error_set(err, -ENOMEM, "the clone: out of memory");
    options_done(o);
    r = options_parse(o, make_words(argc, argv, list, c->words), c->words, err);
    if (r == 0 && (o->help || o->help_man || o->version || o->template))
        r = error_set(err, -EINVAL, "a clone is a machine: give it options of one");
    return r;
}

/* ------------------------------------------------------------------ a child */

/* What a program finds that was just started, but for its standard error. */
static void be_on_our_own(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;

    sigemptyset(&none);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid(); /* the template's terminal is not ours to be interrupted from */
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    if (null > STDERR_FILENO)
        close(null);
}

/* 1: *o has the machine's options. */
static int be_a_clone(struct clone *c, struct options *o, int argc, char **argv) {
    const char *restore = o->restore;
    struct error e = {0};
    const json_t *list;

    be_on_our_own();
    say(c, json_pack("{s:s, s:s, s:i, s:s}", "vivarium", "viv-vm", "version", VIVARIUM_VERSION,
                     "protocol", CONTROL_PROTOCOL, "name", "template"));
    c->message = read_message(c->client, &e);
    list = c->message ? wanted_options(c->message, &e) : NULL;
    if (!e.code && parse_options(c, o, argc, argv, list, &e) == 0 &&
        strcmp(o->restore, restore) != 0)
        error_set(&e, -EINVAL, "a clone is made from the template's snapshot: leave out --restore");
    if (!e.code)
        return 1;
    clone_answer(c, &e);
    clone_free(c);
    return -1;
}

struct snapshot *clone_take_snapshot(struct clone *c) {
    struct snapshot *s = c->snapshot;

    c->snapshot = NULL;
    return s;
}

void clone_answer(struct clone *c, const struct error *err) {
    if (!c || c->client < 0)
        return;
    answer(c, err);
    close(c->client);
    c->client = -1;
}

void clone_free(struct clone *c) {
    if (!c)
        return;
    if (c->client >= 0)
        close(c->client);
    snapshot_close(c->snapshot);
    json_decref(c->message);
    free(c->words);
    free(c);
}

/* ------------------------------------------------------------------ the template */

/* Children are not waited for; signals that end us come through a descriptor. */
static int take_signals(struct error *err) {
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGCHLD, SIG_IGN);
    fd = signalfd(-1, &set, SFD_CLOEXEC);
    return fd >= 0 ? fd : error_set(err, -errno, "the template's signals: %s", strerror(errno));
}

/* The client's descriptor in a child; -1 in the template when a signal came. */
static int serve(int listener, int signals) {
    struct pollfd p[2] = {{.fd = signals, .events = POLLIN}, {.fd = listener, .events = POLLIN}};

    for (;;) {
        int client;
        pid_t pid;

        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return -1;
        if (p[0].revents)
            return -1;
        client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            continue;
        pid = fork();
        if (pid == 0)
            return client;
        if (pid < 0)
            log_warning("a clone cannot be forked: %s; raise the limit of processes (ulimit -u)",
                        strerror(errno));
        close(client);
    }
}

int template_serve(struct options *o, int argc, char **argv, struct clone **ret_clone,
                   struct error *err) {
    struct clone *c = calloc(1, sizeof(*c));
    int signals = take_signals(err), listener = -1, r;

    if (c)
        c->snapshot = snapshot_open(o->restore, err);
    if (c && c->snapshot && signals >= 0)
        listener = unix_socket_listen(o->control, SOCKET_MODE, "the template's socket", err);
    if (listener < 0) {
        if (c)
            snapshot_close(c->snapshot);
        free(c);
        return error_set(err, -ENOMEM, "the template: out of memory");
    }
    c->client = serve(listener, signals);
    close(listener);
    close(signals);
    if (c->client >= 0) {
        r = be_a_clone(c, o, argc, argv);
        *ret_clone = r == 1 ? c : NULL;
        return r;
    }
    unlink(o->control);
    snapshot_close(c->snapshot);
    free(c);
    return 0;
}
