/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent as the first process of a machine made of an OCI image (docs/oci.md).
 *
 * Theory of operation. It begins in an initramfs (oci/initrd.h): loads modules, mounts the image's
 * file system from the first disk, makes it the root and gets the machine ready as container
 * runtimes do (/proc, /sys, /dev and so on, loopback, address by DHCP, host name). Then it forks:
 * one child serves the host (the agent as in any guest), one is the image's command on the console,
 * unless the host runs its commands itself (viv.command=none). It buries orphans, hands signals on,
 * and powers the machine off when the command has ended.
 *
 * Words of the kernel's command line: viv.command=none, viv.hostname=NAME.
 */
#include "agent/init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/command.h"
#include "agent/dhcp.h"

enum {
    LEASE_MS = 2000,   /* that the command waits for an address */
    STOP_MS = 10000,   /* from the image's stop signal to SIGKILL */
    REPORT_MS = 20000, /* for the host to take the exit code, if there is one that listens */
};

struct shared { /* with the children that report */
    volatile int code, reporters, told;
};

struct init {
    json_t *config;
    struct command_image image;
    struct agent_box box;
    struct shared *shared;
    char hostname[65];
    bool no_command;
    int lease, signals, ended; /* descriptors; ended: the writing end of the pipe */
    pid_t command;             /* 0: none, or over */
    int how;                   /* of reboot(2) at the end */
    int64_t kill_at;           /* by the monotonic clock; 0: nobody asked to stop */
};

static int64_t now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

/* ---- reports to the host ---- */

/* The exit code of the command, as soon as there is one. */
int agent_main(struct agent_call *call, struct error *err) {
    struct pollfd p[2] = {{.fd = -1}, {.fd = call->fd, .events = POLLIN}};
    struct shared *shared = call->box ? call->box->shared : NULL;
    char rest;
    int r;

    if (!shared)
        return error_set(err, -EOPNOTSUPP, "this guest has no command that it is there for");
    p[0].fd = call->box->ended;
    __atomic_add_fetch(&shared->reporters, 1, __ATOMIC_SEQ_CST);
    while (!(p[0].revents & (POLLHUP | POLLERR)) && !p[1].revents)
        poll(p, 2, -1);
    r = p[0].revents ? agent_answer(call, json_pack("{s:i}", "code", shared->code), err) : 0;
    p[1].revents = 0;
    if (p[0].revents && poll(p + 1, 1, REPORT_MS) > 0) /* it has been taken when the host leaves */
        r = recv(call->fd, &rest, 1, MSG_DONTWAIT) < 0 ? r : r;
    if (p[0].revents)
        __atomic_store_n(&shared->told, 1, __ATOMIC_SEQ_CST);
    __atomic_sub_fetch(&shared->reporters, 1, __ATOMIC_SEQ_CST);
    return r;
}

static bool reports_go_on(const struct shared *s, bool expected) {
    return __atomic_load_n(&s->reporters, __ATOMIC_SEQ_CST) ||
           (expected && !__atomic_load_n(&s->told, __ATOMIC_SEQ_CST));
}

/* A host that has not asked yet, because the command was short, is told that it should. */
static void await_reports(const struct init *in) {
    bool expected = !__atomic_load_n(&in->shared->reporters, __ATOMIC_SEQ_CST) && agent_knock();

    for (int64_t end = now_ms() + REPORT_MS; reports_go_on(in->shared, expected) && now_ms() < end;)
        usleep(2000);
}

/* ---- the end ---- */

static _Noreturn void finish(const struct init *in) {
    kill(-1, SIGKILL);
    sync();
    mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
    reboot(in->how);
    for (;;)
        pause();
}

/* Whoever looks at the console should know why. */
static _Noreturn void give_up(const struct init *in, const char *what, const char *why) {
    dprintf(STDERR_FILENO, "viv-init: %s: %s\n", what, why);
    usleep(100000);
    finish(in);
}

/* ---- the command ---- */

static int open_console(void) {
    char name[64] = "ttyS0", path[80];
    int fd = open("/sys/class/tty/console/active", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, name, sizeof(name) - 1);

    if (fd >= 0)
        close(fd);
    if (n > 0)
        name[n] = 0;
    name[strcspn(name, " \n")] = 0;
    snprintf(path, sizeof(path), "/dev/%s", name);
    return open(path, O_RDWR | O_NOCTTY);
}

/* In the child. */
static _Noreturn void run_command(struct init *in) {
    struct command_user user;
    struct error err = {0};
    sigset_t none;
    char **argv;
    int tty, code;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    tty = open_console();
    for (int i = 0; i < 3 && tty >= 0; i++)
        dup2(tty, i);
    if (tty > 2)
        close(tty);
    ioctl(STDIN_FILENO, TIOCSCTTY, 1);
    argv = command_argv(in->image.entrypoint, in->image.cmd, &err);
    if (!argv) {
        fprintf(stderr,
                "viv-init: the image has no command of its own: run one with 'viv run IMAGE "
                "-- COMMAND'\n");
        _exit(COMMAND_NOT_FOUND);
    }
    if (command_find_user(&user, in->image.user, &err) < 0) {
        fprintf(stderr, "viv-init: %s\n", err.text);
        _exit(COMMAND_NOT_RUN);
    }
    code = fchown(STDIN_FILENO, user.uid, (gid_t)-1); /* it can be used without as well */
    command_environment(&user, &in->image, NULL, true);
    if (command_become(&user, in->image.workdir) == 0)
        execvp(argv[0], argv);
    code = errno;
    fprintf(stderr, "viv-init: '%s' cannot be run: %s\n", argv[0], strerror(code));
    _exit(code == ENOENT ? COMMAND_NOT_FOUND : COMMAND_NOT_RUN);
}

static int stop_signal(const struct init *in) {
    const char *s = json_string_value(json_object_get(in->config, "stop_signal"));
    int number = s ? atoi(s) : 0;

    for (int i = 1; s && i < NSIG && !number; i++)
        if (sigabbrev_np(i) && !strcmp(sigabbrev_np(i), strncmp(s, "SIG", 3) ? s : s + 3))
            number = i;
    if (s && !number && sscanf(s, "SIGRTMIN+%d", &number) == 1)
        number += SIGRTMIN;
    return number > 0 && number < NSIG ? number : SIGTERM;
}

/* ---- what comes in ---- */

static void ask_to_stop(struct init *in, int how) {
    in->how = how;
    if (in->kill_at)
        return;
    in->kill_at = now_ms() + STOP_MS;
    if (in->command)
        kill(in->command, stop_signal(in));
}

static void command_ended(struct init *in, int status) {
    in->shared->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    in->command = 0;
    close(in->ended);
    await_reports(in);
    finish(in);
}

static void bury(struct init *in) {
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == in->command)
            command_ended(in, status);
}

/* busybox's poweroff, halt and reboot ask the first process with these. */
static void take_signal(struct init *in) {
    struct signalfd_siginfo info;

    if (read(in->signals, &info, sizeof(info)) != sizeof(info))
        return;
    switch (info.ssi_signo) {
    case SIGUSR2:
    case SIGPWR:
        ask_to_stop(in, RB_POWER_OFF);
        break;
    case SIGUSR1:
        ask_to_stop(in, RB_HALT_SYSTEM);
        break;
    case SIGTERM:
    case SIGINT: /* Ctrl-Alt-Del */
        ask_to_stop(in, RB_AUTOBOOT);
        break;
    default:
        break;
    }
    bury(in);
    if (in->kill_at && !in->command)
        finish(in);
}

static _Noreturn void tend(struct init *in) {
    for (;;) {
        struct pollfd p[2] = {{.fd = in->signals, .events = POLLIN},
                              {.fd = in->lease, .events = POLLIN}};
        int64_t left = in->kill_at ? in->kill_at - now_ms() : -1;

        if (in->kill_at && left <= 0)
            finish(in);
        if (poll(p, 2, (int)left) <= 0)
            continue;
        if (p[1].revents)
            init_take_lease(&in->lease, in->hostname);
        if (p[0].revents)
            take_signal(in);
    }
}

/* ---- the beginning ---- */

static const char *text_of(const struct init *in, const char *name) {
    const char *s = json_string_value(json_object_get(in->config, name));

    return s ? s : "";
}

static void read_config(struct init *in) {
    in->config = json_load_file("/viv/config.json", 0, NULL);
    if (!in->config)
        give_up(in, "/viv/config.json", "cannot be read");
    in->image = (struct command_image){.entrypoint = json_object_get(in->config, "entrypoint"),
                                       .cmd = json_object_get(in->config, "cmd"),
                                       .env = json_object_get(in->config, "env"),
                                       .user = text_of(in, "user"),
                                       .workdir = text_of(in, "workdir")};
    if (!*in->image.user)
        in->image.user = "root";
    if (!*in->image.workdir)
        in->image.workdir = "/";
}

static void read_cmdline(struct init *in) {
    char text[4096], *word, *rest = text;
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    snprintf(in->hostname, sizeof(in->hostname), "vivarium");
    while ((word = strsep(&rest, " \n")))
        if (!strcmp(word, "viv.command=none"))
            in->no_command = true;
        else if (!strncmp(word, "viv.hostname=", 13) && word[13])
            snprintf(in->hostname, sizeof(in->hostname), "%.64s", word + 13);
}

static void prepare(struct init *in) {
    const struct rlimit files = {1024, 524288};
    int ends[2];
    sigset_t set;

    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    in->signals = signalfd(-1, &set, SFD_CLOEXEC);
    in->shared =
        mmap(NULL, sizeof(*in->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (in->signals < 0 || in->shared == MAP_FAILED || pipe2(ends, O_CLOEXEC) < 0)
        give_up(in, "the machine", strerror(errno));
    in->ended = ends[1];
    in->box = (struct agent_box){&in->image, ends[0], in->no_command ? NULL : in->shared};
    setrlimit(RLIMIT_NOFILE, &files);
    umask(022);
    if (sethostname(in->hostname, strlen(in->hostname)) < 0)
        give_up(in, "the host name", strerror(errno));
}

static pid_t start(struct init *in, bool command) {
    pid_t pid = fork();
    sigset_t none;

    if (pid)
        return pid;
    close(in->ended);
    if (command)
        run_command(in);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    agent_serve(&in->box);
}

void init_main(void) {
    static struct init in = {.lease = -1, .how = RB_POWER_OFF};
    const char *what;

    what = init_begin(&in.lease);
    if (what)
        give_up(&in, what, strerror(errno));
    read_cmdline(&in);
    read_config(&in);
    what = init_change_root(in.image.workdir);
    if (what)
        give_up(&in, what, strerror(errno));
    prepare(&in);
    init_write_files(NULL, in.hostname);
    if (in.lease >= 0) {
        struct pollfd p = {.fd = in.lease, .events = POLLIN};

        if (poll(&p, 1, LEASE_MS) > 0)
            init_take_lease(&in.lease, in.hostname);
    }
    if (start(&in, false) < 0)
        give_up(&in, "the agent", strerror(errno));
    if (!in.no_command && (in.command = start(&in, true)) < 0)
        give_up(&in, "the command", strerror(errno));
    tend(&in);
}
