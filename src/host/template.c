/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making a template: the helper guest, and the disk. */
#include "host/template.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/write.h"
#include "block/chain.h"
#include "host/identity.h"
#include "host/image_known.h"
#include "host/tree.h"
#include "proto/place.h"

#define WORK    "disk.work.qcow2"
#define SCRIPT  "identity.raw"
#define CONSOLE "console.log"

enum {
    SECTOR = 512,
    LOOK_NS = 50 * 1000 * 1000,
    PATIENCE_S = 600, /* a busy host boots slowly */
    QUIT_LOOKS = 200, /* 10 s */
    SAID = 64 * 1024,
    WORDS = 24
};

static char serial_file[] = "file:" CONSOLE;
static char script_disk[] = SCRIPT ",format=raw,readonly";

static bool stopped(const struct template *t) {
    return __atomic_load_n(t->progress.stop, __ATOMIC_RELAXED);
}

static void set_stage(struct template *t, const char *stage) {
    __atomic_store_n(&t->stage, stage, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------ the helper guest */

/* As a disk, so that /bin/sh reads it from the device: lines, and empty ones up to a sector. */
static int write_script(int folder, struct error *err) {
    size_t n = strlen(identity_take), pad = (SECTOR - n % SECTOR) % SECTOR;
    char lines[SECTOR];
    int fd = openat(folder, SCRIPT, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), r;

    memset(lines, '\n', sizeof(lines));
    r = fd < 0 ? -errno : write_all(fd, identity_take, n);
    if (r == 0)
        r = write_all(fd, lines, pad);
    if (fd >= 0)
        close(fd);
    return r < 0 ? error_set(err, r, "the template's folder cannot be written: %s", strerror(-r))
                 : 0;
}

static void become(char *const argv[], int folder, pid_t parent) {
    sigset_t none;
    int null;

    sigemptyset(&none);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    null = open("/dev/null", O_RDWR);
    if (getppid() == parent && fchdir(folder) == 0 && null >= 0 && dup2(null, 0) == 0 &&
        dup2(null, 1) == 1) {
        int log = open("log", O_WRONLY | O_CREAT | O_TRUNC, 0600);

        if (log >= 0 && dup2(log, 2) == 2)
            execv(argv[0], argv);
    }
    _exit(127);
}

static pid_t start_helper(const struct template *t, int folder, struct error *err) {
    const char *given = getenv("VIV_VM");
    char program[PATH_MAX], append[sizeof(t->append) + 100], disk[PATH_MAX + 100];
    char *argv[WORDS] = {program,     "--name",      "template",  "--memory",
                         "512M",      "--nic",       "none",      "--disk",
                         disk,        "--disk",      script_disk, "--serial",
                         serial_file, "--no-reboot", "--kernel",  (char *)t->from.kernel,
                         "--append",  append};
    pid_t parent = getpid(), pid;

    snprintf(disk, sizeof(disk), WORK ",format=qcow2,backing=%s", layers_base(&t->from));
    snprintf(append, sizeof(append), "%s console=ttyS0 init=/bin/sh -- /dev/vdb", t->append);
    if (*t->from.initrd) {
        argv[18] = "--initrd";
        argv[19] = (char *)t->from.initrd;
    }
    if (given && *given)
        snprintf(program, sizeof(program), "%s", given);
    else
        place_program("viv-vm", program);
    pid = fork();
    if (pid == 0)
        become(argv, folder, parent);
    return pid < 0
               ? error_set(err, -errno, "the helper guest cannot be started: %s", strerror(errno))
               : pid;
}

/* What the console has shown so far. */
static void read_console(int folder, char out[SAID]) {
    int fd = openat(folder, CONSOLE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, SAID - 1);

    for (ssize_t i = 0; i < n; i++)
        if (!out[i])
            out[i] = ' ';
    out[n > 0 ? n : 0] = 0;
    if (fd >= 0)
        close(fd);
}

/* The last line that says something, without what a terminal would obey. */
static void last_line(char *said, char *out, size_t size) {
    size_t n = strlen(said);
    const char *line;

    while (n && (unsigned char)said[n - 1] <= ' ')
        said[--n] = 0;
    line = strrchr(said, '\n');
    snprintf(out, size, "%s", line ? line + 1 : said);
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

/* 1: it has done what it should. */
static int look(const struct template *t, int folder, char *said, struct error *err) {
    const char *failed;

    read_console(folder, said);
    if (strstr(said, IDENTITY_TAKEN))
        return 1;
    failed = strstr(said, "vivarium: failed: ");
    if (failed)
        return error_set(err, -EIO, "the identity cannot be taken away: %.*s",
                         (int)strcspn(failed + 18, "\r\n"), failed + 18);
    return stopped(t) ? error_set(err, -ECANCELED, "it was cancelled") : 0;
}

static bool wait_end(pid_t pid, unsigned looks) {
    static const struct timespec nap = {.tv_nsec = LOOK_NS};

    for (unsigned i = 0; i < looks; i++) {
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return true;
        nanosleep(&nap, NULL);
    }
    return false;
}

static int tend_helper(const struct template *t, int folder, pid_t pid, struct error *err) {
    char *said = calloc(1, SAID), line[200];
    bool ended = false;
    int r = said ? 0 : -ENOMEM;

    for (int i = 0; r == 0 && !ended && i < PATIENCE_S * 20; i++) {
        ended = wait_end(pid, 1);
        r = look(t, folder, said, err);
    }
    if (!ended) {
        kill(pid, SIGINT); /* which closes its disk in order */
        if (!wait_end(pid, QUIT_LOOKS)) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            r = r == 1 ? error_set(err, -EIO, "the helper guest did not end") : r;
        }
    }
    if (r == 0) {
        last_line(said, line, sizeof(line));
        r = error_set(err, -EIO,
                      "the helper guest that takes the identity away %s; it said last: %s. A guest "
                      "without /bin/sh on its disk is captured as it is with --generalize=false",
                      ended ? "ended too early" : "did not come to an end", line);
    }
    free(said);
    return r == 1 ? 0 : r;
}

static int take_identity(struct template *t, int folder, struct error *err) {
    pid_t pid;
    int r = layers_make_on_top(t->folder, t->frozen, WORK, err);

    if (r == 0)
        r = write_script(folder, err);
    if (r < 0)
        return r;
    set_stage(t, "taking the identity away");
    unlinkat(folder, CONSOLE, 0);
    pid = start_helper(t, folder, err);
    r = pid < 0 ? (int)pid : tend_helper(t, folder, pid, err);
    unlinkat(folder, SCRIPT, 0);
    unlinkat(folder, CONSOLE, 0);
    unlinkat(folder, "log", 0);
    return r;
}

/* ------------------------------------------------------------------ the image */

static int copy_files(const struct template *t, int folder, struct error *err) {
    char key[PATH_MAX + 20];
    int64_t done = 0;
    int r = access(t->vars, F_OK) == 0
                ? tree_copy(t->vars, folder, UEFI_VARS, &done, t->progress.stop, err)
                : 0;

    if (r < 0 || !*t->from.kernel)
        return r;
    if (!t->firmware)
        r = tree_copy(t->from.kernel, folder, image_file_names[IMAGE_KERNEL], &done,
                      t->progress.stop, err);
    if (r == 0 && *t->from.initrd && !t->firmware)
        r = tree_copy(t->from.initrd, folder, image_file_names[IMAGE_INITRD], &done,
                      t->progress.stop, err);
    /* The key that its users' machines accept lies beside the kernel. */
    snprintf(key, sizeof(key), "%.*s%s", (int)(strrchr(t->from.kernel, '/') + 1 - t->from.kernel),
             t->from.kernel, image_file_names[IMAGE_KEY]);
    if (r == 0 && access(key, F_OK) == 0)
        r = tree_copy(key, folder, image_file_names[IMAGE_KEY], &done, t->progress.stop, err);
    return r;
}

static int make(struct template *t, int folder, struct error *err) {
    const struct layers_copy c = {t->generalize ? WORK : t->frozen, layers_base(&t->from),
                                  image_file_names[IMAGE_DISK], "raw"};
    /* A manager that was ended just before it was told has left all of it. */
    bool whole = faccessat(folder, image_file_names[IMAGE_DISK], F_OK, 0) == 0;
    int r = whole ? 0 : copy_files(t, folder, err);

    if (r == 0 && t->generalize && !whole)
        r = take_identity(t, folder, err);
    if (r < 0)
        return r;
    set_stage(t, "copying");
    r = layers_flatten(t->folder, &c, &t->progress, err);
    if (r < 0)
        return r;
    layers_remove_others(t->folder, image_file_names[IMAGE_DISK]);
    return fsync(folder) < 0 ? error_set(err, -errno, "the template's folder cannot be written: %s",
                                         strerror(errno))
                             : 0;
}

int template_make(struct template *t, struct error *err) {
    int folder = open(t->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

    if (folder < 0)
        return error_set(err, -errno, "the template's folder '%s': %s", t->folder, strerror(errno));
    r = make(t, folder, err);
    close(folder);
    return r;
}
