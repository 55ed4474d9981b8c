/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The jail of a shared folder's server, from inside: a server that does its work, and then tries
 * what code would that a guest had brought into it. */
#include "jail/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jail.h"
#include "share/fuse_client.h"
#include "share/server.h"
#include "support/test.h"

static char base[40], folder[60], outside[60];
static struct fuse_client c;

struct seen { /* by the server, for the test */
    char went_through[2000];
    char missing[SHARE_SAID];
    bool tried, rooted;
};
static struct seen *seen;
static volatile int stopped;
static int folder_fd;

static void on_stopped(int signo, siginfo_t *info, void *context) { stopped = info->si_syscall; }

/* Stopped by the filter, or refused by the kernel. */
static void check(const char *what, long r) {
    bool refused =
        r < 0 && (errno == EACCES || errno == EPERM || errno == ENOENT || errno == EXDEV);

    if (!stopped && !refused) {
        size_t n = strlen(seen->went_through);

        snprintf(seen->went_through + n, sizeof(seen->went_through) - n, "%s, ", what);
    }
    stopped = 0;
}

static void attack(char *missing, size_t room) {
    struct sigaction act = {.sa_sigaction = on_stopped, .sa_flags = SA_SIGINFO};
    char path[80];

    jail_folder_calls(missing, room);
    snprintf(seen->missing, sizeof(seen->missing), "%s", missing);
    sigaction(SIGSYS, &act, NULL);
    check("exec", execl("/bin/true", "true", NULL));
    check("socket", socket(AF_INET, SOCK_STREAM, 0));
    check("a socket of unix", socket(AF_UNIX, SOCK_STREAM, 0));
    check("kill", kill(getppid(), 0));
    check("kill of itself by number", syscall(SYS_tgkill, getppid(), getppid(), 0));
    check("pidfd_open", syscall(SYS_pidfd_open, getppid(), 0));
    check("ptrace", syscall(SYS_ptrace, 16, getppid(), 0, 0));
    check("process_vm_readv", syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
    check("fork", syscall(SYS_fork));
    check("clone", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    check("unshare", unshare(CLONE_NEWUSER));
    check("setns", setns(0, 0));
    check("mount", syscall(SYS_mount, "x", "/", "tmpfs", 0, NULL));
    check("umount", syscall(SYS_umount2, "/", 2));
    check("pivot_root", syscall(SYS_pivot_root, ".", "."));
    check("chroot", syscall(SYS_chroot, "."));
    check("bpf", syscall(SYS_bpf, 0, NULL, 0));
    check("io_uring_setup", syscall(SYS_io_uring_setup, 8, NULL));
    check("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, NULL, 0));
    check("openat2", syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0));
    check("executable memory", mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
                                   ? -1
                                   : 0);
    check("setuid", syscall(SYS_setuid, 0));
    check("userfaultfd", syscall(SYS_userfaultfd, 0));
    check("keyctl", syscall(SYS_keyctl, 0));
    check("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    check("a device", mknodat(folder_fd, "device", S_IFCHR | 0600, 0x103));
    /* Names. */
    check("open of /etc/passwd", openat(AT_FDCWD, "/etc/passwd", O_RDONLY));
    check("open of what is outside", openat(AT_FDCWD, outside, O_RDONLY));
    check("open above the folder", openat(folder_fd, "../outside", O_RDONLY));
    check("open of the folder above",
          openat(folder_fd, "..", O_RDONLY | O_DIRECTORY) >= 0 && !seen->rooted
              ? 0
              : (errno = EACCES, -1));
    check("truncation outside", openat(AT_FDCWD, outside, O_WRONLY | O_TRUNC));
    snprintf(path, sizeof(path), "%s/made", base);
    check("a file outside", openat(AT_FDCWD, path, O_WRONLY | O_CREAT, 0600));
    check("a folder outside", mkdirat(AT_FDCWD, path, 0700));
    check("a link outside", symlinkat("x", AT_FDCWD, path));
    check("a file moved outside", renameat(folder_fd, "file", AT_FDCWD, path));
    check("a second name outside", linkat(folder_fd, "file", AT_FDCWD, path, 0));
    check("a name inside of what is outside", linkat(AT_FDCWD, outside, folder_fd, "stolen", 0));
    check("removal outside", unlinkat(AT_FDCWD, outside, 0));
    if (seen->rooted) {
        check("a mode outside", fchmodat(AT_FDCWD, outside, 04755, 0));
        check("times outside", utimensat(AT_FDCWD, outside, NULL, 0));
    }
    seen->tried = true;
}

static bool root_and_note(const char *path) {
    seen->rooted = jail_folder_root(path);
    return seen->rooted;
}

static void rights_and_note(int fd, bool readonly, char *missing, size_t room) {
    folder_fd = openat(fd, ".", O_PATH | O_CLOEXEC);
    jail_folder_rights(fd, readonly, missing, room);
}

static void put_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int make(void **state) {
    char path[80];

    snprintf(base, sizeof(base), "/tmp/viv-folder-XXXXXX");
    assert_non_null(mkdtemp(base));
    snprintf(folder, sizeof(folder), "%s/inside", base);
    snprintf(outside, sizeof(outside), "%s/outside", base);
    assert_int_equal(mkdir(folder, 0755), 0);
    put_file(outside, "secret");
    snprintf(path, sizeof(path), "%s/file", folder);
    put_file(path, "text");
    return 0;
}

static int drop(void **state) {
    char command[100];

    snprintf(command, sizeof(command), "rm -r %s", base);
    return system(command) ? -1 : 0;
}

static void a_server_reaches_its_folder_and_nothing_else(void **state) {
    static const struct share_confine confine = {root_and_note, rights_and_note, attack};
    struct share_options o = {.path = folder};
    struct error err = {0};
    struct share_server *s;
    struct stat st;
    uint64_t node, fh;

    if (jail_impossible())
        return;
    seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(seen != MAP_FAILED);
    s = share_server_start(&o, &confine, &err);
    if (!s)
        fail_msg("%s", err.text);
    o.server = s;
    assert_true(seen->tried);
    if (*seen->missing)
        print_message("not here: %s\n", seen->missing);
    else if (*seen->went_through)
        fail_msg("went through: %s", seen->went_through);
    c.share = share_open(NULL, &o, &err);
    assert_int_equal(fuse_hello(&c), 0);
    assert_int_equal(fuse_open(&c, fuse_walk(&c, "file"), O_RDWR, &fh), 0);
    assert_int_equal(fuse_read(&c, fh, 0, 100), 4);
    assert_int_equal(fuse_write(&c, fh, 0, "TEXT", 4), 4);
    assert_int_equal(fuse_release(&c, fh), 0);
    assert_int_equal(fuse_create(&c, FUSE_ROOT_ID, "new", O_RDWR, 0640, &node, &fh), 0);
    assert_int_equal(fuse_release(&c, fh), 0);
    assert_int_equal(fuse_mkdir(&c, FUSE_ROOT_ID, "d", 0755, &node), 0);
    assert_int_equal(fuse_rename(&c, FUSE_ROOT_ID, "new", node, "moved", 0), 0);
    assert_int_equal(stat(outside, &st), 0);
    assert_int_equal(st.st_size, 6);
    assert_int_equal(st.st_mode & 07777, 0644);
    share_close(c.share);
    share_server_stop(s);
}

static void a_server_of_a_folder_to_read_can_write_nothing(void **state) {
    static const struct share_confine confine = {jail_folder_root, jail_folder_rights,
                                                 jail_folder_calls};
    struct share_options o = {.path = folder, .readonly = true};
    struct error err = {0};
    struct share_server *s;
    uint64_t fh;

    if (jail_impossible())
        return;
    s = share_server_start(&o, &confine, &err);
    if (!s)
        fail_msg("%s", err.text);
    o.server = s;
    c.share = share_open(NULL, &o, &err);
    assert_int_equal(fuse_hello(&c), 0);
    assert_int_equal(fuse_open(&c, fuse_walk(&c, "file"), O_RDONLY, &fh), 0);
    assert_int_equal(fuse_read(&c, fh, 0, 100), 4);
    assert_int_equal(fuse_open(&c, fuse_walk(&c, "file"), O_RDWR, &fh), -EROFS);
    share_close(c.share);
    share_server_stop(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_server_reaches_its_folder_and_nothing_else, make, drop),
        cmocka_unit_test_setup_teardown(a_server_of_a_folder_to_read_can_write_nothing, make, drop),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
