/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jail from inside: each case is a process of its own that goes in as viv-vm does and then does
 * what code would do that a guest had taken over.
 */
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <poll.h>
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/jail.h"
#include "jail/jail_internal.h"
#include "support/test.h"

enum { DONE = 0, REFUSED = 10, WENT_THROUGH = 20, NO_JAIL = 30 };

static char folder[] = "/tmp/test_jail.XXXXXX";
static char inside[64], other[64];
static pid_t parent;
static bool capable;  /* to drop what a program could get back */
static bool has_proc; /* not in a bare chroot */

static void request(const char *line, size_t len, jail_grant_fn *grant, void *opaque) {
    char path[200] = "";

    snprintf(path, sizeof(path), "%.*s", (int)len, line);
    grant(opaque, path, JAIL_READ | JAIL_WRITE);
}

static struct jail *go_in(unsigned more) {
    static const struct jail_options o = {.request = request, .request_max = 1000};
    struct error e = {0};
    struct jail *j = jail_prepare(&o, &e);

    jail_grant(j, inside, JAIL_READ | JAIL_WRITE | JAIL_FAMILY | more);
    if (!j || jail_enter(j, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        _exit(NO_JAIL);
    }
    return j;
}

/* The exit code of a process in the jail that does it, and what it said. */
static int in_jail(int (*fn)(void), unsigned more, char *text, size_t room) {
    int fds[2], status = 0;
    size_t len = 0;
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    parent = getpid();
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        go_in(more);
        _exit(fn());
    }
    close(fds[1]);
    while ((n = read(fds[0], text + len, room - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = 0;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int outcome(long r) {
    return r >= 0 ? WENT_THROUGH : errno == EACCES || errno == EPERM ? REFUSED : WENT_THROUGH;
}

/* ------------------------------------------------------------------ what is refused */

static int try_open(void) { return outcome(open("/etc/passwd", O_RDONLY)); }
static int try_open_beside(void) { return outcome(open(other, O_RDONLY)); }
static int try_make(void) { return outcome(open("/tmp/of_the_jail", O_WRONLY | O_CREAT, 0600)); }
static int try_self(void) {
    return outcome(open("/proc/self/mem", O_RDWR) >= 0 ? 0 : (errno = EPERM, -1));
}
static int try_unlink(void) { return outcome(unlink(other)); }
static int try_rename(void) { return outcome(rename(inside, other)); }
static int try_list(void) { return outcome(open("/", O_RDONLY | O_DIRECTORY)); }
static int try_internet(void) { return outcome(socket(AF_INET, SOCK_STREAM, 0)); }
static int try_raw(void) { return outcome(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)); }
static int try_netlink(void) { return outcome(socket(AF_NETLINK, SOCK_RAW, 0)); }
static int try_packet(void) { return outcome(socket(AF_PACKET, SOCK_RAW, 0)); }

static int try_unix(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/run/systemd/private"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    return fd < 0 ? REFUSED : outcome(connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

static int try_abstract(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0abstract"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    return fd < 0 ? REFUSED : outcome(connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

/* More than an address has, which the kernel would take. The helper is there afterwards. */
static int try_long_address(void) {
    struct sockaddr_storage a;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    memset(&a, 'a', sizeof(a));
    a.ss_family = AF_UNIX;
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno != EINVAL)
        return WENT_THROUGH;
    return open(inside, O_RDWR | O_CREAT | O_CLOEXEC, 0600) < 0 ? WENT_THROUGH : REFUSED;
}

static int try_like_named(void) {
    char path[100];

    snprintf(path, sizeof(path), "%s.qcow2", inside);
    return outcome(open(path, O_RDWR | O_CREAT, 0600));
}

/* The folder around what is written can be flushed, and not be read. */
static int try_siblings(void) {
    static char entries[4096];
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return has_proc ? WENT_THROUGH : REFUSED;
    return outcome(syscall(SYS_getdents64, fd, entries, sizeof(entries)));
}

static int try_kill_parent(void) { return outcome(kill(parent, SIGKILL)); }
static int try_kill_helper(void) { return outcome(kill(-1, SIGKILL)); }

static int try_ring(void) {
    struct io_uring_params p = {.flags = IORING_SETUP_SQPOLL};

    return outcome(syscall(SYS_io_uring_setup, 8, &p) >= 0 ? 0 : (errno = EPERM, -1));
}

static const struct {
    const char *name;
    int (*fn)(void);
} refused[] = {
    {"open of a file of the host", try_open},
    {"open of a file beside what was granted", try_open_beside},
    {"making a file", try_make},
    {"the process's own memory as a file", try_self},
    {"unlink", try_unlink},
    {"rename over another file", try_rename},
    {"the folder /", try_list},
    {"a socket of IPv4", try_internet},
    {"a raw socket", try_raw},
    {"a netlink socket", try_netlink},
    {"a packet socket", try_packet},
    {"connect to a unix socket", try_unix},
    {"connect to an abstract socket", try_abstract},
    {"connect with an address that is too long", try_long_address},
    {"a file whose name begins with that of a folder that was granted", try_like_named},
    {"the names of other files", try_siblings},
    {"kill of the parent", try_kill_parent},
    {"kill of everybody", try_kill_helper},
    {"io_uring with a thread of the kernel", try_ring},
};

/* ------------------------------------------------------------------ what ends the process */

static char stack[65536] __attribute__((aligned(16)));

static int nothing(void *opaque) { return 0; }

static void do_exec(void) { execl("/bin/true", "true", NULL); }
static void do_execveat(void) { syscall(SYS_execveat, AT_FDCWD, "/bin/true", NULL, NULL, 0); }
static void do_ptrace(void) { ptrace(PTRACE_ATTACH, parent, NULL, NULL); }
static void do_memory(void) { syscall(SYS_process_vm_readv, parent, NULL, 0, NULL, 0, 0); }
static void do_mount(void) { mount("x", "/tmp", "tmpfs", 0, NULL); }
static void do_umount(void) { umount2("/", MNT_DETACH); }
static void do_unshare(void) { unshare(CLONE_NEWUSER); }
static void do_setns(void) { setns(0, 0); }
static void do_chroot(void) { syscall(SYS_chroot, "/"); }
static void do_pivot(void) { syscall(SYS_pivot_root, ".", "."); }
static void do_bpf(void) { syscall(SYS_bpf, 0, NULL, 0); }
static void do_keyctl(void) { syscall(SYS_keyctl, 0, 0, 0, 0, 0); }
static void do_add_key(void) { syscall(SYS_add_key, "user", "x", "y", 1, -1); }
static void do_fault_fd(void) { syscall(SYS_userfaultfd, 0); }
static void do_perf(void) { syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0); }
static void do_module(void) { syscall(SYS_init_module, NULL, 0, ""); }
static void do_kexec(void) { syscall(SYS_kexec_load, 0, 0, NULL, 0); }
static void do_reboot(void) { syscall(SYS_reboot, 0, 0, 0, NULL); }
static void do_swap(void) { syscall(SYS_swapon, "/x", 0); }
static void do_time(void) { syscall(SYS_settimeofday, NULL, NULL); }
static void do_user(void) { syscall(SYS_setuid, 0); }
static void do_caps(void) { syscall(SYS_capset, NULL, NULL); }
static void do_personality(void) { syscall(SYS_personality, 0x0400000); }
static void do_tgkill(void) { syscall(SYS_tgkill, parent, parent, SIGKILL); }
static void do_pidfd(void) { syscall(SYS_pidfd_open, parent, 0); }
static void do_openat2(void) { syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0); }
static void do_handle(void) { syscall(SYS_open_by_handle_at, 0, NULL, 0); }
static void do_limit(void) { setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); }
static void do_terminal(void) { ioctl(STDERR_FILENO, TIOCSTI, "x"); }
static void do_shm(void) { syscall(SYS_shmget, 1, 4096, 0600); }
static void do_queue(void) { syscall(SYS_msgget, 1, 0600); }
static void do_fanotify(void) { syscall(SYS_fanotify_init, 0, 0); }
static void do_chmod(void) { syscall(SYS_chmod, "/tmp", 0777); }
static void do_mknod(void) { syscall(SYS_mknod, "/tmp/x", S_IFCHR | 0600, 0x101); }
static void do_symlink(void) { syscall(SYS_symlink, "/", "/tmp/x"); }
static void do_ldt(void) { syscall(SYS_modify_ldt, 0, NULL, 0); }
static void do_namespace(void) {
    clone(nothing, stack + sizeof(stack), CLONE_NEWUSER | SIGCHLD, NULL);
}

static void do_code(void) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static void do_code_later(void) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static void do_map_code(void) {
    mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* The other numbers for the same calls: 0x40000000 and more (x32). */
static void do_x32(void) { syscall(0x40000000 | SYS_getpid); }

static const struct {
    const char *name; /* of the call, as the sentence has it */
    void (*fn)(void);
} ends[] = {
    {"execve", do_exec},
    {"execveat", do_execveat},
    {"ptrace", do_ptrace},
    {"process_vm_readv", do_memory},
    {"mount", do_mount},
    {"umount2", do_umount},
    {"unshare", do_unshare},
    {"setns", do_setns},
    {"chroot", do_chroot},
    {"pivot_root", do_pivot},
    {"bpf", do_bpf},
    {"keyctl", do_keyctl},
    {"add_key", do_add_key},
    {"userfaultfd", do_fault_fd},
    {"perf_event_open", do_perf},
    {"init_module", do_module},
    {"kexec_load", do_kexec},
    {"reboot", do_reboot},
    {"swapon", do_swap},
    {"settimeofday", do_time},
    {"setuid", do_user},
    {"capset", do_caps},
    {"personality", do_personality},
    {"tgkill", do_tgkill},
    {"pidfd_open", do_pidfd},
    {"openat2", do_openat2},
    {"open_by_handle_at", do_handle},
    {"prlimit64", do_limit},
    {"ioctl", do_terminal},
    {"shmget", do_shm},
    {"msgget", do_queue},
    {"fanotify_init", do_fanotify},
    {"chmod", do_chmod},
    {"mknod", do_mknod},
    {"symlink", do_symlink},
    {"modify_ldt", do_ldt},
    {"clone", do_namespace},
    {"mprotect", do_code},
    {"mprotect", do_code_later},
    {"mmap", do_map_code},
    {"unknown", do_x32},
};

/* ------------------------------------------------------------------ tests */

static bool impossible(void) {
    if (!jail_impossible())
        return false;
    print_message("no jail: %s\n", jail_impossible());
    return true;
}

static void what_was_not_granted_is_refused(void **state) {
    char text[2000];

    if (impossible())
        return;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        int code = in_jail(refused[i].fn, 0, text, sizeof(text));

        if (code != REFUSED)
            fail_msg("%s: %d: %s", refused[i].name, code, text);
    }
}

static void (*attempt)(void);

static int do_attempt(void) {
    attempt();
    return WENT_THROUGH;
}

static void a_call_that_nobody_declared_ends_the_process_with_its_name(void **state) {
    char text[2000], wanted[100];

    if (impossible())
        return;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        int code;

        attempt = ends[i].fn;
        code = in_jail(do_attempt, 0, text, sizeof(text));
        snprintf(wanted, sizeof(wanted), "the system call '%s'", ends[i].name);
        if (code != 1 || !strstr(text, wanted))
            fail_msg("%s: %d: %s", ends[i].name, code, text);
    }
}

static int use_files(void) {
    char path[100], text[8] = "", self[40];
    struct stat st;
    int fd, at;

    fd = open(inside, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "jail", 4) != 4 || pread(fd, text, 4, 0) != 4 || strcmp(text, "jail"))
        return 1;
    if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC) || stat(inside, &st) < 0 || st.st_size != 4)
        return 2;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    at = open(self, O_RDONLY);
    if (has_proc && (at < 0 || close(at) < 0))
        return 3;
    snprintf(path, sizeof(path), "%s.part", inside);
    if (mkdir(path, 0700) < 0 || (at = open(path, O_RDONLY | O_DIRECTORY)) < 0)
        return 4;
    if ((fd = openat(at, "x", O_WRONLY | O_CREAT | O_EXCL, 0600)) < 0 || close(fd) < 0)
        return 5;
    if (openat(at, "../../../etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
        return 6;
    if (renameat(at, "x", at, "y") < 0 || unlinkat(at, "y", 0) < 0 || rmdir(path) < 0)
        return 7;
    if (unlink(inside) < 0 || !getcwd(path, sizeof(path)) || *path != '/')
        return 8;
    if (access(inside, F_OK) == 0 || errno != ENOENT)
        return 9;
    return DONE;
}

/* The rest of what the helper does with names. */
static int use_names(void) {
    char path[100], text[100];
    struct statx x;
    struct stat st;
    int fd = open(inside, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    snprintf(path, sizeof(path), "%s.1.new", inside);
    if (fd < 0 || close(fd) < 0 || link(inside, path) < 0)
        return 1;
    if (lstat(path, &st) < 0 || st.st_nlink != 2 || !S_ISREG(st.st_mode))
        return 2;
    if (statx(AT_FDCWD, path, 0, STATX_SIZE, &x) < 0 || x.stx_nlink != 2)
        return 3;
    if (readlink(path, text, sizeof(text)) >= 0 || errno != EINVAL)
        return 4;
    if (syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, inside, 1 /* no replacing */) == 0 ||
        errno != EEXIST)
        return 5;
    if (rename(path, inside) < 0 /* two names of one file: nothing happens */)
        return 6;
    return unlink(inside) < 0 || unlink(path) < 0 ? 7 : DONE;
}

/* What is made is no program of the helper's user, and is called otherwise while it is written. */
static int use_new_files(void) {
    static char entries[4096];
    static const char *const names[] = {"%s.part", "%s.77.new", "%s"};
    char path[100];
    struct stat st;
    int fd;

    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), names[i], inside);
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 06777);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_mode & 07111 || close(fd) < 0 || unlink(path) < 0)
            return 1;
    }
    if (mkdir(inside, 0700) < 0 || (fd = open(inside, O_RDONLY | O_DIRECTORY)) < 0)
        return 2;
    if (has_proc && syscall(SYS_getdents64, fd, entries, sizeof(entries)) <= 0)
        return 3;
    return rmdir(inside) < 0 ? 4 : DONE;
}

static void *in_thread(void *opaque) {
    jail_thread(JAIL_VCPU);
    return opaque;
}

static int use_threads(void) {
    pthread_t t;
    void *r = NULL;
    int status, x;
    pid_t pid;

    if (pthread_create(&t, NULL, in_thread, &x) != 0 || pthread_join(t, &r) != 0 || r != &x)
        return 1;
    pid = fork();
    if (pid == 0) {
        jail_forked();
        _exit(use_files());
    }
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status))
        return 2;
    pid = fork();
    if (pid == 0) {
        poll(NULL, 0, 20000);
        _exit(0);
    }
    if (has_proc && kill(pid, SIGKILL) < 0)
        return 4;
    if (has_proc && (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)))
        return 3;
    return DONE;
}

static int use_internet(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int out = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), in;

    if (fd < 0 || out < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0)
        return 1;
    if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
        return 2;
    if (connect(out, (struct sockaddr *)&a, sizeof(a)) < 0 && errno != EINPROGRESS)
        return 3;
    in = accept(fd, NULL, NULL);
    if (in < 0 || send(in, "x", 1, 0) != 1)
        return 4;
    if (socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0 || errno != EACCES)
        return 5;
    return DONE;
}

static int use_ring(void) {
    struct io_uring_params p = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 8, &p), event = 2;

    if (fd < 0)
        return errno == ENOSYS || errno == EPERM ? DONE : 1; /* this host has none */
    if (!p.sq_entries || p.flags)
        return 2;
    if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_EVENTFD, &event, 1) == 0)
        return 3; /* that is no eventfd: it was looked at */
    return DONE;
}

/* What a request of the ring comes to; no filter sees it. */
static int ring_result(int fd, const struct io_uring_params *p, uint8_t *sq, uint8_t *cq,
                       struct io_uring_sqe *sqe, unsigned op) {
    uint32_t *tail = (uint32_t *)(sq + p->sq_off.tail), *head = (uint32_t *)(cq + p->cq_off.head);
    const struct io_uring_cqe *cqe = (const void *)(cq + p->cq_off.cqes);

    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = (uint8_t)op;
    sqe->fd = -1;
    ((uint32_t *)(sq + p->sq_off.array))[*tail & (p->sq_entries - 1)] = 0;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
        return 1;
    cqe += *head & (p->cq_entries - 1);
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return cqe->res;
}

static int use_ring_for_more(void) {
    static const uint8_t transfers[] = {IORING_OP_NOP,         IORING_OP_READV, IORING_OP_WRITEV,
                                        IORING_OP_READ,        IORING_OP_WRITE, IORING_OP_FSYNC,
                                        IORING_OP_ASYNC_CANCEL};
    const int both = PROT_READ | PROT_WRITE;
    struct io_uring_params p = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 8, &p);
    void *sq, *cq, *sqe;
    unsigned refused_ones = 0;

    if (fd < 0)
        return errno == ENOSYS || errno == EPERM ? DONE : 1;
    sq = mmap(NULL, 65536, both, MAP_SHARED, fd, IORING_OFF_SQ_RING);
    cq = mmap(NULL, 65536, both, MAP_SHARED, fd, IORING_OFF_CQ_RING);
    sqe = mmap(NULL, 4096, both, MAP_SHARED, fd, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
        return 2;
    for (unsigned op = 0; op < 255; op++) {
        int r = ring_result(fd, &p, sq, cq, sqe, op);

        refused_ones += r == -EACCES;
        /* One that this kernel does not know is no way out either. */
        if (!memchr(transfers, (int)op, sizeof(transfers)) && r != -EACCES && r != -EINVAL)
            return 3;
    }
    return refused_ones > 20 ? DONE : 4;
}

static void what_was_granted_works(void **state) {
    static const struct {
        int (*fn)(void);
        unsigned more;
    } uses[] = {{use_files, 0},
                {use_names, 0},
                {use_new_files, 0},
                {use_threads, 0},
                {use_internet, JAIL_INTERNET},
                {use_ring, 0},
                {use_ring_for_more, 0}};
    char text[2000];

    if (impossible())
        return;
    for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
        int code = in_jail(uses[i].fn, uses[i].more, text, sizeof(text));

        if (code != DONE)
            fail_msg("%zu: %d: %s", i, code, text);
    }
}

static int in_vcpu(void) {
    jail_thread(JAIL_VCPU);
    fork();
    return WENT_THROUGH;
}

static void a_processor_thread_may_do_less_than_the_main_thread(void **state) {
    char text[2000];

    if (impossible())
        return;
    assert_int_equal(in_jail(in_vcpu, 0, text, sizeof(text)), 1);
    assert_non_null(strstr(text, "'clone'"));
}

static int look_at_self(void) {
    char text[4096] = "";
    int fd = open("/proc/self/status", O_RDONLY);

    struct rlimit processes;

    if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
        return 1;
    if (capable && (getrlimit(RLIMIT_NPROC, &processes) < 0 || processes.rlim_max > 4096))
        return 5;
    if (!strstr(text, "CapEff:\t0000000000000000") || !strstr(text, "CapPrm:\t0000000000000000"))
        return 2;
    if (capable && !strstr(text, "CapBnd:\t0000000000000000"))
        return 4;
    return strstr(text, "NoNewPrivs:\t1") && strstr(text, "Seccomp:\t2") && geteuid() ? DONE : 3;
}

static void there_are_no_capabilities_and_the_user_is_not_root(void **state) {
    char text[2000];

    if (impossible() || !has_proc)
        return;
    assert_int_equal(in_jail(look_at_self, 0, text, sizeof(text)), DONE);
}

/* A client of the control socket names a file, and from then on it can be opened. */
static int serve_client(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct error e = {0};
    static const struct jail_options o = {.request = request, .request_max = 1000};
    struct jail *j = jail_prepare(&o, &e);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    char line[200] = "";
    size_t got = 0;
    ssize_t n;
    int from, fd, served;

    snprintf(a.sun_path, sizeof(a.sun_path), "%s/control", folder);
    if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 5) < 0 ||
        connect(client, (struct sockaddr *)&a, sizeof(a)) < 0)
        return 1;
    from = jail_give_listener(j, listener);
    if (jail_enter(j, &e) < 0)
        return NO_JAIL;
    if (open(other, O_RDONLY) >= 0 || errno != EACCES)
        return 2;
    if (poll(&(struct pollfd){from, POLLIN, 0}, 1, -1) != 1 || (served = jail_accept(from)) < 0)
        return 3;
    dprintf(client, "%s\nx", other);
    while (got < strlen(other) + 1 && poll(&(struct pollfd){served, POLLIN, 0}, 1, -1) == 1 &&
           (n = read(served, line + got, sizeof(line) - 1 - got)) > 0)
        got += (size_t)n;
    fd = open(other, O_RDONLY);
    if (strncmp(line, other, strlen(other)) != 0 || fd < 0)
        return 4;
    dprintf(served, "last words");
    close(served);
    jail_leave(j);
    if (recv(client, line, 10, MSG_WAITALL) != 10 || memcmp(line, "last words", 10) != 0)
        return 5;
    return recv(client, line, 1, 0) == 0 ? DONE : 6;
}

static void a_client_of_the_control_socket_grants_what_it_names(void **state) {
    int status;
    pid_t pid;

    if (impossible())
        return;
    pid = fork();
    if (pid == 0)
        _exit(serve_client());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), DONE);
}

static void filters_have_room_and_threads_fewer_calls_than_the_process(void **state) {
    static struct filter all, one;

    filter_make(&all, filter_kinds(false), true, true);
    assert_in_range(all.len, 100, FILTER_MAX - 1);
    for (unsigned kind = JAIL_VCPU; kind < JAIL_THREADS; kind++) {
        filter_make(&one, 1u << kind, false, true);
        assert_in_range(one.calls, 20, all.calls - 10);
    }
    filter_make(&one, filter_kinds(true), true, true);
    assert_in_range(one.len, 100, FILTER_MAX - 1);
}

static int make_folder(void **state) {
    int fd;

    capable = geteuid() == 0;
    has_proc = access("/proc/self/status", R_OK) == 0;
    if (!mkdtemp(folder))
        return -1;
    snprintf(inside, sizeof(inside), "%s/in", folder);
    snprintf(other, sizeof(other), "%s/other", folder);
    fd = open(other, O_WRONLY | O_CREAT, 0600);
    return fd < 0 ? -1 : close(fd);
}

static int remove_folder(void **state) {
    char path[100];

    snprintf(path, sizeof(path), "%s/control", folder);
    unlink(path);
    unlink(inside);
    unlink(other);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_not_granted_is_refused),
        cmocka_unit_test(a_call_that_nobody_declared_ends_the_process_with_its_name),
        cmocka_unit_test(what_was_granted_works),
        cmocka_unit_test(a_processor_thread_may_do_less_than_the_main_thread),
        cmocka_unit_test(there_are_no_capabilities_and_the_user_is_not_root),
        cmocka_unit_test(a_client_of_the_control_socket_grants_what_it_names),
        cmocka_unit_test(filters_have_room_and_threads_fewer_calls_than_the_process),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
