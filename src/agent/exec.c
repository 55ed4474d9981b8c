/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands: {"do": "exec", "argv": [...], "env": {...}, "cwd": path, "user": name, "tty": bool,
 * "columns": n, "rows": n, "image": bool}. Input, output, signals and window sizes are frames; the
 * last one is the exit. If the connection ends first, the command's process group gets SIGHUP.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/command.h"

enum { SLICE = 32 * 1024 };
enum { LAST_SLICES = 64 }; /* more than a pipe or terminal holds */

struct job {
    struct agent_call *call;
    pid_t pid;
    bool tty;
    int in, out, err; /* our ends; -1: closed. With a tty `out` is the master and `in` a copy */
    int child[3];     /* the command's ends */
    int failure[2];   /* a pipe: what went wrong before the command ran */
    int exit;         /* the code for that; 0: none of the command's own */
    int signals;
    uint8_t input[AGENT_FRAME_MAX]; /* taken from the host, not yet by the command */
    size_t input_start, input_len;
    bool input_ends;
    struct command_user user;
};

/* Why the command does not run. */
struct failure {
    int code;
    bool ready; /* all was ready for it: it is the command that cannot be run */
};

/* ---- starting it ---- */

/* In the child. Does not return. */
static _Noreturn void run(struct job *j, char **argv) {
    const struct command_image *image = j->call->image;
    const char *cwd = agent_text(j->call, "cwd");
    struct failure f = {0};
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    setsid();
    for (int i = 0; i < 3; i++)
        if (dup2(j->child[i], i) < 0)
            goto failed;
    if (j->tty && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
        goto failed;
    command_environment(&j->user, image, json_object_get(j->call->request, "env"), j->tty);
    if (command_become(&j->user, cwd ? cwd : image ? image->workdir : NULL) < 0)
        goto failed;
    f.ready = true;
    execvp(argv[0], argv);
failed:
    f.code = errno;
    ssize_t n = write(j->failure[1], &f, sizeof(f));

    (void)n; /* without it the exit code says as much */
    _exit(f.code == ENOENT ? COMMAND_NOT_FOUND : COMMAND_NOT_RUN);
}

static int open_pipes(struct job *j) {
    int in[2], out[2], err[2];

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        return -errno;
    j->child[0] = in[0];
    j->child[1] = out[1];
    j->child[2] = err[1];
    j->in = in[1];
    j->out = out[0];
    j->err = err[0];
    return 0;
}

static void set_window(int fd, int64_t columns, int64_t rows) {
    struct winsize w = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};

    ioctl(fd, TIOCSWINSZ, &w);
}

static int open_terminal(struct job *j, struct error *err) {
    int64_t columns = 80, rows = 24;
    char name[64];
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;

    if (agent_number(j->call, "columns", 1, 65535, 80, &columns, err) < 0 ||
        agent_number(j->call, "rows", 1, 65535, 24, &rows, err) < 0)
        return -EINVAL;
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
        ptsname_r(master, name, sizeof(name)) != 0 ||
        (slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        return error_set(err, -errno, "the guest has no terminal to give: %s; is /dev/pts mounted?",
                         strerror(errno));
    set_window(master, columns, rows);
    if (getuid() == 0 && fchown(slave, j->user.uid, (gid_t)-1) < 0)
        return error_set(err, -errno, "the terminal cannot be given to '%s': %s", j->user.name,
                         strerror(errno));
    j->child[0] = j->child[1] = j->child[2] = slave;
    j->out = master;
    j->in = fcntl(master, F_DUPFD_CLOEXEC, 3);
    return 0;
}

/* The codes that a shell has for it; other reasons are none of the command's. */
static int failed(struct job *j, const struct failure *f, const char *command, struct error *err) {
    const char *cwd = agent_text(j->call, "cwd");

    if (!f->ready)
        return error_set(err, -f->code, "'%.200s' is not run: user '%.60s', folder '%.200s': %s",
                         command, j->user.name, cwd ? cwd : "that of the user", strerror(f->code));
    j->exit = f->code == ENOENT ? COMMAND_NOT_FOUND : COMMAND_NOT_RUN;
    return error_set(err, -f->code, "'%.200s' cannot be run: %s", command, strerror(f->code));
}

static int start(struct job *j, char **argv, struct error *err) {
    const char *user = agent_text(j->call, "user");
    struct failure f;
    sigset_t set;
    int r;

    if (!user)
        user = j->call->image ? j->call->image->user : "root";
    r = command_find_user(&j->user, user, err);
    if (r < 0)
        return r;
    j->tty = json_is_true(json_object_get(j->call->request, "tty"));
    r = j->tty ? open_terminal(j, err) : open_pipes(j);
    if (r < 0 || pipe2(j->failure, O_CLOEXEC) < 0)
        return error_set(err, r < 0 ? r : -errno, "no pipes for the command: %s",
                         strerror(r < 0 ? -r : errno));
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    j->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    j->pid = fork();
    if (j->pid == 0)
        run(j, argv);
    if (j->pid < 0 || j->signals < 0)
        return error_set(err, -errno, "the command cannot be started: %s", strerror(errno));
    close(j->child[0]);
    if (!j->tty) {
        close(j->child[1]);
        close(j->child[2]);
    }
    close(j->failure[1]);
    if (read(j->failure[0], &f, sizeof(f)) == sizeof(f))
        return failed(j, &f, argv[0], err);
    fcntl(j->in, F_SETFL, O_NONBLOCK);
    fcntl(j->out, F_SETFL, O_NONBLOCK);
    if (j->err >= 0)
        fcntl(j->err, F_SETFL, O_NONBLOCK);
    return 0;
}

/* ---- while it runs ---- */

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* One slice of output. 0: more may come; 1: none now; negative: the connection is gone. */
static int forward(struct job *j, int *fd, enum agent_frame type) {
    static uint8_t bytes[SLICE];
    ssize_t n = *fd >= 0 ? read(*fd, bytes, sizeof(bytes)) : -1;

    if (n > 0)
        return agent_send(j->call->fd, type, bytes, (size_t)n, NULL);
    if (*fd >= 0 && !(n < 0 && (errno == EAGAIN || errno == EINTR)))
        close_fd(fd); /* EIO: nobody holds the terminal any more */
    return 1;
}

static void feed(struct job *j) {
    while (j->input_len && j->in >= 0) {
        ssize_t n = write(j->in, j->input + j->input_start, j->input_len);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) { /* it does not read any more: what comes is dropped */
            close_fd(&j->in);
            break;
        }
        j->input_start += (size_t)n;
        j->input_len -= (size_t)n;
    }
    j->input_len = 0;
    if (!j->input_ends || j->in < 0)
        return;
    if (j->tty) { /* a terminal ends by its end-of-file character */
        ssize_t n = write(j->in, "\004", 1);

        (void)n;
        j->input_ends = false;
    } else {
        close_fd(&j->in);
    }
}

static void send_signal(struct job *j, const uint8_t *p, size_t n) {
    json_t *v = agent_json(p, n, NULL);
    json_int_t signo = json_integer_value(json_object_get(v, "signal"));

    if (signo > 0 && signo < NSIG)
        kill(-j->pid, (int)signo);
    json_decref(v);
}

static void resize(struct job *j, const uint8_t *p, size_t n) {
    json_t *v = agent_json(p, n, NULL);
    json_int_t columns = json_integer_value(json_object_get(v, "columns")),
               rows = json_integer_value(json_object_get(v, "rows"));

    if (j->tty && columns > 0 && columns < 65536 && rows > 0 && rows < 65536)
        set_window(j->out, columns, rows);
    json_decref(v);
}

/* Frames that are there. 0, or negative when the connection is gone. */
static int take_frames(struct job *j) {
    enum agent_frame type;
    const uint8_t *p;
    size_t n;
    int r = 0;

    while (!j->input_len && (r = agent_receive(j->call->reader, 0, &type, &p, &n, NULL)) > 0) {
        if (type == AGENT_STDIN && n) {
            memcpy(j->input, p, n);
            j->input_start = 0;
            j->input_len = n;
        } else if (type == AGENT_STDIN) {
            j->input_ends = true;
        } else if (type == AGENT_SIGNAL) {
            send_signal(j, p, n);
        } else if (type == AGENT_RESIZE) {
            resize(j, p, n);
        }
        feed(j);
    }
    return r < 0 ? r : 0;
}

/* Until the command has ended. Negative: the connection is gone. */
static int tend(struct job *j) {
    for (;;) {
        /* Before waiting: some may have come with the request, or lie behind a full input. */
        if (take_frames(j) < 0)
            return -EPIPE;

        struct pollfd p[5] = {
            {.fd = j->signals, .events = POLLIN},
            {.fd = j->input_len ? -1 : j->call->fd, .events = POLLIN},
            {.fd = j->out, .events = POLLIN},
            {.fd = j->err, .events = POLLIN},
            {.fd = j->input_len ? j->in : -1, .events = POLLOUT},
        };

        if (poll(p, 5, -1) < 0 && errno != EINTR)
            return -errno;
        if (p[2].revents && forward(j, &j->out, AGENT_STDOUT) < 0)
            return -EPIPE;
        if (p[3].revents && forward(j, &j->err, AGENT_STDERR) < 0)
            return -EPIPE;
        if (p[4].revents)
            feed(j);
        if (p[0].revents)
            return 0;
    }
}

/* What the command wrote is all there; what children that it left behind write is not waited for.
 */
static int finish(struct job *j, struct error *err) {
    int status = 0, r = 0;

    waitpid(j->pid, &status, 0);
    for (unsigned i = 0; i < LAST_SLICES && (r = forward(j, &j->out, AGENT_STDOUT)) == 0; i++)
        ;
    for (unsigned i = 0; i < LAST_SLICES && r >= 0 && (r = forward(j, &j->err, AGENT_STDERR)) == 0;
         i++)
        ;
    if (r < 0)
        return r;
    return agent_send_json(j->call->fd, AGENT_EXIT,
                           WIFSIGNALED(status) ? json_pack("{s:i}", "signal", WTERMSIG(status))
                                               : json_pack("{s:i}", "code", WEXITSTATUS(status)),
                           err);
}

/* With "image" the words are what the image's own command gets, or stand for its own words. */
static char **make_argv(const struct agent_call *call, struct error *err) {
    const json_t *words = json_object_get(call->request, "argv");
    const struct command_image *image = call->image;

    if (!image || !json_is_true(json_object_get(call->request, "image")))
        return command_argv(NULL, words, err);
    if (json_array_size(words))
        return command_argv(image->entrypoint, words, err);
    if (json_array_size(image->entrypoint) + json_array_size(image->cmd))
        return command_argv(image->entrypoint, image->cmd, err);
    error_set(err, -EINVAL, "the image has no command of its own: say what to run behind --");
    return NULL;
}

int agent_exec(struct agent_call *call, struct error *err) {
    static struct job j;
    char **argv = make_argv(call, err);
    int r;

    j = (struct job){.call = call, .in = -1, .out = -1, .err = -1};
    if (!argv)
        return -EINVAL;
    r = start(&j, argv, err);
    free(argv);
    if (r < 0 && j.exit)
        return agent_send_json(call->fd, AGENT_RESULT,
                               json_pack("{s:s, s:s, s:i}", "error", err->text, "code",
                                         strerrorname_np(-r), "exit", j.exit),
                               NULL);
    if (r < 0)
        return r;
    if (tend(&j) < 0) {
        kill(-j.pid, SIGHUP);
        return -ECONNRESET;
    }
    return finish(&j, err);
}
