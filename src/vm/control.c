/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: clients, their messages, events for them (docs/control.md).
 *
 * Theory of operation: each client has a bounded buffer for what it sends and a queue for what it
 * is sent. Its next command is read only while the queue is short, so that one that asks and never
 * reads stops itself; an event that finds the queue long is dropped and counted, and the count is
 * told when there is room again. A round serves a few messages of a client and then others.
 *
 * Commands are executed with the machine lock held, for which the guest's processors wait. So all
 * clients together get a share of the loop's time; when it is used up nobody's commands are read
 * until a rest is over that is in proportion.
 *
 * A client that is found gone while something is sent to it may be the one whose command is being
 * executed: it is closed at once, but freed only at the end of a callback (reap).
 */
#include "vm/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/trace.h"
#include "base/unix_socket.h"
#include "base/version.h"
#include "jail/jail.h"
#include "machine/machine.h"
#include "proto/control.h"
#include "proto/lines.h"
#include "vm/options.h"

/*
 * Calls (main): accept4 recvfrom sendto unlink timerfd_settime
 */

enum {
    MAX_CLIENTS = 64,
    MAX_EVENTS = 32,
    ROUND = 8,                 /* messages of a client in a round */
    QUEUE_COMMANDS = 64 << 10, /* bytes unsent beyond which no command is read */
    QUEUE_EVENTS = 256 << 10,  /* bytes unsent beyond which events are dropped */
    SOCKET_MODE = 0600,
    BURST_NS = 500 * 1000,        /* of processor time that commands may take at once */
    REST_FACTOR = 3,              /* and how much longer the rest after it is */
    WINDOW_NS = 10 * 1000 * 1000, /* after which what was taken is forgotten */
};

struct control_client {
    struct control_client *next;
    struct control *control;
    int fd;
    struct loop_watch *watch;
    struct lines in;
    struct buf out;
    size_t sent;     /* of out */
    uint32_t events; /* kinds it wants, a bit each, as in control_events */
    uint64_t lost, last_used;
    bool more;        /* lines may wait in `in` */
    bool half_closed; /* it will send no more */
    bool hung_up;     /* it is gone; its last commands may not have been executed yet */
    bool leaving;     /* closed as soon as everything is sent */
};

struct control {
    const struct control_vm *vm;
    struct jobs *jobs;
    struct control_client *clients;
    unsigned count;
    uint64_t uses; /* orders clients by their last message */
    int listener;
    struct loop_watch *watch;
    char *path;
    char reason[16];           /* of a pause */
    unsigned told[MAX_EVENTS]; /* how often each event happened */
    unsigned inside;           /* callbacks that may hold a client */
    int rest_fd;               /* timer of the rest */
    struct loop_watch *rest_watch;
    uint64_t spent, window; /* ns since the window began, and when it did */
    bool resting;
    bool backlog; /* a call of serve_backlog is posted */
};

static const struct control_handler *const handlers[] = {
    control_machine_handlers, control_snapshot_handlers, control_disk_handlers,
    control_disks_handlers,   control_bitmap_handlers,   control_screen_handlers,
    control_net_handlers,     control_cdrom_handlers,    control_plug_handlers,
    control_memory_handlers};

static void serve(struct control_client *cl);

/* ------------------------------------------------------------------ a client's end */

static void close_client(struct control_client *cl) {
    if (cl->fd < 0)
        return;
    trace(control_close, cl->fd);
    loop_remove(cl->watch);
    cl->watch = NULL;
    close(cl->fd);
    cl->fd = -1;
    cl->control->count--;
}

static void reap(struct control *c) {
    struct control_client **link = &c->clients, *cl;

    if (c->inside)
        return;
    while ((cl = *link)) {
        if (cl->fd >= 0) {
            link = &cl->next;
            continue;
        }
        *link = cl->next;
        lines_done(&cl->in);
        buf_done(&cl->out);
        free(cl);
    }
}

/* ------------------------------------------------------------------ sending */

static size_t unsent(const struct control_client *cl) { return cl->out.len - cl->sent; }

static void watch(struct control_client *cl) {
    uint32_t wanted = EPOLLHUP; /* who hangs up is always noticed */

    if (cl->hung_up && cl->control->resting)
        wanted = 0; /* it has been noticed, and would be again and again */
    else if (unsent(cl))
        wanted |= EPOLLOUT;
    if (!cl->half_closed && !cl->leaving && !cl->control->resting && unsent(cl) <= QUEUE_COMMANDS)
        wanted |= EPOLLIN;
    loop_modify(cl->watch, wanted);
}

static void flush(struct control_client *cl) {
    while (cl->fd >= 0 && unsent(cl)) {
        ssize_t n = send(cl->fd, cl->out.data + cl->sent, unsent(cl), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            close_client(cl);
        if (n < 0)
            return;
        cl->sent += (size_t)n;
    }
    if (cl->out.cap > QUEUE_COMMANDS)
        buf_done(&cl->out);
    cl->out.len = cl->sent = 0;
}

/* Closes it if nothing is to come any more, else says what it waits for. */
static void settle(struct control_client *cl) {
    bool done = cl->leaving || (cl->half_closed && !cl->more && !cl->events);

    if (cl->fd < 0)
        return;
    if (done && !unsent(cl))
        close_client(cl);
    else
        watch(cl);
}

/* Appends; what was sent already makes room first. */
static void queue(struct control_client *cl, json_t *message) {
    if (cl->sent) {
        memmove(cl->out.data, cl->out.data + cl->sent, unsent(cl));
        cl->out.len -= cl->sent;
        cl->sent = 0;
    }
    if (!message || !message_put(&cl->out, message))
        close_client(cl); /* out of memory: better no answer than another one's */
    json_decref(message);
}

static void tell_lost(struct control_client *cl) {
    if (!cl->lost || unsent(cl) > QUEUE_EVENTS)
        return;
    queue(cl, json_pack("{s:s, s:{s:I}}", "event", "lost", "data", "count", (json_int_t)cl->lost));
    cl->lost = 0;
}

static unsigned event_index(const char *name) {
    for (unsigned i = 0; i < MAX_EVENTS && control_events[i].name; i++)
        if (!strcmp(control_events[i].name, name))
            return i;
    abort(); /* declare it first */
}

static uint32_t event_bit(const char *name) { return 1u << event_index(name); }

unsigned control_count(const struct control *c, const char *event) {
    return c->told[event_index(event)];
}

void control_event(struct control *c, const char *name, json_t *data) {
    uint32_t bit = event_bit(name);
    json_t *message = json_pack("{s:s, s:o}", "event", name, "data", data);

    c->told[event_index(name)]++;
    if (!message)
        return; /* out of memory */
    c->inside++;
    for (struct control_client *cl = c->clients; cl; cl = cl->next) {
        if (cl->fd < 0 || !(cl->events & bit))
            continue;
        if (unsent(cl) > QUEUE_EVENTS) {
            cl->lost++;
            stat_inc(control_events_lost);
            continue;
        }
        queue(cl, json_incref(message));
        flush(cl);
        settle(cl);
    }
    c->inside--;
    json_decref(message);
    reap(c);
}

static const char *error_kind(int code) {
    switch (code) {
    case -EINVAL:
        return CONTROL_INVALID;
    case -EBUSY:
    case -EALREADY:
        return CONTROL_REFUSED;
    default:
        return CONTROL_FAILED;
    }
}

/* `id` may be NULL, `result` is taken. */
static void answer(struct control_client *cl, json_t *id, json_t *result, const struct error *e) {
    json_t *m = json_object();

    if (id)
        json_object_set(m, "id", id);
    if (e->code) {
        json_object_set_new(
            m, "error",
            json_pack("{s:s, s:o}", "kind", error_kind(e->code), "text", message_text(e->text)));
        json_decref(result);
    } else {
        json_object_set_new(m, "result", result);
    }
    queue(cl, m);
}

/* ------------------------------------------------------------------ commands */

static int (*find_handler(const char *name))(struct control_call *, struct error *) {
    for (unsigned t = 0; t < sizeof(handlers) / sizeof(handlers[0]); t++)
        for (const struct control_handler *h = handlers[t]; h->name; h++)
            if (!strcmp(h->name, name))
                return h->fn;
    abort(); /* each declared command has one, a test asks them all */
}

static int choose_events(struct control_client *cl, const json_t *args, json_t *result) {
    const json_t *only = json_object_get(args, "only"), *name;
    json_t *list = json_array();
    size_t i;

    cl->events = 0;
    json_array_foreach(only, i, name)
        cl->events |= event_bit(json_string_value(name));
    if (!only)
        cl->events = UINT32_MAX;
    for (const struct event *e = control_events; e->name; e++)
        if (cl->events & event_bit(e->name))
            json_array_append_new(list, json_string(e->name));
    return json_object_set_new(result, "events", list);
}

static int execute(struct control_client *cl, const json_t *message, json_t *result,
                   struct error *err) {
    const json_t *args = json_object_get(message, "arguments");
    const char *name = json_string_value(json_object_get(message, "command"));
    const struct command *command = name ? command_find(control_commands, name) : NULL;
    struct control_call call = {cl->control, cl->control->vm, cl, args, result};
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)message, key, value)
        if (strcmp(key, "id") != 0 && strcmp(key, "command") != 0 && strcmp(key, "arguments") != 0)
            return error_set(err, -EINVAL,
                             "a command has no '%.60s': it has id, command and arguments", key);
    if (!name)
        return error_set(err, -EINVAL, "a command has its name in 'command'");
    if (!command)
        return error_set(err, -EINVAL, "there is no command '%.60s': 'viv-ctl --help' lists them",
                         name);
    if (command_check(command, args, err) < 0)
        return err->code;
    trace(control_command, cl->fd, command->name);
    if (!strcmp(name, "events"))
        return choose_events(cl, args, result);
    return find_handler(name)(&call, err);
}

static void take_message(struct control_client *cl, const char *line, size_t len) {
    struct error err = {0};
    json_t *message = message_parse(line, len, &err), *id = json_object_get(message, "id");
    json_t *result = json_object();
    int r = -EINVAL;

    stat_inc(control_messages);
    cl->last_used = ++cl->control->uses;
    if (id && !json_is_string(id) && !json_is_integer(id)) {
        error_set(&err, -EINVAL, "'id' must be a string or a whole number");
        id = NULL;
    } else if (message) {
        r = execute(cl, message, result, &err);
    }
    if (r < 0 && !err.code)
        error_set(&err, r, "out of memory");
    if (cl->fd >= 0)
        answer(cl, id, result, &err);
    else
        json_decref(result);
    json_decref(message);
}

/* ------------------------------------------------------------------ receiving */

static bool takes_more(const struct control_client *cl) {
    return cl->fd >= 0 && !cl->leaving && !cl->control->resting && unsent(cl) <= QUEUE_COMMANDS;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void charge(struct control *c, uint64_t ns) {
    uint64_t now = clock_ns(CLOCK_MONOTONIC), rest;
    struct itimerspec t = {0};

    if (now - c->window > WINDOW_NS) {
        c->window = now;
        c->spent = 0;
    }
    c->spent += ns;
    if (c->spent <= BURST_NS || c->resting)
        return;
    rest = c->spent * REST_FACTOR;
    t.it_value.tv_sec = (time_t)(rest / 1000000000u);
    t.it_value.tv_nsec = (long)(rest % 1000000000u);
    c->resting = timerfd_settime(c->rest_fd, 0, &t, NULL) == 0;
    stat_inc(control_rests);
}

/* In turn: who is not reached before the next rest is the first one after it. */
static void serve_all(struct control *c) {
    unsigned n = 0;

    c->inside++;
    for (struct control_client *cl = c->clients; cl; cl = cl->next)
        n++;
    for (; n && !c->resting; n--) {
        struct control_client *cl = c->clients, **link = &c->clients;

        *link = cl->next;
        while (*link)
            link = &(*link)->next;
        *link = cl;
        cl->next = NULL;
        if (cl->fd >= 0)
            serve(cl);
    }
    c->inside--;
    reap(c);
}

static void serve_backlog(void *opaque) {
    struct control *c = opaque;

    c->backlog = false;
    serve_all(c);
}

static void rest_over(void *opaque, int fd, uint32_t events) {
    struct control *c = opaque;
    uint64_t count;

    if (read(fd, &count, sizeof(count)) != sizeof(count))
        return;
    c->resting = false;
    c->spent = 0;
    serve_all(c);
}

/* Messages that are there already, as long as their answers are taken. */
static void serve(struct control_client *cl) {
    struct control *c = cl->control;
    uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    struct error err = {0};
    size_t len;

    flush(cl);
    cl->more = true;
    for (unsigned n = 0; n < ROUND && takes_more(cl); n++) {
        char *line = lines_next(&cl->in, &len);

        cl->more = line != NULL;
        if (!line)
            break;
        if (len)
            take_message(cl, line, len);
    }
    if (cl->fd >= 0 && !cl->more && lines_too_long(&cl->in)) {
        error_set(&err, -EINVAL, "a message has at most %d bytes: the connection ends here",
                  CONTROL_REQUEST_MAX);
        answer(cl, NULL, NULL, &err);
        cl->leaving = true;
    }
    if (cl->fd >= 0)
        tell_lost(cl);
    flush(cl);
    charge(c, clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin);
    settle(cl);
    if (cl->more && takes_more(cl) && !c->backlog) {
        c->backlog = true;
        loop_post(c->vm->loop, serve_backlog, c);
    }
}

static void receive(struct control_client *cl) {
    size_t room;
    void *p = lines_room(&cl->in, &room);
    ssize_t n;

    if (!p)
        return; /* its lines wait for serve */
    n = recv(cl->fd, p, room, MSG_DONTWAIT);
    if (n > 0)
        lines_came(&cl->in, (size_t)n);
    else if (n == 0)
        cl->half_closed = true;
    else if (errno != EAGAIN && errno != EINTR)
        close_client(cl);
}

static void client_ready(void *opaque, int fd, uint32_t events) {
    struct control_client *cl = opaque;
    struct control *c = cl->control;

    c->inside++;
    cl->hung_up |= (events & EPOLLHUP) != 0;
    if ((events & EPOLLIN) && !c->resting)
        receive(cl);
    else if (!(events & EPOLLIN) && (events & (EPOLLHUP | EPOLLERR)))
        close_client(cl);
    if (cl->fd >= 0)
        serve(cl);
    c->inside--;
    reap(c);
}

/* ------------------------------------------------------------------ connections */

static void greet(struct control_client *cl) {
    queue(cl, json_pack("{s:s, s:s, s:i, s:o}", "vivarium", "viv-vm", "version", VIVARIUM_VERSION,
                        "protocol", CONTROL_PROTOCOL, "name",
                        message_text(cl->control->vm->options->name)));
    flush(cl);
    settle(cl);
}

static bool has_hung_up(const struct control_client *cl) {
    struct pollfd p = {.fd = cl->fd};

    return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

/* Somebody keeps more connections than anybody needs: one that nobody holds any more goes, else
 * the one that was silent longest. */
static void make_room(struct control *c) {
    struct control_client *oldest = NULL, *gone = NULL;
    struct error err = {0};

    for (struct control_client *cl = c->clients; cl && !gone; cl = cl->next) {
        if (cl->fd >= 0 && has_hung_up(cl))
            gone = cl;
        if (cl->fd >= 0 && (!oldest || cl->last_used < oldest->last_used))
            oldest = cl;
    }
    if (gone) {
        close_client(gone);
        return;
    }
    if (!oldest) /* all are on their way out */
        return;
    error_set(&err, -EBUSY, "%d clients are connected: the one that was silent longest has to go",
              MAX_CLIENTS);
    answer(oldest, NULL, NULL, &err);
    flush(oldest);
    close_client(oldest);
}

static void add_client(struct control *c, int fd) {
    struct control_client *cl = calloc(1, sizeof(*cl));

    if (cl)
        cl->watch = loop_add(c->vm->loop, fd, EPOLLIN, client_ready, cl);
    if (!cl || !cl->watch) {
        free(cl);
        close(fd);
        return;
    }
    if (c->count == MAX_CLIENTS)
        make_room(c);
    cl->control = c;
    cl->fd = fd;
    cl->in.max = CONTROL_REQUEST_MAX;
    cl->last_used = ++c->uses;
    cl->next = c->clients;
    c->clients = cl;
    c->count++;
    trace(control_open, fd);
    greet(cl);
}

static void client_came(void *opaque, int fd, uint32_t events) {
    struct control *c = opaque;
    int client =
        c->vm->jail ? jail_accept(fd) : accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    c->inside++;
    if (client >= 0)
        add_client(c, client);
    else if ((errno == EMFILE || errno == ENFILE || errno == ENOMEM) && c->count)
        make_room(c); /* a descriptor for the one that waits */
    else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
        /* The connection stays in the queue, and with it the loop would find no rest. */
        log_warning("control socket: no client can be accepted any more: %s; raise the limit of "
                    "open files (ulimit -n)",
                    strerror(errno));
        loop_remove(c->watch);
        c->watch = NULL;
    }
    c->inside--;
    reap(c);
}

/* ------------------------------------------------------------------ pauses */

json_t *control_state(const struct control *c) {
    bool paused = machine_is_paused(c->vm->machine);
    json_t *v = json_pack("{s:s}", "state", paused ? "paused" : "running");

    if (paused && *c->reason)
        json_object_set_new(v, "reason", json_string(c->reason));
    return v;
}

void control_pause(struct control *c, const char *reason) {
    if (machine_is_paused(c->vm->machine))
        return;
    machine_pause(c->vm->machine);
    snprintf(c->reason, sizeof(c->reason), "%s", reason);
    control_event(c, "state", control_state(c));
}

void control_resume(struct control *c) {
    if (!machine_is_paused(c->vm->machine))
        return;
    *c->reason = 0;
    machine_resume(c->vm->machine);
    control_event(c, "state", control_state(c));
}

/* ------------------------------------------------------------------ making and ending it */

static void job_changed(void *opaque, json_t *view) { control_event(opaque, "job", view); }

bool control_rests(const struct control *c) { return c->resting; }

struct jobs *control_jobs(struct control *c) {
    return c->jobs;
}

struct control *control_new(const struct control_vm *vm, struct error *err) {
    struct control *c = calloc(1, sizeof(*c));

    if (c) {
        c->vm = vm;
        c->listener = -1;
        c->jobs = jobs_new(job_changed, c);
        c->rest_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (c->rest_fd >= 0)
            c->rest_watch = loop_add(vm->loop, c->rest_fd, EPOLLIN, rest_over, c);
    }
    if (c && c->jobs && c->rest_watch)
        return c;
    control_free(c);
    error_set(err, -ENOMEM, "the control of the machine: out of memory");
    return NULL;
}

int control_listen(struct control *c, const char *path, struct error *err) {
    c->listener = unix_socket_listen(path, SOCKET_MODE, "the control socket", err);
    if (c->listener < 0)
        return c->listener;
    c->path = strdup(path);
    c->watch = loop_add(c->vm->loop,
                        c->vm->jail ? jail_give_listener(c->vm->jail, c->listener) : c->listener,
                        EPOLLIN, client_came, c);
    return c->path && c->watch
               ? 0
               : error_set(err, -ENOMEM, "the control socket '%s': out of memory", path);
}

void control_free(struct control *c) {
    if (!c)
        return;
    c->inside++;
    for (struct control_client *cl = c->clients; cl; cl = cl->next) {
        flush(cl);
        close_client(cl);
    }
    c->inside--;
    reap(c);
    loop_remove(c->watch);
    loop_remove(c->rest_watch);
    if (c->rest_fd >= 0)
        close(c->rest_fd);
    if (c->listener >= 0) {
        close(c->listener);
        if (c->path)
            unlink(c->path);
    }
    jobs_free(c->jobs);
    free(c->path);
    free(c);
}
