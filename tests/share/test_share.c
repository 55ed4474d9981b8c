/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of shared folders, as a guest's kernel would use them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/loop.h"
#include "share/fuse_client.h"
#include "share/server.h"
#include "share/share_internal.h"
#include "support/test.h"

enum { ROOT = FUSE_ROOT_ID };

static char base[64], folder[80], outside[80];
static struct fuse_client c;
static bool served; /* by a process of its own */
static struct share_server *server;

/* ---- the host's side ---- */

static const char *at(const char *name) {
    static char path[4][256];
    static unsigned next;
    char *p = path[next++ % 4];

    snprintf(p, sizeof(path[0]), "%s/%s", folder, name);
    return p;
}

static void put_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void assert_file(const char *path, const char *text) {
    char got[256] = "";
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    got[fread(got, 1, sizeof(got) - 1, f)] = 0;
    fclose(f);
    assert_string_equal(got, text);
}

static mode_t mode_of(const char *path) {
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *ftw) {
    return remove(path);
}

static void open_share(bool readonly) {
    struct share_options o = {.path = folder, .readonly = readonly};
    struct error err = {0};

    share_close(c.share);
    share_server_stop(server);
    server = NULL;
    if (served) {
        server = share_server_start(&o, NULL, &err);
        if (!server)
            fail_msg("%s", err.text);
        o.server = server;
    }
    c = (struct fuse_client){.share = share_open(NULL, &o, &err)};
    if (!c.share)
        fail_msg("%s", err.text);
    assert_int_equal(fuse_hello(&c), 0);
}

static int make(void **state) {
    snprintf(base, sizeof(base), "/tmp/viv-share-XXXXXX");
    assert_non_null(mkdtemp(base));
    snprintf(folder, sizeof(folder), "%s/inside", base);
    snprintf(outside, sizeof(outside), "%s/outside", base);
    assert_int_equal(mkdir(folder, 0755), 0);
    put_file(outside, "secret");
    c.share = NULL;
    open_share(false);
    return 0;
}

static int drop(void **state) {
    share_close(c.share);
    c.share = NULL;
    share_server_stop(server);
    server = NULL;
    return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- files ---- */

static void files_are_made_written_and_read_on_both_sides(void **state) {
    uint64_t node, fh;

    assert_int_equal(fuse_create(&c, ROOT, "new", O_RDWR, 0644, &node, &fh), 0);
    assert_int_equal(fuse_write(&c, fh, 0, "hello", 5), 5);
    assert_int_equal(fuse_write(&c, fh, 5, " you", 4), 4);
    assert_int_equal(fuse_read(&c, fh, 6, 100), 3);
    assert_memory_equal(c.reply, "you", 3);
    assert_int_equal(fuse_read(&c, fh, 9, 100), 0);
    assert_int_equal(fuse_release(&c, fh), 0);
    assert_int_equal(fuse_read(&c, fh, 0, 1), -EBADF);
    assert_file(at("new"), "hello you");
    assert_int_equal(mode_of(at("new")), 0644);

    put_file(at("host"), "from the host");
    assert_int_equal(fuse_open(&c, fuse_walk(&c, "host"), O_RDONLY, &fh), 0);
    assert_int_equal(fuse_read(&c, fh, 0, 100), 13);
    assert_memory_equal(c.reply, "from the host", 13);
    assert_int_equal(fuse_write(&c, fh, 0, "x", 1), -EBADF);
    assert_int_equal(fuse_create(&c, ROOT, "host", O_RDWR | O_EXCL, 0644, NULL, NULL), -EEXIST);
    assert_int_equal(fuse_create(&c, ROOT, "host", O_RDWR | O_APPEND, 0644, NULL, &fh), 0);
    assert_int_equal(fuse_write(&c, fh, 0, "!", 1), 1);
    assert_file(at("host"), "from the host!");
    assert_int_equal(fuse_open(&c, node, O_WRONLY | O_TRUNC, &fh), 0);
    assert_file(at("new"), "");
}

static void attributes_are_told_and_changed(void **state) {
    struct fuse_setattr_in set = {.valid = FATTR_SIZE, .size = 3};
    struct fuse_statfs_out *fs = (struct fuse_statfs_out *)c.reply;
    struct fuse_attr a;
    uint64_t node;

    put_file(at("f"), "abcdef");
    node = fuse_walk(&c, "f");
    assert_int_equal(fuse_attr(&c, node, &a), 0);
    assert_int_equal(a.size, 6);
    assert_int_equal(a.mode & S_IFMT, S_IFREG);
    assert_int_equal(a.uid, 0); /* whoever we are, we are the guest's root */
    assert_int_equal(a.gid, 0);
    assert_int_equal(fuse_set(&c, node, &set), 0);
    assert_file(at("f"), "abc");
    set = (struct fuse_setattr_in){.valid = FATTR_MTIME | FATTR_ATIME | FATTR_MODE,
                                   .mtime = 1234567890,
                                   .mtimensec = 5,
                                   .atime = 77,
                                   .mode = 0600};
    assert_int_equal(fuse_set(&c, node, &set), 0);
    assert_int_equal(fuse_attr(&c, node, &a), 0);
    assert_int_equal(a.mtime, 1234567890);
    assert_int_equal(a.mtimensec, 5);
    assert_int_equal(a.atime, 77);
    assert_int_equal(mode_of(at("f")), 0600);
    set = (struct fuse_setattr_in){.valid = FATTR_SIZE};
    assert_int_equal(fuse_set(&c, ROOT, &set), -EINVAL);
    assert_int_equal(fuse_name(&c, FUSE_STATFS, ROOT, NULL, 0, NULL), 0);
    assert_true(fs->st.blocks > 0 && fs->st.bsize > 0 && fs->st.namelen >= 255);
}

static void holes_space_and_copies_work_as_on_a_disk(void **state) {
    struct fuse_fallocate_in space = {.offset = 0, .length = 1 << 20};
    struct fuse_lseek_in seek = {.whence = SEEK_HOLE};
    struct fuse_copy_file_range_in copy = {.off_in = 1, .off_out = 0, .len = 3};
    struct fuse_fsync_in sync = {0};
    struct fuse_flush_in flush = {0};
    uint64_t a, b, node;

    assert_int_equal(fuse_create(&c, ROOT, "a", O_RDWR, 0644, &node, &a), 0);
    assert_int_equal(fuse_create(&c, ROOT, "b", O_RDWR, 0644, NULL, &b), 0);
    assert_int_equal(fuse_write(&c, a, 0, "abcdef", 6), 6);
    copy.fh_in = a;
    copy.fh_out = b;
    assert_int_equal(fuse_name(&c, FUSE_COPY_FILE_RANGE, node, &copy, sizeof(copy), NULL), 0);
    assert_file(at("b"), "bcd");
    seek.fh = space.fh = sync.fh = flush.fh = a;
    assert_int_equal(fuse_name(&c, FUSE_LSEEK, node, &seek, sizeof(seek), NULL), 0);
    assert_true(((struct fuse_lseek_out *)c.reply)->offset >= 6);
    seek.whence = SEEK_CUR;
    assert_int_equal(fuse_name(&c, FUSE_LSEEK, node, &seek, sizeof(seek), NULL), -EINVAL);
    assert_int_equal(fuse_name(&c, FUSE_FALLOCATE, node, &space, sizeof(space), NULL), 0);
    space.mode = 1 << 20;
    assert_int_equal(fuse_name(&c, FUSE_FALLOCATE, node, &space, sizeof(space), NULL), -EOPNOTSUPP);
    assert_int_equal(fuse_name(&c, FUSE_FSYNC, node, &sync, sizeof(sync), NULL), 0);
    assert_int_equal(fuse_name(&c, FUSE_FLUSH, node, &flush, sizeof(flush), NULL), 0);
    assert_int_equal(fuse_name(&c, FUSE_SYNCFS, ROOT, NULL, 0, NULL), 0);
    assert_int_equal(fuse_name(&c, FUSE_SETLK, node, NULL, 0, NULL), -ENOSYS);
}

/* ---- the borders ---- */

static void no_name_leads_outside(void **state) {
    static const char *const names[] = {"..", ".", "", "../outside", "d/f", "/etc"};
    struct fuse_mkdir_in dir = {.mode = 0755};
    uint64_t d;

    assert_int_equal(fuse_mkdir(&c, ROOT, "d", 0755, &d), 0);
    put_file(at("d/f"), "in");
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(fuse_lookup(&c, ROOT, names[i], NULL), -EINVAL);
        assert_int_equal(fuse_lookup(&c, d, names[i], NULL), -EINVAL);
        assert_int_equal(fuse_create(&c, d, names[i], O_RDWR, 0644, NULL, NULL), -EINVAL);
        assert_int_equal(fuse_name(&c, FUSE_MKDIR, d, &dir, sizeof(dir), names[i]), -EINVAL);
        assert_int_equal(fuse_name(&c, FUSE_UNLINK, d, NULL, 0, names[i]), -EINVAL);
        assert_int_equal(fuse_rename(&c, d, "f", ROOT, names[i], 0), -EINVAL);
        assert_int_equal(fuse_rename(&c, d, names[i], ROOT, "x", 0), -EINVAL);
    }
    assert_file(outside, "secret");
    assert_file(at("d/f"), "in");
}

static void links_are_told_and_never_followed(void **state) {
    uint64_t node, fh;
    char target[80];

    assert_int_equal(symlink("..", at("up")), 0);
    assert_int_equal(symlink(outside, at("out")), 0);
    node = fuse_walk(&c, "out");
    assert_int_not_equal(node, 0);
    assert_int_equal(fuse_name(&c, FUSE_READLINK, node, NULL, 0, NULL), 0);
    assert_int_equal(c.len, strlen(outside));
    assert_memory_equal(c.reply, outside, c.len);
    assert_int_equal(fuse_open(&c, node, O_RDONLY, &fh), -EPERM);
    assert_int_equal(fuse_create(&c, ROOT, "out", O_RDWR, 0644, NULL, &fh), -EPERM);
    assert_int_equal(fuse_create(&c, ROOT, "out", O_RDWR | O_TRUNC, 0644, NULL, &fh), -EPERM);
    assert_int_equal(fuse_lookup(&c, fuse_walk(&c, "up"), "outside", NULL), -ENOTDIR);
    assert_file(outside, "secret");

    /* One that the guest makes is the same, whatever it says. */
    snprintf(target, sizeof(target), "link");
    {
        struct iovec v[] = {{target, 5}, {"../outside", 11}};

        assert_int_equal(fuse_ask(&c, FUSE_SYMLINK, ROOT, v, 2, 4096), 0);
    }
    assert_int_equal(fuse_open(&c, fuse_walk(&c, "link"), O_RDWR, &fh), -EPERM);
    assert_int_equal(readlink(at("link"), target, sizeof(target)), 10);
}

/* The descriptors of the path were closed meanwhile: it is walked again. */
static void a_folder_that_became_a_link_is_not_entered(void **state) {
    uint64_t d, e;

    assert_int_equal(mkdir(at("d"), 0755), 0);
    put_file(at("d/f"), "in");
    d = fuse_walk(&c, "d");
    e = fuse_walk(&c, "d/f");
    c.share->max_node_fds = 1;
    for (int i = 0; i < 4; i++)
        fuse_walk(&c, "d/f");
    assert_int_equal(mkdir(at("other"), 0755), 0);
    fuse_walk(&c, "other"); /* the only descriptor is its */
    assert_int_equal(rename(at("d"), at("moved")), 0);
    assert_int_equal(symlink(base, at("d")), 0);
    assert_int_equal(fuse_lookup(&c, d, "outside", NULL), -ESTALE);
    assert_int_equal(fuse_open(&c, e, O_RDONLY, NULL), -ESTALE);
}

static void fifos_and_devices_are_not_opened(void **state) {
    struct fuse_mknod_in in = {.mode = S_IFCHR | 0666, .rdev = 0x103};
    uint64_t fh;

    assert_int_equal(mkfifo(at("fifo"), 0666), 0);
    assert_int_equal(fuse_open(&c, fuse_walk(&c, "fifo"), O_RDONLY, &fh), -EPERM);
    assert_int_equal(fuse_create(&c, ROOT, "fifo", O_WRONLY, 0644, NULL, &fh), -EPERM);
    assert_int_equal(fuse_name(&c, FUSE_MKNOD, ROOT, &in, sizeof(in), "null"), -EPERM);
    in.mode = S_IFBLK | 0666;
    assert_int_equal(fuse_name(&c, FUSE_MKNOD, ROOT, &in, sizeof(in), "disk"), -EPERM);
    in.mode = S_IFSOCK | 0666;
    assert_int_equal(fuse_name(&c, FUSE_MKNOD, ROOT, &in, sizeof(in), "sock"), 0);
    if (geteuid() == 0 && mknod(at("zero"), S_IFCHR | 0666, 0x105) == 0)
        assert_int_equal(fuse_open(&c, fuse_walk(&c, "zero"), O_RDONLY, &fh), -EPERM);
}

static void a_read_only_share_changes_nothing(void **state) {
    struct fuse_setattr_in set = {.valid = FATTR_SIZE | FATTR_MODE};
    uint64_t node, fh;

    put_file(at("f"), "text");
    open_share(true);
    node = fuse_walk(&c, "f");
    assert_int_equal(fuse_open(&c, node, O_RDWR, &fh), -EROFS);
    assert_int_equal(fuse_open(&c, node, O_RDONLY | O_TRUNC, &fh), -EROFS);
    assert_int_equal(fuse_open(&c, node, O_RDONLY, &fh), 0);
    assert_int_equal(fuse_read(&c, fh, 0, 9), 4);
    assert_int_equal(fuse_write(&c, fh, 0, "x", 1), -EROFS);
    assert_int_equal(fuse_set(&c, node, &set), -EROFS);
    assert_int_equal(fuse_create(&c, ROOT, "new", O_RDWR, 0644, NULL, NULL), -EROFS);
    assert_int_equal(fuse_mkdir(&c, ROOT, "d", 0755, NULL), -EROFS);
    assert_int_equal(fuse_name(&c, FUSE_UNLINK, ROOT, NULL, 0, "f"), -EROFS);
    assert_int_equal(fuse_rename(&c, ROOT, "f", ROOT, "g", 0), -EROFS);
    assert_file(at("f"), "text");
}

/* ---- owners ---- */

static bool has_xattrs(void) {
    put_file(at("probe"), "");
    return setxattr(at("probe"), "user.probe", "1", 1, 0) == 0;
}

static void owners_and_privileges_are_the_guests_own(void **state) {
    struct fuse_setattr_in set = {.valid = FATTR_MODE, .mode = 04755};
    struct fuse_getxattr_in get = {.size = 100};
    struct fuse_attr a;
    uint64_t node, fh;
    struct stat st;

    if (!has_xattrs())
        skip();
    c.uid = 1000;
    c.gid = 1001;
    assert_int_equal(fuse_create(&c, ROOT, "f", O_RDWR, 0640, &node, &fh), 0);
    assert_int_equal(fuse_attr(&c, node, &a), 0);
    assert_int_equal(a.uid, 1000);
    assert_int_equal(a.gid, 1001);
    assert_int_equal(stat(at("f"), &st), 0);
    assert_int_equal(st.st_uid, geteuid());
    assert_int_equal(fuse_set(&c, node, &set), 0);
    assert_int_equal(mode_of(at("f")), 0755); /* no set-user-ID on the host */
    assert_int_equal(fuse_attr(&c, node, &a), 0);
    assert_int_equal(a.mode & 07777, 04755);
    set = (struct fuse_setattr_in){.valid = FATTR_UID | FATTR_GID, .uid = 5, .gid = 6};
    assert_int_equal(fuse_set(&c, node, &set), 0);
    assert_int_equal(fuse_attr(&c, node, &a), 0);
    assert_int_equal(a.uid, 5);
    assert_int_equal(a.gid, 6);
    assert_int_equal(a.mode & 07777, 0755); /* a new owner, no privileges */
    /* What the guest forbids itself the host still may. */
    set = (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0};
    assert_int_equal(fuse_set(&c, node, &set), 0);
    assert_int_equal(fuse_attr(&c, node, &a), 0);
    assert_int_equal(a.mode & 07777, 0);
    assert_int_equal(mode_of(at("f")), 0600);
    /* chmod on the host wins. */
    assert_int_equal(chmod(at("f"), 0644), 0);
    assert_int_equal(fuse_attr(&c, node, &a), 0);
    assert_int_equal(a.mode & 07777, 0644);
    /* Records are not to be seen, nor forged. */
    assert_int_equal(fuse_name(&c, FUSE_GETXATTR, node, &get, sizeof(get), "user.vivarium.owner"),
                     -ENODATA);
    assert_int_equal(fuse_name(&c, FUSE_LISTXATTR, node, &get, sizeof(get), NULL), 0);
    assert_int_equal(c.len, 0);
}

static void a_write_takes_privileges_away(void **state) {
    struct fuse_setattr_in set = {.valid = FATTR_MODE, .mode = 06755};
    struct fuse_write_in in = {.size = 1, .write_flags = FUSE_WRITE_KILL_SUIDGID};
    struct iovec v[] = {{&in, sizeof(in)}, {"x", 1}};
    struct fuse_attr a;
    uint64_t node;

    if (!has_xattrs())
        skip();
    assert_int_equal(fuse_create(&c, ROOT, "f", O_RDWR, 0644, &node, &in.fh), 0);
    assert_int_equal(fuse_set(&c, node, &set), 0);
    assert_int_equal(fuse_ask(&c, FUSE_WRITE, node, v, 2, 8), 0);
    assert_int_equal(fuse_attr(&c, node, &a), 0);
    assert_int_equal(a.mode & 07777, 0755);
}

static void folders_hand_their_group_on(void **state) {
    struct fuse_setattr_in set = {.valid = FATTR_MODE | FATTR_GID, .mode = 02775, .gid = 77};
    struct fuse_attr a;
    uint64_t d, e;

    if (!has_xattrs())
        skip();
    assert_int_equal(fuse_mkdir(&c, ROOT, "d", 0755, &d), 0);
    assert_int_equal(fuse_set(&c, d, &set), 0);
    assert_int_equal(fuse_mkdir(&c, d, "e", 0755, &e), 0);
    assert_int_equal(fuse_attr(&c, e, &a), 0);
    assert_int_equal(a.gid, 77);
    assert_int_equal(a.mode & 07777, 02755);
}

static int set_xattr(uint64_t node, const char *name, const char *value) {
    struct fuse_setxattr_in in = {.size = (uint32_t)strlen(value)};
    struct iovec v[] = {{&in, FUSE_COMPAT_SETXATTR_IN_SIZE},
                        {(void *)name, strlen(name) + 1},
                        {(void *)value, strlen(value)}};

    return fuse_ask(&c, FUSE_SETXATTR, node, v, 3, 0);
}

static void extended_attributes_of_users_are_kept(void **state) {
    struct fuse_getxattr_in get = {.size = 100};
    uint64_t node;

    if (!has_xattrs())
        skip();
    node = fuse_walk(&c, "probe");
    assert_int_equal(set_xattr(node, "user.colour", "green"), 0);
    assert_int_equal(set_xattr(node, "user.vivarium.owner", "4755 0 0"), -EPERM);
    assert_int_equal(set_xattr(node, "security.capability", "x"), -EOPNOTSUPP);
    assert_int_equal(set_xattr(node, "trusted.x", "x"), -EOPNOTSUPP);
    assert_int_equal(fuse_name(&c, FUSE_GETXATTR, node, &get, sizeof(get), "user.colour"), 0);
    assert_int_equal(c.len, 5);
    assert_memory_equal(c.reply, "green", 5);
    get.size = 3;
    assert_int_equal(fuse_name(&c, FUSE_GETXATTR, node, &get, sizeof(get), "user.colour"), -ERANGE);
    get.size = 0;
    assert_int_equal(fuse_name(&c, FUSE_LISTXATTR, node, &get, sizeof(get), NULL), 0);
    assert_int_equal(((struct fuse_getxattr_out *)c.reply)->size, 12 + 11);
    assert_int_equal(fuse_name(&c, FUSE_REMOVEXATTR, node, NULL, 0, "user.colour"), 0);
    get.size = 100;
    assert_int_equal(fuse_name(&c, FUSE_GETXATTR, node, &get, sizeof(get), "user.colour"),
                     -ENODATA);
}

/* ---- names ---- */

static void names_move_and_files_stay(void **state) {
    struct fuse_link_in link;
    uint64_t a, b, d, fh;
    struct fuse_attr attr;

    assert_int_equal(fuse_mkdir(&c, ROOT, "d", 0755, &d), 0);
    assert_int_equal(fuse_create(&c, ROOT, "a", O_RDWR, 0644, &a, &fh), 0);
    assert_int_equal(fuse_write(&c, fh, 0, "A", 1), 1);
    assert_int_equal(fuse_create(&c, ROOT, "b", O_RDWR, 0644, &b, NULL), 0);
    assert_int_equal(fuse_rename(&c, ROOT, "a", d, "a2", RENAME_NOREPLACE), 0);
    assert_int_equal(fuse_walk(&c, "d/a2"), a);
    assert_int_equal(fuse_rename(&c, d, "a2", ROOT, "b", RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(fuse_rename(&c, d, "a2", ROOT, "b", RENAME_EXCHANGE), 0);
    assert_int_equal(fuse_walk(&c, "b"), a);
    assert_int_equal(fuse_walk(&c, "d/a2"), b);
    assert_int_equal(fuse_rename(&c, ROOT, "b", d, "a2", 0), 0); /* over the other one */
    assert_int_equal(fuse_walk(&c, "d/a2"), a);
    assert_int_equal(fuse_attr(&c, b, &attr), 0);
    assert_int_equal(attr.nlink, 0);
    link.oldnodeid = a;
    assert_int_equal(fuse_name(&c, FUSE_LINK, ROOT, &link, sizeof(link), "second"), 0);
    assert_int_equal(((struct fuse_entry_out *)c.reply)->nodeid, a);
    assert_int_equal(((struct fuse_entry_out *)c.reply)->attr.nlink, 2);
    assert_int_equal(fuse_name(&c, FUSE_RMDIR, ROOT, NULL, 0, "d"), -ENOTEMPTY);
    assert_int_equal(fuse_name(&c, FUSE_UNLINK, d, NULL, 0, "a2"), 0);
    assert_int_equal(fuse_name(&c, FUSE_RMDIR, ROOT, NULL, 0, "d"), 0);
    assert_int_equal(fuse_walk(&c, "d"), 0);
    assert_int_equal(fuse_name(&c, FUSE_UNLINK, ROOT, NULL, 0, "second"), 0);
    assert_int_equal(fuse_read(&c, fh, 0, 1), 1); /* open still */
    assert_int_equal(fuse_attr(&c, a, &attr), 0);
    assert_int_equal(attr.nlink, 0);
}

static bool seen[500];

/* Forgetting asks by the same buffer as the answer lies in. */
static uint64_t take_entries(bool plus, unsigned *count) {
    size_t head = plus ? sizeof(struct fuse_entry_out) : 0, len = c.len;
    uint8_t copy[4096];
    uint64_t last = 0;

    memcpy(copy, c.reply, len);
    for (size_t i = 0; i < len;) {
        const struct fuse_entry_out *e = (const void *)(copy + i);
        const struct fuse_dirent *d = (const void *)(copy + i + head);
        unsigned n;

        if (sscanf(d->name, "file%u", &n) == 1 && n < 500 && !seen[n]) {
            seen[n] = true;
            (*count)++;
            if (plus)
                fuse_forget(&c, e->nodeid, 1);
        }
        last = d->off;
        i += FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + d->namelen);
    }
    return last;
}

static void folders_are_read_in_pieces(void **state) {
    struct fuse_open_in in = {0};
    char name[20];

    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "file%d", i);
        put_file(at(name), "");
    }
    for (int plus = 0; plus < 2; plus++) {
        struct fuse_read_in read = {.size = 1000};
        unsigned count = 0;

        memset(seen, 0, sizeof(seen));
        assert_int_equal(fuse_name(&c, FUSE_OPENDIR, ROOT, &in, sizeof(in), NULL), 0);
        read.fh = ((struct fuse_open_out *)c.reply)->fh;
        for (;;) {
            assert_int_equal(fuse_name(&c, plus ? FUSE_READDIRPLUS : FUSE_READDIR, ROOT, &read,
                                       sizeof(read), NULL),
                             0);
            if (!c.len)
                break;
            assert_true(c.len <= 1000);
            read.offset = take_entries(plus, &count);
        }
        assert_int_equal(count, 500);
        fuse_name(&c, FUSE_RELEASEDIR, 0, &(struct fuse_release_in){.fh = read.fh},
                  sizeof(struct fuse_release_in), NULL);
    }
    assert_int_equal(c.share->handles, 0);
}

/* ---- bounds ---- */

static unsigned open_descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void a_guest_that_knows_many_files_takes_few_descriptors(void **state) {
    unsigned before = open_descriptors();
    uint64_t node[300], d, fh;
    struct fuse_attr a;
    char name[20];

    c.share->max_node_fds = 20;
    c.share->max_handles = 30;
    assert_int_equal(fuse_mkdir(&c, ROOT, "deep", 0755, &d), 0);
    for (int i = 0; i < 40; i++)
        assert_int_equal(fuse_mkdir(&c, d, "x", 0755, &d), 0);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        assert_int_equal(fuse_create(&c, d, name, O_RDWR, 0644, &node[i], &fh), 0);
        assert_int_equal(fuse_write(&c, fh, 0, name, strlen(name)), strlen(name));
        assert_int_equal(fuse_release(&c, fh), 0);
    }
    assert_true(open_descriptors() < before + 30);
    for (int i = 0; i < 300; i++) { /* each is found again by its path of 42 names */
        assert_int_equal(fuse_attr(&c, node[i], &a), 0);
        assert_int_equal(a.size, i < 10 ? 2 : i < 100 ? 3 : 4);
    }
    for (int i = 0; i < 30; i++)
        assert_int_equal(fuse_open(&c, node[i], O_RDONLY, &fh), 0);
    assert_int_equal(fuse_open(&c, node[99], O_RDONLY, NULL), -ENFILE);
    assert_int_equal(fuse_release(&c, fh), 0);
    assert_int_equal(fuse_open(&c, node[99], O_RDONLY, NULL), 0);
    assert_int_equal(c.share->nodes, 342);
    for (int i = 0; i < 300; i++)
        fuse_forget(&c, node[i], 100);
    assert_int_equal(c.share->nodes, 342 - 300 + 30);
    share_reset(c.share);
    assert_int_equal(c.share->nodes, 1);
    assert_true(open_descriptors() <= before);
}

/* Cut anywhere, with numbers of any kind: an answer or none, nothing worse. */
static void broken_requests_get_errors(void **state) {
    struct rng rng = rng_seed(9);
    uint8_t bytes[200];

    put_file(at("f"), "x");
    fuse_walk(&c, "f");
    for (unsigned op = 0; op < 60; op++)
        for (unsigned n = 0; n < sizeof(bytes); n += 3) {
            struct iovec v = {bytes, n};

            for (unsigned i = 0; i < n; i++)
                bytes[i] = (uint8_t)(rng_below(&rng, 3) ? 0 : rng_next(&rng));
            fuse_ask(&c, op, rng_below(&rng, 4), &v, 1, rng_below(&rng, 3) * 50);
            if (op == FUSE_DESTROY)
                fuse_hello(&c);
        }
    {
        struct iovec v = {calloc(1, 1 << 20), 1 << 20};

        assert_int_equal(fuse_ask(&c, FUSE_LOOKUP, ROOT, &v, 1, 100), -EIO);
        free(v.iov_base);
    }
}

static void nothing_is_answered_before_the_session_begins(void **state) {
    struct fuse_init_in in = {.major = 6};
    struct iovec v = {&in, sizeof(in)};

    fuse_name(&c, FUSE_DESTROY, 0, NULL, 0, NULL);
    assert_int_equal(fuse_lookup(&c, ROOT, "f", NULL), -EIO);
    assert_int_equal(fuse_ask(&c, FUSE_INIT, 0, &v, 1, 64), -EPROTO);
    in.major = 8;
    assert_int_equal(fuse_ask(&c, FUSE_INIT, 0, &v, 1, 64), 0);
    assert_int_equal(((struct fuse_init_out *)c.reply)->major, 7);
    assert_int_equal(fuse_lookup(&c, ROOT, "f", NULL), -EIO);
}

/* ---- saving ---- */

static void load(const struct buf *b) {
    struct error err = {0};

    open_share(false);
    if (share_load(c.share, b->data, b->len, &err) < 0)
        fail_msg("%s", err.text);
}

static void a_saved_session_goes_on(void **state) {
    struct fuse_read_in read = {.size = 4000};
    uint64_t d, a, gone, fa, fgone, nameless, fnameless;
    struct buf b = {0};

    assert_int_equal(fuse_mkdir(&c, ROOT, "d", 0755, &d), 0);
    assert_int_equal(fuse_create(&c, d, "a", O_RDWR, 0644, &a, &fa), 0);
    assert_int_equal(fuse_create(&c, d, "gone", O_RDWR, 0644, &gone, &fgone), 0);
    assert_int_equal(fuse_create(&c, d, "n", O_RDWR, 0644, &nameless, &fnameless), 0);
    assert_int_equal(fuse_name(&c, FUSE_UNLINK, d, NULL, 0, "n"), 0);
    assert_int_equal(fuse_write(&c, fa, 0, "one", 3), 3);
    assert_int_equal(fuse_name(&c, FUSE_OPENDIR, d, &(struct fuse_open_in){0},
                               sizeof(struct fuse_open_in), NULL),
                     0);
    read.fh = ((struct fuse_open_out *)c.reply)->fh;
    share_save(c.share, &b);
    assert_int_equal(unlink(at("d/gone")), 0);

    load(&b);
    assert_int_equal(fuse_write(&c, fa, 3, "two", 3), 3);
    assert_file(at("d/a"), "onetwo");
    assert_int_equal(fuse_walk(&c, "d/a"), a);
    assert_int_equal(fuse_name(&c, FUSE_READDIR, d, &read, sizeof(read), NULL), 0);
    assert_true(c.len > 0);
    assert_int_equal(fuse_read(&c, fgone, 0, 1), -ESTALE);
    assert_int_equal(fuse_open(&c, gone, O_RDONLY, NULL), -ESTALE);
    assert_int_equal(fuse_read(&c, fnameless, 0, 1), -ESTALE);
    put_file(at("d/gone"), "another");
    assert_int_not_equal(fuse_walk(&c, "d/gone"), gone);
    assert_int_equal(fuse_release(&c, fgone), 0);
    fuse_forget(&c, gone, 1);

    /* The same again, and all pieces of it. */
    share_save(c.share, &b);
    for (size_t n = 0; n < b.len; n++) {
        struct error err = {0};

        share_load(c.share, b.data, n, &err);
        assert_true(served || c.share->nodes >= 1);
    }
    buf_done(&b);
}

static void damaged_sessions_are_refused(void **state) {
    struct rng rng = rng_seed(4);
    struct buf b = {0};
    uint64_t d, fh;

    assert_int_equal(fuse_mkdir(&c, ROOT, "d", 0755, &d), 0);
    assert_int_equal(fuse_create(&c, d, "..a", O_RDWR, 0644, NULL, &fh), 0);
    share_save(c.share, &b);
    for (int i = 0; i < 3000; i++) {
        uint8_t *copy = malloc(b.len);

        memcpy(copy, b.data, b.len);
        for (uint64_t k = rng_below(&rng, 3) + 1; k; k--)
            copy[rng_below(&rng, b.len)] = (uint8_t)rng_next(&rng);
        share_load(c.share, copy, b.len, NULL);
        free(copy);
    }
    for (size_t i = 0; i + 3 < b.len; i++) /* the name that would lead outside */
        if (!memcmp(b.data + i, "..a", 3)) {
            b.data[i + 2] = 0;
            assert_int_equal(share_load(c.share, b.data, b.len, NULL), -EINVAL);
        }
    buf_done(&b);
}

/* ---- threads ---- */

struct asked {
    struct share_request r;
    struct fuse_in_header h;
    struct iovec out[2], in;
    uint8_t reply[256];
    char name[8];
    uint32_t written;
};
static unsigned answers, batches;

static void answered(struct share_request *r, uint32_t written) {
    ((struct asked *)r)->written = written;
    answers++;
}

static void batch(void *opaque) { batches++; }

static void many_requests_are_served_by_threads(void **state) {
    enum { MANY = 500 };
    struct error err = {0};
    struct loop *loop = loop_new(NULL, &err);
    struct share *s =
        share_open(loop, &(struct share_options){.path = folder, .server = server}, &err);
    struct asked *a = calloc(MANY, sizeof(*a));

    assert_non_null(s);
    put_file(at("f"), "x");
    c.share = (share_close(c.share), s);
    assert_int_equal(fuse_hello(&c), 0);
    share_set_batch_fn(s, batch, NULL);
    answers = batches = 0;
    for (unsigned i = 0; i < MANY; i++) {
        a[i].h = (struct fuse_in_header){.opcode = FUSE_LOOKUP, .nodeid = ROOT, .unique = i};
        snprintf(a[i].name, sizeof(a[i].name), i % 2 ? "f" : "none");
        a[i].out[0] = (struct iovec){&a[i].h, sizeof(a[i].h)};
        a[i].out[1] = (struct iovec){a[i].name, strlen(a[i].name) + 1};
        a[i].in = (struct iovec){a[i].reply, sizeof(a[i].reply)};
        a[i].r = (struct share_request){.out = a[i].out,
                                        .out_count = 2,
                                        .out_len = sizeof(a[i].h) + a[i].out[1].iov_len,
                                        .in = &a[i].in,
                                        .in_count = 1,
                                        .in_len = sizeof(a[i].reply),
                                        .done = answered};
        share_submit(s, &a[i].r);
    }
    while (answers < MANY / 2)
        loop_step(loop, 1000);
    share_drain(s);
    assert_int_equal(answers, MANY);
    assert_true(batches > 0);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(a[i].written, i % 2 ? 16 + sizeof(struct fuse_entry_out) : 16);
    if (!served)
        assert_int_equal(s->nodes, 2);
    share_close(s);
    c.share = NULL;
    loop_free(loop);
    free(a);
}

static void what_cannot_be_shared_is_refused_by_a_sentence(void **state) {
    struct error err = {0};

    assert_null(share_open(NULL, &(struct share_options){.path = "/nowhere/at/all"}, &err));
    assert_non_null(
        strstr(err.text, "the folder '/nowhere/at/all' cannot be shared: No such file"));
    err = (struct error){0};
    assert_null(share_open(NULL, &(struct share_options){.path = outside}, &err));
    assert_non_null(strstr(err.text, "Not a directory"));
}

static void a_server_that_is_gone_gives_errors_and_nothing_waits(void **state) {
    struct buf b = {0};
    struct error err = {0};
    uint64_t fh;

    put_file(at("f"), "x");
    assert_int_equal(fuse_open(&c, fuse_walk(&c, "f"), O_RDONLY, &fh), 0);
    assert_int_equal(kill(share_server_pid(server), SIGKILL), 0);
    while (fuse_read(&c, fh, 0, 1) != -EIO)
        ;
    assert_int_equal(fuse_release(&c, fh), -EIO);
    share_save(c.share, &b);
    assert_true(share_load(c.share, b.data, b.len, &err) < 0);
    buf_done(&b);
    share_reset(c.share);
}

static void a_server_says_what_cannot_be_shared(void **state) {
    struct share_options o = {.path = outside};
    struct error err = {0};

    assert_null(share_server_start(&o, NULL, &err));
    assert_non_null(strstr(err.text, "outside' cannot be shared: Not a directory"));
}

/* As a machine would that a guest had taken over: lengths that are none, words that are none. */
static void a_server_survives_what_is_no_request(void **state) {
    uint8_t rubbish[100];

    memset(rubbish, 0xff, sizeof(rubbish));
    assert_int_equal(fuse_ask(&c, 9999, 77, &(struct iovec){rubbish, 100}, 1, 10), -ENOSYS);
    assert_int_equal(fuse_ask(&c, FUSE_WRITE, ROOT, &(struct iovec){rubbish, 100}, 1, 100),
                     -EINVAL);
    assert_true(share_load(c.share, rubbish, sizeof(rubbish), NULL) < 0);
    assert_int_equal(fuse_hello(&c), 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(files_are_made_written_and_read_on_both_sides),
        T(attributes_are_told_and_changed),
        T(holes_space_and_copies_work_as_on_a_disk),
        T(no_name_leads_outside),
        T(links_are_told_and_never_followed),
        T(a_folder_that_became_a_link_is_not_entered),
        T(fifos_and_devices_are_not_opened),
        T(a_read_only_share_changes_nothing),
        T(owners_and_privileges_are_the_guests_own),
        T(a_write_takes_privileges_away),
        T(folders_hand_their_group_on),
        T(extended_attributes_of_users_are_kept),
        T(names_move_and_files_stay),
        T(folders_are_read_in_pieces),
        T(a_guest_that_knows_many_files_takes_few_descriptors),
        T(broken_requests_get_errors),
        T(nothing_is_answered_before_the_session_begins),
        T(a_saved_session_goes_on),
        T(damaged_sessions_are_refused),
        T(many_requests_are_served_by_threads),
        T(what_cannot_be_shared_is_refused_by_a_sentence),
    };

    const struct CMUnitTest by_a_process[] = {
        T(files_are_made_written_and_read_on_both_sides),
        T(attributes_are_told_and_changed),
        T(holes_space_and_copies_work_as_on_a_disk),
        T(no_name_leads_outside),
        T(links_are_told_and_never_followed),
        T(fifos_and_devices_are_not_opened),
        T(a_read_only_share_changes_nothing),
        T(owners_and_privileges_are_the_guests_own),
        T(extended_attributes_of_users_are_kept),
        T(names_move_and_files_stay),
        T(folders_are_read_in_pieces),
        T(nothing_is_answered_before_the_session_begins),
        T(a_saved_session_goes_on),
        T(many_requests_are_served_by_threads),
        T(a_server_that_is_gone_gives_errors_and_nothing_waits),
        T(a_server_says_what_cannot_be_shared),
        T(a_server_survives_what_is_no_request),
    };
    int failed;

    signal(SIGPIPE, SIG_IGN); /* as viv-vm has it */
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    served = true;
    return failed + cmocka_run_group_tests(by_a_process, NULL, NULL);
}
