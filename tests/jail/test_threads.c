/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What code that a guest had taken over could ask the kernel for, on every kind of thread: each
 * call is made with arguments that the kernel would look at, and it never gets that far. The
 * signal of a call that the filter stopped is counted here and the thread goes on, as injected code
 * could arrange, too.
 */
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/jail.h"
#include "jail/confine.h"
#include "jail/jail_internal.h"
#include "jail/landlock.h"
#include "support/test.h"

#define HERE      ((long)(uintptr_t)memory)
#define TEXT      ((long)(uintptr_t) "/etc/passwd")
#define WRITABLE  (PROT_READ | PROT_WRITE)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

static char memory[8192] __attribute__((aligned(4096)));
enum { OTHER = -1000 }; /* in the place of the number of the process outside */

static const struct attempt {
    int number;
    long a[6];
} attempts[] = {
    /* Programs, and code. */
    {SYS_execve, {TEXT}},
    {SYS_execveat, {AT_FDCWD, TEXT}},
    {SYS_mmap, {0, 4096, WRITABLE | PROT_EXEC, ANONYMOUS, -1}},
    {SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, ANONYMOUS, -1}},
    {SYS_mprotect, {HERE, 4096, WRITABLE | PROT_EXEC}},
    {SYS_mprotect, {HERE, 4096, PROT_EXEC}},
    {SYS_pkey_mprotect, {HERE, 4096, WRITABLE | PROT_EXEC, -1}},
    {SYS_remap_file_pages, {HERE, 4096}},
    {SYS_shmat, {0}},
    {SYS_personality, {0x0400000}}, /* READ_IMPLIES_EXEC */
    {SYS_modify_ldt, {1, HERE, 16}},
    {SYS_arch_prctl, {0x1012 /* ARCH_SET_CPUID */, 1}},
    {SYS_uselib, {TEXT}},
    /* Other processes. */
    {SYS_ptrace, {PTRACE_ATTACH, OTHER}},
    {SYS_process_vm_readv, {OTHER, HERE, 0, HERE, 0}},
    {SYS_process_vm_writev, {OTHER, HERE, 0, HERE, 0}},
    {SYS_process_madvise, {0, HERE, 0, MADV_COLD}},
    {SYS_process_mrelease, {0}},
    {SYS_kcmp, {OTHER, OTHER, 0}},
    {SYS_tkill, {OTHER, SIGKILL}},
    {SYS_tgkill, {OTHER, OTHER, SIGKILL}},
    {SYS_rt_sigqueueinfo, {OTHER, SIGKILL, HERE}},
    {SYS_rt_tgsigqueueinfo, {OTHER, OTHER, SIGKILL, HERE}},
    {SYS_pidfd_open, {OTHER}},
    {SYS_pidfd_getfd, {0, 0, 0}},
    {SYS_pidfd_send_signal, {0, SIGKILL}},
    {SYS_waitid, {P_PIDFD, 0, 0, WEXITED}},
    {SYS_getpgid, {OTHER}},
    {SYS_setpgid, {0, 0}},
    {SYS_getsid, {OTHER}},
    {SYS_setsid, {0}},
    {SYS_getpriority, {PRIO_PROCESS, OTHER}},
    {SYS_setpriority, {PRIO_PROCESS, OTHER, 19}},
    {SYS_sched_getaffinity, {OTHER, sizeof(memory), HERE}},
    {SYS_sched_setaffinity, {OTHER, 8, HERE}},
    {SYS_sched_getscheduler, {OTHER}},
    {SYS_sched_setscheduler, {OTHER, 0, HERE}},
    {SYS_sched_getparam, {OTHER, HERE}},
    {SYS_sched_getattr, {OTHER, HERE, 48}},
    {SYS_sched_setattr, {OTHER, HERE}},
    {SYS_ioprio_get, {1, OTHER}},
    {SYS_ioprio_set, {1, OTHER}},
    {SYS_prlimit64, {OTHER, RLIMIT_NOFILE, 0, HERE}},
    {SYS_prlimit64, {0, RLIMIT_CORE, HERE, 0}},
    {SYS_move_pages, {OTHER}},
    {SYS_migrate_pages, {OTHER}},
    {SYS_get_robust_list, {OTHER, HERE, HERE}},
    {SYS_fcntl, {0, F_SETOWN, OTHER}},
    {SYS_fcntl, {0, F_SETSIG, SIGKILL}},
    {SYS_ioctl, {0, FIOSETOWN, HERE}},
    {SYS_ioctl, {2, TIOCSTI, TEXT}},
    {SYS_prctl, {PR_SET_DUMPABLE, 1}},
    {SYS_prctl, {PR_SET_SECCOMP, 1}},
    {SYS_seccomp, {SECCOMP_SET_MODE_STRICT}},
    /* Namespaces, roots, mounts. */
    {SYS_unshare, {CLONE_NEWUSER}},
    {SYS_setns, {0, 0}},
    {SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
    {SYS_clone, {CLONE_NEWPID | SIGCHLD}},
    {SYS_clone, {CLONE_PARENT | SIGCHLD}},
    {SYS_vfork, {0}},
    {SYS_fork, {0}},
    {SYS_chroot, {TEXT}},
    {SYS_chdir, {TEXT}},
    {SYS_fchdir, {0}},
    {SYS_pivot_root, {TEXT, TEXT}},
    {SYS_mount, {TEXT, TEXT, TEXT}},
    {SYS_umount2, {TEXT, MNT_DETACH}},
    {SYS_move_mount, {0, TEXT, 0, TEXT}},
    {SYS_open_tree, {AT_FDCWD, TEXT}},
    {SYS_fsopen, {TEXT}},
    {SYS_fsmount, {0}},
    {SYS_mount_setattr, {AT_FDCWD, TEXT}},
    /* Files by other ways than those that the helper looks at. */
    {SYS_openat2, {AT_FDCWD, TEXT, HERE, 24}},
    {SYS_open_by_handle_at, {AT_FDCWD, HERE, 0}},
    {SYS_name_to_handle_at, {AT_FDCWD, TEXT, HERE, HERE}},
    {SYS_truncate, {TEXT, 0}},
    {SYS_chmod, {TEXT, 0777}},
    {SYS_fchmod, {0, 0777}},
    {SYS_fchmodat, {AT_FDCWD, TEXT, 0777}},
    {SYS_chown, {TEXT, 0, 0}},
    {SYS_fchown, {0, 0, 0}},
    {SYS_utimensat, {AT_FDCWD, TEXT}},
    {SYS_mknod, {TEXT, 0600}},
    {SYS_mknodat, {AT_FDCWD, TEXT, 0600}},
    {SYS_symlink, {TEXT, TEXT}},
    {SYS_symlinkat, {TEXT, AT_FDCWD, TEXT}},
    {SYS_setxattr, {TEXT, TEXT, TEXT, 1}},
    {SYS_fsetxattr, {0, TEXT, TEXT, 1}},
    {SYS_inotify_init1, {0}},
    {SYS_fanotify_init, {0}},
    {SYS_acct, {TEXT}},
    {SYS_quotactl, {0}},
    /* The kernel. */
    {SYS_bpf, {0, HERE, 48}},
    {SYS_io_uring_register, {0, 0 /* buffers */, HERE, 1}},
    {SYS_userfaultfd, {0}},
    {SYS_perf_event_open, {HERE, 0, -1, -1}},
    {SYS_keyctl, {0}},
    {SYS_add_key, {TEXT, TEXT, TEXT, 1, -1}},
    {SYS_request_key, {TEXT, TEXT, TEXT, -1}},
    {SYS_init_module, {HERE, 0, TEXT}},
    {SYS_finit_module, {0, TEXT}},
    {SYS_delete_module, {TEXT}},
    {SYS_kexec_load, {0}},
    {SYS_reboot, {0}},
    {SYS_swapon, {TEXT}},
    {SYS_iopl, {3}},
    {SYS_ioperm, {0, 1, 1}},
    {SYS_syslog, {3, HERE, 10}},
    {SYS_settimeofday, {HERE}},
    {SYS_clock_settime, {0, HERE}},
    {SYS_adjtimex, {HERE}},
    {SYS_sethostname, {TEXT, 1}},
    {SYS_vhangup, {0}},
    {SYS_memfd_secret, {0}},
    {SYS_landlock_create_ruleset, {0}},
    {SYS_mlockall, {1}},
    {SYS_mbind, {HERE, 4096}},
    {SYS_lookup_dcookie, {0}},
    /* Who it is. */
    {SYS_setuid, {0}},
    {SYS_setgid, {0}},
    {SYS_setresuid, {0, 0, 0}},
    {SYS_setgroups, {0}},
    {SYS_setfsuid, {0}},
    {SYS_capset, {HERE, HERE}},
    /* Ways to other processes. */
    {SYS_shmget, {1, 4096, 0600}},
    {SYS_msgget, {1, 0600}},
    {SYS_semget, {1, 1, 0600}},
    {SYS_mq_open, {TEXT, O_RDWR}},
    {SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, HERE}},
    {SYS_timer_create, {0, HERE, HERE}},
    {SYS_vmsplice, {0, HERE, 0}},
    {0x40000000 | SYS_getpid, {0}}, /* x32 */
};
enum { ATTEMPTS = sizeof(attempts) / sizeof(attempts[0]) };

/* What a kind needs for itself: the main thread makes snapshots in a child. */
static bool needed(enum jail_thread kind, const struct attempt *a) {
    return kind == JAIL_MAIN && a->number == SYS_prctl && a->a[0] == PR_SET_PDEATHSIG;
}

/* ------------------------------------------------------------------ in the jail */

static volatile int stopped; /* the call that a filter stopped, 0: none */
static pid_t outside;

static void on_stopped(int signo, siginfo_t *info, void *context) { stopped = info->si_syscall; }

static void *try_all(void *opaque) {
    enum jail_thread kind = *(enum jail_thread *)opaque;
    sigset_t one;

    if (kind != JAIL_MAIN)
        jail_thread(kind);
    sigemptyset(&one);
    sigaddset(&one, SIGSYS);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    for (size_t i = 0; i < ATTEMPTS; i++) {
        const struct attempt *t = &attempts[i];
        long a[6];
        pid_t self = getpid();

        for (unsigned k = 0; k < 6; k++)
            a[k] = t->a[k] == OTHER ? outside : t->a[k];
        stopped = -1;
        syscall(t->number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (getpid() != self)
            _exit(99);
        if (!needed(kind, t) && stopped != t->number)
            fprintf(stderr, "%s(%ld, %ld, %ld), ", filter_call_name((unsigned)t->number), t->a[0],
                    t->a[1], t->a[2]);
    }
    return NULL;
}

static void request(const char *line, size_t len, jail_grant_fn *grant, void *opaque) {}

static void go_in_and_try(enum jail_thread kind) {
    static const struct jail_options o = {.request = request, .request_max = 1000};
    struct sigaction act = {.sa_sigaction = on_stopped, .sa_flags = SA_SIGINFO};
    struct error e = {0};
    struct jail *j = jail_prepare(&o, &e);
    pthread_t thread;

    if (!j || jail_enter(j, &e) < 0) {
        fprintf(stderr, "%s", e.text);
        _exit(1);
    }
    sigaction(SIGSYS, &act, NULL);
    if (kind == JAIL_MAIN)
        try_all(&kind);
    else if (pthread_create(&thread, NULL, try_all, &kind) != 0 || pthread_join(thread, NULL) != 0)
        _exit(2);
    _exit(0);
}

/* What a child says until all that it started are gone, the helper too. */
static int run_child(void (*fn)(enum jail_thread), enum jail_thread kind, char *text, size_t room) {
    int fds[2], status = 0;
    size_t len = 0;
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    outside = getpid();
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        fn(kind);
    }
    close(fds[1]);
    while ((n = read(fds[0], text + len, room - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = 0;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ------------------------------------------------------------------ tests */

static void nothing_that_nobody_declared_gets_to_the_kernel_on_any_thread(void **state) {
    static const char *const names[JAIL_THREADS] = {"main", "vcpu", "disk", "job", "aux"};
    static char text[20000];

    if (jail_impossible())
        return;
    for (unsigned kind = 0; kind < JAIL_THREADS; kind++) {
        int code = run_child(go_in_and_try, kind, text, sizeof(text));
        const char *said = strrchr(text, '\n'); /* after what is said about this host */

        said = said ? said + 1 : text;
        if (code != 0 || *said)
            fail_msg("%s: %d, not stopped: %s", names[kind], code, said);
    }
}

/* Before the filter: what Landlock holds, if the kernel has it. */
static void signal_from_inside(enum jail_thread kind) {
    static const struct jail_options o = {.request = request, .request_max = 1000};
    struct error e = {0};
    struct jail *j = jail_prepare(&o, &e);
    int status;
    pid_t child;

    if (!j)
        _exit(1);
    if (landlock_version() < LANDLOCK_HAS_SCOPES)
        _exit(77);
    jail_thread(JAIL_AUX); /* begins before the door */
    if (kill(outside, 0) == 0 || errno != EPERM)
        _exit(2);
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    if (kill(child, SIGKILL) < 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
        _exit(3);
    jail_leave(j);
    _exit(0);
}

static void without_a_filter_the_kernel_still_keeps_signals_in(void **state) {
    char text[2000];
    int code;

    if (jail_impossible())
        return;
    code = run_child(signal_from_inside, JAIL_MAIN, text, sizeof(text));
    if (code == 77) {
        print_message("this kernel has no scopes of signals\n");
        return;
    }
    assert_int_equal(code, 0);
}

/* And files, whatever opens them; what is open goes on. */
static void open_from_inside(enum jail_thread kind) {
    char path[] = "/tmp/viv-threads-XXXXXX";
    int fd = mkstemp(path), code = landlock_version() > 0 ? 0 : 77;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        _exit(1);
    confine_signals(true);
    if (!code && (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES))
        code = 2;
    if (!code && (open("/", O_RDONLY | O_DIRECTORY) >= 0 || errno != EACCES))
        code = 3;
    if (!code && (unlink(path) == 0 || errno != EACCES))
        code = 4;
    if (!code && (write(fd, "x", 1) != 1 || ftruncate(fd, 0) < 0 || fsync(fd) < 0 ||
                  fallocate(fd, 0, 0, 1) < 0 || fcntl(fd, F_OFD_SETLK, &lock) < 0))
        code = 5;
    _exit(code);
}

static void without_a_filter_the_kernel_still_keeps_files_away(void **state) {
    char text[2000];
    int code;

    if (jail_impossible())
        return;
    code = run_child(open_from_inside, JAIL_MAIN, text, sizeof(text));
    if (code == 77)
        print_message("this kernel has no Landlock\n");
    else
        assert_int_equal(code, 0);
}

static void look_for_processes(enum jail_thread kind) {
    static const struct jail_options o = {.request = request, .request_max = 1000};
    struct error e = {0};
    struct jail *j = jail_prepare(&o, &e);
    char path[60];
    int there, gone;

    if (!j || jail_enter(j, &e) < 0)
        _exit(1);
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)outside);
    there = open(path, O_RDONLY) >= 0 ? 0 : errno;
    gone = open("/proc/4194303/stat", O_RDONLY) >= 0 ? 0 : errno;
    if (!there || there != gone)
        _exit(2);
    if (access(path, F_OK) == 0 || errno != there)
        _exit(3);
    there = kill(outside, SIGKILL) == 0 ? 0 : errno;
    gone = kill(4194303, SIGKILL) == 0 ? 0 : errno;
    _exit(!there || there != gone ? 4 : kill(outside, 0) == 0 ? 5 : 0);
}

static void a_process_that_is_there_looks_like_one_that_is_not(void **state) {
    char text[8000];

    if (jail_impossible())
        return;
    assert_int_equal(run_child(look_for_processes, JAIL_MAIN, text, sizeof(text)), 0);
}

static void the_helper_may_do_less_than_the_process(void **state) {
    static struct filter helper, all;

    filter_make(&helper, filter_helper_kind(), false, false);
    filter_make(&all, filter_kinds(false), true, true);
    assert_in_range(helper.calls, 40, all.calls);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_that_nobody_declared_gets_to_the_kernel_on_any_thread),
        cmocka_unit_test(without_a_filter_the_kernel_still_keeps_signals_in),
        cmocka_unit_test(without_a_filter_the_kernel_still_keeps_files_away),
        cmocka_unit_test(a_process_that_is_there_looks_like_one_that_is_not),
        cmocka_unit_test(the_helper_may_do_less_than_the_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
