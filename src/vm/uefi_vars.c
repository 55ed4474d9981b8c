/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file with the variables of UEFI firmware. */
#include "vm/uefi_vars.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/write.h"
#include "devices/pflash.h"

/*
 * Calls (aux): fdatasync
 */

enum { VOLUME_LENGTH = 32, VOLUME_SIGNATURE = 40, VOLUME_HEADER = 48, SETTLE_US = 20000 };

struct uefi_vars {
    char path[PATH_MAX];
    int fd; /* -1: kept nowhere */
    uint8_t *data;
    uint32_t size;
    bool failed;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool dirty, over, has_thread;
};

/* ---- reading ---- */

/* UEFI platform initialization specification, vol. 3, 3.2.1: the header of a firmware volume. */
static int check(const struct uefi_vars *v, uint64_t rom_size, struct error *err) {
    uint64_t both = v->size + rom_size;

    if (v->size < VOLUME_HEADER || memcmp(v->data + VOLUME_SIGNATURE, "_FVH", 4) != 0 ||
        load_le64(v->data + VOLUME_LENGTH) > v->size)
        return error_set(err, -EINVAL,
                         "'%s' holds no variables of UEFI firmware: give a copy of a file such as "
                         "/usr/share/OVMF/OVMF_VARS_4M.fd, or a name that does not exist yet",
                         v->path);
    if (both & (both - 1))
        return error_set(err, -EINVAL,
                         "the variables '%s' (%u KiB) and the firmware (%llu KiB) are not of the "
                         "same build: take the files of one package, both with 4M in their names "
                         "or both without",
                         v->path, v->size >> 10, (unsigned long long)rom_size >> 10);
    return 0;
}

static int read_all(struct uefi_vars *v, int fd, struct error *err) {
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0 ||
        st.st_size > PFLASH_MAX_SIZE || st.st_size % PFLASH_BLOCK)
        return error_set(err, -EINVAL,
                         "'%s' holds no variables of UEFI firmware: it is not a file of a multiple "
                         "of 4096 bytes, at most 1 MiB",
                         v->path);
    v->size = (uint32_t)st.st_size;
    v->data = malloc(v->size);
    if (!v->data)
        return error_set(err, -ENOMEM, "'%s': out of memory", v->path);
    for (uint32_t got = 0; got < v->size;) {
        ssize_t n = pread(fd, v->data + got, v->size - got, got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, n ? -errno : -EIO, "'%s' cannot be read: %s", v->path,
                             n ? strerror(errno) : "it became shorter meanwhile");
        got += (uint32_t)n;
    }
    return 0;
}

/* Beside OVMF_CODE_4M.fd there is OVMF_VARS_4M.fd. */
static bool find_template(const char *rom, char *ret) {
    const char *name = strrchr(rom, '/'), *word = strstr(name ? name : rom, "CODE");
    char *build;

    if (!word || strlen(rom) >= PATH_MAX)
        return false;
    snprintf(ret, PATH_MAX, "%s", rom);
    memcpy(ret + (word - rom), "VARS", 4);
    if (access(ret, R_OK) == 0)
        return true;
    /* Builds that differ in their code only share the variables. */
    build = strstr(ret + (word - rom), ".secboot");
    if (!build)
        return false;
    memmove(build, build + strlen(".secboot"), strlen(build + strlen(".secboot")) + 1);
    return access(ret, R_OK) == 0;
}

static int read_template(struct uefi_vars *v, const char *rom, struct error *err) {
    char wanted[PATH_MAX], path[PATH_MAX];
    int fd, r;

    snprintf(wanted, sizeof(wanted), "%s", v->path);
    if (!find_template(rom, path))
        return error_set(err, -ENOENT,
                         "'%s' does not exist, and there is no file to make it from beside the "
                         "firmware '%s': copy the empty variables of that firmware there",
                         wanted, rom);
    snprintf(v->path, sizeof(v->path), "%s", path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    r = fd < 0 ? error_set(err, -errno, "'%s' cannot be opened: %s", path, strerror(errno))
               : read_all(v, fd, err);
    if (fd >= 0)
        close(fd);
    snprintf(v->path, sizeof(v->path), "%s", wanted);
    return r;
}

/* ---- making ---- */

static int sync_folder(const char *path) {
    char copy[PATH_MAX];
    int fd, r;

    snprintf(copy, sizeof(copy), "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    r = fsync(fd);
    close(fd);
    return r;
}

/* Under another name first, so that nobody ever sees a part of it. */
static int make_file(struct uefi_vars *v, struct error *err) {
    char part[PATH_MAX + 16];
    int fd, r;

    snprintf(part, sizeof(part), "%s.%d.part", v->path, (int)getpid());
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    r = fd < 0 ? -errno : write_all(fd, v->data, v->size);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (fd >= 0)
        close(fd);
    if (r == 0 && link(part, v->path) < 0 && errno != EEXIST) /* somebody was faster */
        r = rename(part, v->path) < 0 ? -errno : 0;           /* no links on this file system */
    if (fd >= 0)
        unlink(part);
    if (r == 0 && sync_folder(v->path) < 0)
        r = -errno;
    return r < 0 ? error_set(err, r, "'%s' cannot be made: %s", v->path, strerror(-r)) : 0;
}

static int open_file(struct uefi_vars *v, const char *rom, struct error *err) {
    int r = 0;

    v->fd = open(v->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (v->fd < 0 && errno == ENOENT) {
        r = read_template(v, rom, err);
        if (r == 0)
            r = make_file(v, err);
        if (r < 0)
            return r;
        free(v->data);
        v->data = NULL;
        v->fd = open(v->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    }
    if (v->fd < 0)
        return error_set(err, -errno, "'%s' cannot be opened: %s", v->path, strerror(errno));
    if (flock(v->fd, LOCK_EX | LOCK_NB) < 0)
        return error_set(err, -EBUSY,
                         "'%s' is in use by another machine: give each machine variables of its "
                         "own",
                         v->path);
    return read_all(v, v->fd, err);
}

/* ---- writing ---- */

static void *sync_thread(void *opaque) {
    struct uefi_vars *v = opaque;

    jail_thread(JAIL_AUX);
    pthread_mutex_lock(&v->lock);
    while (!v->over || v->dirty) {
        if (!v->dirty) {
            pthread_cond_wait(&v->wake, &v->lock);
            continue;
        }
        if (!v->over) { /* firmware writes in bursts */
            pthread_mutex_unlock(&v->lock);
            usleep(SETTLE_US);
            pthread_mutex_lock(&v->lock);
        }
        v->dirty = false;
        pthread_mutex_unlock(&v->lock);
        if (fdatasync(v->fd) < 0)
            log_warning("the UEFI variables '%s' may not be on the disk: %s", v->path,
                        strerror(errno));
        pthread_mutex_lock(&v->lock);
    }
    pthread_mutex_unlock(&v->lock);
    return NULL;
}

void uefi_vars_changed(void *vars, uint32_t offset, const uint8_t *p, uint32_t n) {
    struct uefi_vars *v = vars;

    if (v->fd < 0)
        return;
    for (uint32_t done = 0; done < n;) {
        ssize_t r = pwrite(v->fd, p + done, n - done, offset + done);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0) {
            if (!v->failed)
                log_error("the UEFI variables '%s' cannot be written: %s; what the guest changes "
                          "now is lost at the end",
                          v->path, r ? strerror(errno) : "nothing was taken");
            v->failed = true;
            return;
        }
        done += (uint32_t)r;
    }
    pthread_mutex_lock(&v->lock);
    v->dirty = true;
    pthread_cond_signal(&v->wake);
    pthread_mutex_unlock(&v->lock);
}

/* ---- life ---- */

static int open_all(struct uefi_vars *v, const char *path, const char *rom, uint64_t rom_size,
                    struct error *err) {
    int r = path ? open_file(v, rom, err) : read_template(v, rom, err);

    if (r == 0)
        r = check(v, rom_size, err);
    if (r < 0 || !path)
        return r;
    if (pthread_create(&v->thread, NULL, sync_thread, v) != 0)
        return error_set(err, -EAGAIN, "'%s': the host has no room for a thread", v->path);
    v->has_thread = true;
    return 0;
}

int uefi_vars_open(const char *path, const char *rom, uint64_t rom_size, struct uefi_vars **ret,
                   struct error *err) {
    char template[PATH_MAX];
    struct uefi_vars *v;
    int r;

    *ret = NULL;
    if (!path && !find_template(rom, template))
        return 0;
    if (path && strlen(path) >= PATH_MAX)
        return error_set(err, -ENAMETOOLONG, "the path of the UEFI variables is too long");
    v = calloc(1, sizeof(*v));
    if (!v)
        return error_set(err, -ENOMEM, "the UEFI variables: out of memory");
    v->fd = -1;
    snprintf(v->path, sizeof(v->path), "%s", path ? path : "the UEFI variables");
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->wake, NULL);
    r = open_all(v, path, rom, rom_size, err);
    if (r < 0)
        uefi_vars_close(v);
    else
        *ret = v;
    return r;
}

const uint8_t *uefi_vars_data(const struct uefi_vars *v, uint32_t *ret_size) {
    *ret_size = v->size;
    return v->data;
}

void uefi_vars_close(struct uefi_vars *v) {
    if (!v)
        return;
    if (v->has_thread) {
        pthread_mutex_lock(&v->lock);
        v->over = true;
        pthread_cond_signal(&v->wake);
        pthread_mutex_unlock(&v->lock);
        pthread_join(v->thread, NULL);
    }
    if (v->fd >= 0)
        close(v->fd);
    pthread_cond_destroy(&v->wake);
    pthread_mutex_destroy(&v->lock);
    free(v->data);
    free(v);
}
