/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing ext4 by libext2fs, the library of e2fsprogs; mke2fs makes the empty file system, so that
 * its features are those that this Debian's kernel and fsck know.
 */
#include "oci/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "oci/fs_internal.h"

enum { MOST_NAMES_OF_ONE = 65000, NOT_FOUND = 127, SYMLINK_MAX = 4095 };

/* ------------------------------------------------------------------ the file system */

/* In the child. The journal is the smallest in which the kernel grows
 * the file system later (with 16 MiB it refuses). */
static void become_mke2fs(const char *path, uint64_t size) {
    char *const argv[] = {"mke2fs",
                          "-q",
                          "-F",
                          "-t",
                          "ext4",
                          "-b",
                          "4096",
                          "-I",
                          "256",
                          "-m",
                          "0",
                          "-E",
                          "assume_storage_prezeroed=1,root_owner=0:0",
                          "-J",
                          size >> 30 ? "size=64" : "size=4",
                          (char *)(uintptr_t)path,
                          NULL};

    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    execvp(argv[0], argv);
    _exit(NOT_FOUND);
}

static int run_mke2fs(const char *path, uint64_t size, struct error *err) {
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        become_mke2fs(path, size);
    if (pid < 0)
        return error_set(err, -errno, "mke2fs cannot be started: %s", strerror(errno));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND)
        return error_set(err, -ENOENT,
                         "mke2fs is not installed here: install the package e2fsprogs");
    if (status)
        unlink(path);
    return status ? error_set(err, -EIO, "mke2fs could not make a file system in '%s'", path) : 0;
}

static int make_empty(const char *path, uint64_t size, struct error *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r = 0;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        r = error_set(err, -errno, "'%s' cannot be made: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    if (r < 0 && fd >= 0)
        unlink(path);
    return r < 0 ? r : run_mke2fs(path, size, err);
}

struct oci_fs *fs_create(const char *path, uint64_t size, struct error *err) {
    struct oci_fs *fs = calloc(1, sizeof(*fs));
    errcode_t code;

    if (!fs) {
        error_set(err, -ENOMEM, "'%s': out of memory", path);
        return NULL;
    }
    snprintf(fs->path, sizeof(fs->path), "%s", path);
    initialize_ext2_error_table();
    if (make_empty(path, size, err) == 0) {
        code = ext2fs_open(path, EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs->fs);
        if (!code)
            code = ext2fs_read_bitmaps(fs->fs);
        if (!code)
            return fs;
        error_set(err, -EIO, "'%s' cannot be opened: %s", path, error_message(code));
        unlink(path);
    }
    if (fs->fs)
        ext2fs_free(fs->fs);
    free(fs);
    return NULL;
}

static int close_file(struct oci_fs *fs, const char *path, struct error *err) {
    errcode_t code = fs->file ? ext2fs_file_close(fs->file) : 0;

    fs->file = NULL;
    return code ? fs_fail(fs, code, path, err) : 0;
}

int fs_close(struct oci_fs *fs, struct error *err) {
    int r, fd;
    errcode_t code;

    if (!fs)
        return 0;
    r = close_file(fs, fs->path, err);
    code = ext2fs_close_free(&fs->fs);
    if (code && r == 0)
        r = error_set(err, -EIO, "'%s' cannot be written: %s", fs->path, error_message(code));
    fd = open(fs->path, O_RDWR | O_CLOEXEC);
    if (r == 0 && (fd < 0 || fsync(fd) < 0))
        r = error_set(err, -errno, "'%s' cannot be written: %s", fs->path, strerror(errno));
    if (fd >= 0)
        close(fd);
    seen_done(&fs->seen);
    free(fs);
    return r;
}

void fs_begin_layer(struct oci_fs *fs) {
    seen_done(&fs->seen);
    fs->cached_ino = 0;
}

/* ------------------------------------------------------------------ inodes */

static void set_meta(struct ext2_inode_large *i, const struct fs_meta *m) {
    /* 34 bits: the lower half is signed, two more count how often it has gone round. */
    int64_t t = m->mtime < INT32_MIN ? INT32_MIN : m->mtime > 0x37fffffff ? 0x37fffffff : m->mtime;
    uint32_t extra = (uint32_t)((t - (int32_t)t) >> 32 & 3) | (m->mtime_ns % 1000000000) << 2;

    i->i_mode = (uint16_t)((i->i_mode & LINUX_S_IFMT) | (m->mode & 07777));
    i->i_uid = (uint16_t)m->uid;
    i->osd2.linux2.l_i_uid_high = (uint16_t)(m->uid >> 16);
    i->i_gid = (uint16_t)m->gid;
    i->osd2.linux2.l_i_gid_high = (uint16_t)(m->gid >> 16);
    i->i_atime = i->i_ctime = i->i_mtime = (uint32_t)t;
    i->i_atime_extra = i->i_ctime_extra = i->i_mtime_extra = extra;
}

static int write_meta(struct oci_fs *fs, ext2_ino_t ino, const struct fs_meta *m, const char *path,
                      struct error *err) {
    struct ext2_inode_large i;
    errcode_t code = ext2fs_read_inode_full(fs->fs, ino, (struct ext2_inode *)&i, sizeof(i));

    if (code)
        return fs_fail(fs, code, path, err);
    set_meta(&i, m);
    if (i.i_extra_isize < 24)
        i.i_extra_isize = sizeof(i) - EXT2_GOOD_OLD_INODE_SIZE;
    code = ext2fs_write_inode_full(fs->fs, ino, (struct ext2_inode *)&i, sizeof(i));
    return code ? fs_fail(fs, code, path, err) : 0;
}

/* A folder's block may be full. */
static errcode_t link_name(struct oci_fs *fs, ext2_ino_t folder, const char *name, ext2_ino_t ino,
                           int type) {
    errcode_t code = ext2fs_link(fs->fs, folder, name, ino, type);

    if (code != EXT2_ET_DIR_NO_SPACE)
        return code;
    code = ext2fs_expand_dir(fs->fs, folder);
    return code ? code : ext2fs_link(fs->fs, folder, name, ino, type);
}

int fs_mkdir(struct oci_fs *fs, ext2_ino_t folder, const char *name, ext2_ino_t *ret,
             const char *path, struct error *err) {
    struct fs_meta m = {.mode = S_IFDIR | 0755};
    struct ext2_inode parent;
    errcode_t code;

    if (fs_read_inode(fs, folder, &parent, err) < 0)
        return -EIO;
    if (parent.i_links_count >= MOST_NAMES_OF_ONE)
        return error_set(err, -EMLINK, "'%.300s': there are too many folders in one", path);
    code = ext2fs_mkdir(fs->fs, folder, 0, name);
    if (code == EXT2_ET_DIR_NO_SPACE) {
        code = ext2fs_expand_dir(fs->fs, folder);
        if (!code)
            code = ext2fs_mkdir(fs->fs, folder, 0, name);
    }
    *ret = code ? 0 : fs_lookup(fs, folder, name);
    if (!*ret)
        return fs_fail(fs, code, path, err);
    seen_add(&fs->seen, folder, name, strlen(name));
    return write_meta(fs, *ret, &m, path, err);
}

static int file_type(uint32_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
        return EXT2_FT_REG_FILE;
    case S_IFCHR:
        return EXT2_FT_CHRDEV;
    case S_IFBLK:
        return EXT2_FT_BLKDEV;
    case S_IFIFO:
        return EXT2_FT_FIFO;
    default:
        return EXT2_FT_UNKNOWN;
    }
}

static void set_device(struct ext2_inode *i, const struct fs_meta *m) {
    if (m->major < 256 && m->minor < 256)
        i->i_block[0] = m->major << 8 | m->minor;
    else
        i->i_block[1] = (m->minor & 0xff) | (m->major & 0xfff) << 8 | (m->minor & ~0xffu) << 12;
}

static errcode_t new_inode(struct oci_fs *fs, ext2_ino_t folder, const char *name,
                           const struct fs_meta *m, ext2_ino_t *ret) {
    struct ext2_inode i = {.i_mode = (uint16_t)m->mode, .i_links_count = 1};
    ext2_extent_handle_t handle;
    errcode_t code = ext2fs_new_inode(fs->fs, folder, (int)m->mode, 0, ret);

    if (!code)
        code = link_name(fs, folder, name, *ret, file_type(m->mode));
    if (code)
        return code;
    ext2fs_inode_alloc_stats2(fs->fs, *ret, +1, 0);
    if (S_ISCHR(m->mode) || S_ISBLK(m->mode))
        set_device(&i, m);
    if (S_ISREG(m->mode)) {
        code = ext2fs_extent_open2(fs->fs, *ret, &i, &handle);
        if (code)
            return code;
        ext2fs_extent_free(handle);
    }
    return ext2fs_write_new_inode(fs->fs, *ret, &i);
}

/* ------------------------------------------------------------------ entries */

/* Where an entry goes, with what was there before removed; *old: a folder that stays. */
static int make_room(struct oci_fs *fs, const char *path, bool folder, ext2_ino_t *ret_parent,
                     char name[FS_NAME], ext2_ino_t *old, struct error *err) {
    struct ext2_inode inode;
    int r = fs_parent(fs, path, true, ret_parent, name, err);

    if (r == 0)
        r = close_file(fs, path, err);
    *old = 0;
    if (r < 0)
        return r;
    if (!*name) {
        *old = EXT2_ROOT_INO;
        return folder ? 0
                      : error_set(err, -EINVAL, "the root of the image is not a folder in a layer");
    }
    *old = fs_lookup(fs, *ret_parent, name);
    if (!*old)
        return 0;
    r = fs_read_inode(fs, *old, &inode, err);
    if (r == 0 && folder && LINUX_S_ISDIR(inode.i_mode))
        return 0;
    *old = 0;
    return r < 0 ? r : fs_delete(fs, *ret_parent, name, err);
}

static int open_file(struct oci_fs *fs, const struct fs_meta *m, const char *path,
                     struct error *err) {
    uint64_t blocks = ((uint64_t)m->size + fs->fs->blocksize - 1) / fs->fs->blocksize;
    errcode_t code = 0;

    if (m->size > 0 && blocks > ext2fs_free_blocks_count(fs->fs->super))
        return fs_fail(fs, EXT2_ET_BLOCK_ALLOC_FAIL, path, err);
    if (m->size > 0)
        code =
            ext2fs_fallocate(fs->fs, EXT2_FALLOCATE_FORCE_INIT, fs->last, NULL, ~0ull, 0, blocks);
    if (!code)
        code = ext2fs_file_open(fs->fs, fs->last, EXT2_FILE_WRITE, &fs->file);
    return code ? fs_fail(fs, code, path, err) : 0;
}

int fs_make(struct oci_fs *fs, const char *path, const struct fs_meta *m, struct error *err) {
    ext2_ino_t folder, old;
    char name[FS_NAME];
    errcode_t code;

    if (make_room(fs, path, S_ISDIR(m->mode), &folder, name, &old, err) < 0)
        return -EINVAL;
    if (S_ISDIR(m->mode)) {
        fs->last = old;
        if (!old && fs_mkdir(fs, folder, name, &fs->last, path, err) < 0)
            return -EIO;
        if (*name)
            seen_add(&fs->seen, folder, name, strlen(name));
        return write_meta(fs, fs->last, m, path, err);
    }
    code = new_inode(fs, folder, name, m, &fs->last);
    if (code)
        return fs_fail(fs, code, path, err);
    seen_add(&fs->seen, folder, name, strlen(name));
    if (write_meta(fs, fs->last, m, path, err) < 0)
        return -EIO;
    return S_ISREG(m->mode) ? open_file(fs, m, path, err) : 0;
}

int fs_symlink(struct oci_fs *fs, const char *path, const char *target, const struct fs_meta *m,
               struct error *err) {
    ext2_ino_t folder, old;
    char name[FS_NAME];
    errcode_t code;

    if (!*target || strlen(target) > SYMLINK_MAX)
        return error_set(err, -EINVAL,
                         "the symbolic link '%.300s' has no target, or one that is "
                         "too long",
                         path);
    if (make_room(fs, path, false, &folder, name, &old, err) < 0)
        return -EINVAL;
    code = ext2fs_symlink(fs->fs, folder, 0, name, target);
    if (code == EXT2_ET_DIR_NO_SPACE) {
        code = ext2fs_expand_dir(fs->fs, folder);
        if (!code)
            code = ext2fs_symlink(fs->fs, folder, 0, name, target);
    }
    fs->last = code ? 0 : fs_lookup(fs, folder, name);
    if (!fs->last)
        return fs_fail(fs, code, path, err);
    seen_add(&fs->seen, folder, name, strlen(name));
    return write_meta(fs, fs->last, m, path, err);
}

int fs_link(struct oci_fs *fs, const char *path, const char *target, struct error *err) {
    ext2_ino_t folder, from, ino, old;
    char name[FS_NAME], first[FS_NAME];
    struct ext2_inode inode;
    errcode_t code;
    int r = fs_parent(fs, target, false, &from, first, err);

    ino = r == 0 && *first ? fs_lookup(fs, from, first) : 0;
    if (!ino)
        return error_set(err, -EINVAL, "'%.200s' is a hard link to '%.200s', which is not there",
                         path, target);
    if (fs_parent(fs, path, true, &folder, name, err) < 0 ||
        fs_read_inode(fs, ino, &inode, err) < 0)
        return -EINVAL;
    if (LINUX_S_ISDIR(inode.i_mode))
        return error_set(err, -EINVAL, "'%.200s' is a hard link to a folder", path);
    fs->last = ino;
    if (fs_lookup(fs, folder, name) == ino) { /* to itself, or once more */
        seen_add(&fs->seen, folder, name, strlen(name));
        return close_file(fs, path, err);
    }
    if (make_room(fs, path, false, &folder, name, &old, err) < 0 ||
        fs_read_inode(fs, ino, &inode, err) < 0)
        return -EINVAL;
    if (!inode.i_links_count || inode.i_links_count >= MOST_NAMES_OF_ONE)
        return error_set(err, -EMLINK, "'%.200s' has too many hard links", target);
    code = link_name(fs, folder, name, ino,
                     file_type(inode.i_mode) | (LINUX_S_ISLNK(inode.i_mode) ? EXT2_FT_SYMLINK : 0));
    if (!code) {
        inode.i_links_count++;
        code = ext2fs_write_inode(fs->fs, ino, &inode);
    }
    if (code)
        return fs_fail(fs, code, path, err);
    seen_add(&fs->seen, folder, name, strlen(name));
    return 0;
}

/* ------------------------------------------------------------------ what they hold */

int fs_xattr(struct oci_fs *fs, const char *name, const void *value, size_t n, struct error *err) {
    struct ext2_xattr_handle *h = NULL;
    errcode_t code = ext2fs_xattrs_open(fs->fs, fs->last, &h);

    if (!code)
        code = ext2fs_xattrs_read(h);
    if (!code)
        code = ext2fs_xattr_set(h, name, value, n);
    if (h)
        ext2fs_xattrs_close(&h);
    return code ? fs_fail(fs, code, name, err) : 0;
}

int fs_write(struct oci_fs *fs, uint64_t offset, const void *data, size_t n, struct error *err) {
    const char *p = data;
    errcode_t code = ext2fs_file_llseek(fs->file, offset, EXT2_SEEK_SET, NULL);

    while (!code && n) {
        unsigned done = 0;

        code = ext2fs_file_write(fs->file, p, n > 1 << 20 ? 1 << 20 : (unsigned)n, &done);
        p += done;
        n -= done;
    }
    return code ? fs_fail(fs, code, "a file", err) : 0;
}

int fs_finish_file(struct oci_fs *fs, uint64_t size, struct error *err) {
    errcode_t code = ext2fs_file_set_size2(fs->file, size);

    return code ? fs_fail(fs, code, "a file", err) : close_file(fs, "a file", err);
}
