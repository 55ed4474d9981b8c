/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Going into the jail: the order of the steps is the order of docs/jail.md. */
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/jail.h"
#include "base/log.h"
#include "jail/confine.h"
#include "jail/jail_internal.h"

/*
 * Of what is below, after the door is closed:
 *
 * Calls (main): wait4 recvmsg prctl:PR_SET_PTRACER
 * Calls (main, vcpu, job): seccomp:SECCOMP_SET_MODE_FILTER
 * Calls (net): wait4 recvmsg
 * Calls (all): prctl:PR_GET_NAME
 */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct jail {
    struct jail_options options;
    struct jail_facts facts;
    int channel, clients; /* our ends */
    pid_t helper;
    struct confine confine;
    int end_signal; /* PR_SET_PDEATHSIG of who started the process, or 0 */
    pid_t starter;
};

/* For the hooks, which come from threads of all layers; there is one jail a process. */
static struct jail *entered;
static pid_t helper_pid;
static bool capabilities_gone_soon;
static bool closing; /* atomic: threads that begin now may make no calls but their own */

const char *jail_impossible(void) {
    return SANITIZED ? "this build has a sanitizer in it, which opens files and reserves memory as "
                       "it goes"
                     : NULL;
}

bool jail_left_out(bool unwanted, const char *noun) {
    const char *why = jail_impossible();

    if (!why && !unwanted)
        return false;
    log_warning("there is no jail around this %s: %s", noun,
                why ? why : "--no-jail is for debugging");
    return true;
}

/* ------------------------------------------------------------------ hooks */

/* A thread's filter is its children's as well, and any may start one for a disk's requests; the
 * main thread has those of all. */
static void enter_thread_filter(enum jail_thread kind) {
    struct filter f;

    filter_make_within(&f, 1u << kind | (kind == JAIL_AUX ? 0 : 1u << JAIL_DISK),
                       filter_kinds(entered->options.network));
    filter_install(&f, 0);
}

static void on_thread(enum jail_thread kind) {
    sigset_t one;

    sigemptyset(&one);
    sigaddset(&one, SIGSYS);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    if (!__atomic_load_n(&closing, __ATOMIC_ACQUIRE))
        confine_signals(false); /* later ones inherit it */
    if (capabilities_gone_soon && !entered)
        confine_drop_capabilities();
    if (entered && !entered->options.network && kind != JAIL_MAIN)
        enter_thread_filter(kind);
}

static void on_fork(void) {
    if (entered)
        prctl(PR_SET_PTRACER, helper_pid, 0, 0, 0);
}

/* ------------------------------------------------------------------ violations */

/* The call was not made, so that whoever asked for it stands where he stood. The helper's filter
 * has the same end: a machine without one opens nothing more. */
static void on_violation(int signo, siginfo_t *info, void *context) {
    char thread[17] = "";

    prctl(PR_GET_NAME, thread);
    log_error("the jail refused the system call '%s' (number %d) of the thread '%s', which nobody "
              "declared: this is a mistake of ours or an attack, and the process ends here; "
              "--no-jail runs without the jail (docs/jail.md)",
              filter_call_name((unsigned)info->si_syscall), info->si_syscall, thread);
    _exit(1);
}

int filter_watch(struct error *err) {
    struct sigaction a = {.sa_sigaction = on_violation, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    if (sigaction(SIGSYS, &a, NULL) == 0)
        return 0;
    return error_set(err, -errno, "the jail's signal cannot be taken: %s", strerror(errno));
}

/* ------------------------------------------------------------------ before */

static void become_helper(struct jail *j, int channel, int clients, pid_t machine) {
    int null = open("/dev/null", O_RDWR), fds[2];

    /* Errors are said; what else the process has is none of the helper's, locks above all. */
    for (int fd = 0; fd < 2 && null >= 0; fd++)
        dup2(null, fd);
    fds[0] = fcntl(channel, F_DUPFD_CLOEXEC, 10);
    fds[1] = fcntl(clients, F_DUPFD_CLOEXEC, 10);
    if (fds[0] < 0 || fds[1] < 0 || dup3(fds[0], 3, O_CLOEXEC) < 0 ||
        dup3(fds[1], 4, O_CLOEXEC) < 0)
        _exit(1);
    close_range(5, ~0u, 0);
    helper_main(&j->options, 3, 4, machine);
}

static int start_helper(struct jail *j, struct error *err) {
    int channel[2] = {-1, -1}, clients[2] = {-1, -1}, r = 0;
    pid_t machine = getpid();

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, clients) < 0 ||
        (j->helper = fork()) < 0)
        r = error_set(err, -errno, "the jail's helper cannot be made: %s; allow more processes",
                      strerror(errno));
    if (r == 0 && j->helper == 0)
        become_helper(j, channel[1], clients[1], machine);
    if (channel[1] >= 0)
        close(channel[1]);
    if (clients[1] >= 0)
        close(clients[1]);
    j->channel = channel[0];
    j->clients = clients[0];
    helper_pid = j->helper;
    return r;
}

/* The signal at the end of the starter is forgotten with each change of who the process is
 * (PR_SET_PDEATHSIG(2const)); the starter that ended before it was asked for again sends none. */
static void keep_end_signal(const struct jail *j) {
    if (!j->end_signal)
        return;
    prctl(PR_SET_PDEATHSIG, j->end_signal, 0, 0, 0);
    if (getppid() != j->starter)
        raise(j->end_signal);
}

void jail_note_descriptors(void) { confine_note_descriptors(); }

struct jail *jail_prepare(const struct jail_options *o, struct error *err) {
    static const struct jail_hooks hooks = {on_thread, on_fork};
    struct jail *j = calloc(1, sizeof(*j));

    if (!j) {
        error_set(err, -ENOMEM, "the jail: out of memory");
        return NULL;
    }
    j->options = *o;
    j->channel = j->clients = -1;
    if (confine_choose_user(&j->confine, o->user, err) < 0) {
        jail_leave(j);
        return NULL;
    }
    confine_drop_bounds(); /* once, for the helper as well */
    if (start_helper(j, err) < 0) {
        jail_leave(j);
        return NULL;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        error_set(err, -errno, "the jail: no_new_privs is refused: %s", strerror(errno));
        jail_leave(j);
        return NULL;
    }
    confine_look_at_cgroup(&j->facts);
    j->starter = getppid();
    prctl(PR_GET_PDEATHSIG, &j->end_signal, 0, 0, 0);
    confine_namespaces(&j->confine, &j->facts);
    keep_end_signal(j);
    /* Becoming another user takes them from all threads; in one that has none it would fail. */
    capabilities_gone_soon = !j->confine.change_user;
    jail_set_hooks(&hooks);
    return j;
}

static void tell(const struct jail *j, uint32_t op, const char *path, unsigned rights, int with) {
    struct message m;
    size_t n = path ? strnlen(path, sizeof(m.path) - 1) : 0;

    m.op = op;
    m.rights = rights;
    memcpy(m.path, path ? path : "", n);
    m.path[n] = 0;
    channel_send(j->channel, &m, offsetof(struct message, path) + n + 1, with);
}

unsigned jail_grant(void *jail, const char *path, unsigned rights) {
    const struct jail *j = jail;

    if (j && !j->facts.in)
        tell(j, MESSAGE_GRANT, path, rights, -1);
    return 0; /* before the door nobody but us has written anything */
}

int jail_give_listener(struct jail *j, int listener) {
    tell(j, MESSAGE_LISTENER, NULL, 0, listener);
    return j->clients;
}

int jail_accept(int fd) {
    char byte;
    int client;
    ssize_t n = channel_receive(fd, &byte, 1, &client);

    if (n >= 0 && client >= 0)
        return client;
    errno = n < 0 ? (int)-n : n == 0 ? ECONNABORTED : EAGAIN;
    return -1;
}

/* ------------------------------------------------------------------ the door */

/* For all threads that there are, and those that they will make. */
static int close_door(struct jail *j, bool helped, struct error *err) {
    struct filter f;
    unsigned kinds = filter_kinds(j->options.network), flags = SECCOMP_FILTER_FLAG_TSYNC;
    unsigned listener = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    int fd;

    filter_make(&f, kinds, true, helped);
    if (!helped) {
        confine_missing(&j->facts, "files and sockets are not opened by a helper", ENOSYS);
        fd = filter_install(&f, flags);
    } else {
        fd = filter_install(&f, flags | listener | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
        if (fd == -EINVAL) /* before Linux 5.19 */
            fd = filter_install(&f, flags | listener);
    }
    if (fd < 0)
        return error_set(err, fd, "the jail's filter is refused: %s; --no-jail runs without it",
                         strerror(-fd));
    j->facts.helper = helped;
    j->facts.filter = true;
    j->facts.calls = f.calls;
    tell(j, MESSAGE_SEAL, NULL, 0, j->facts.helper ? fd : -1);
    if (j->facts.helper)
        close(fd);
    return 0;
}

/* Whether calls can be handed over must be known before the root is left; the helper has tried it,
 * on itself (helper.c). */
static bool can_notify(const struct jail *j) {
    char byte = 0;

    return recv(j->channel, &byte, 1, 0) == 1 && byte == 'y';
}

int jail_enter(struct jail *j, struct error *err) {
    int r = filter_watch(err);
    bool helped;

    if (r < 0)
        return r;
    __atomic_store_n(&closing, true, __ATOMIC_RELEASE);
    helped = can_notify(j);
    prctl(PR_SET_PTRACER, j->helper, 0, 0, 0); /* it reads the arguments of calls (Yama) */
    confine_close_descriptors();
    if (helped) {
        confine_network(&j->facts);
        confine_root(&j->facts);
    }
    confine_limits(j->options.network);
    r = confine_change_user(&j->confine, &j->facts, err);
    if (r < 0)
        return r;
    if (helped)
        confine_processes(&j->confine, &j->facts);
    j->facts.capabilities = confine_drop_capabilities();
    /* Not before: who holds an image that cannot be had is looked up in the process itself. */
    j->facts.signals = confine_signals(helped);
    keep_end_signal(j);
    r = close_door(j, helped, err);
    if (r < 0)
        return r;
    j->facts.in = true;
    entered = j;
    if (*j->facts.missing)
        log_notice("the jail is not whole on this host: %s", j->facts.missing);
    return 0;
}

void jail_leave(struct jail *j) {
    if (!j)
        return;
    if (j->channel >= 0)
        close(j->channel);
    if (j->clients >= 0)
        close(j->clients);
    if (j->helper > 0)
        while (waitpid(j->helper, NULL, 0) < 0 && errno == EINTR)
            ;
    j->helper = 0;
    j->channel = j->clients = -1; /* the rest lives as long as the process, which is in it */
}

const struct jail_facts *jail_facts(const struct jail *j) {
    static const struct jail_facts none;

    return j ? &j->facts : &none;
}
