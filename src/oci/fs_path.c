/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Paths within a file system that is being written, and what is taken out of it again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/fs_internal.h"

enum { MOST_LINKS = 40, MOST_DEPTH = 1000 };

int fs_fail(const struct oci_fs *fs, errcode_t code, const char *path, struct error *err) {
    if (code == EXT2_ET_BLOCK_ALLOC_FAIL || code == EXT2_ET_INODE_ALLOC_FAIL ||
        code == EXT2_ET_INODE_TABLE_WRITE)
        return error_set(
            err, -EFBIG,
            "the image does not fit into its disk of %llu MiB (at '%.200s'): make it "
            "with a larger one",
            (unsigned long long)ext2fs_blocks_count(fs->fs->super) * fs->fs->blocksize >> 20, path);
    if (code == EXT2_ET_EA_NO_SPACE)
        return error_set(err, -E2BIG, "the extended attributes of '%.300s' are too large", path);
    return error_set(err, -EIO, "'%.300s' cannot be written into the image: %s", path,
                     error_message(code));
}

int fs_read_inode(struct oci_fs *fs, ext2_ino_t ino, struct ext2_inode *ret, struct error *err) {
    errcode_t code = ext2fs_read_inode(fs->fs, ino, ret);

    return code ? fs_fail(fs, code, "an inode", err) : 0;
}

ext2_ino_t fs_lookup(struct oci_fs *fs, ext2_ino_t folder, const char *name) {
    ext2_ino_t ino = 0;

    return ext2fs_lookup(fs->fs, folder, name, (int)strlen(name), NULL, &ino) ? 0 : ino;
}

/* ------------------------------------------------------------------ finding */

/* "./a//b/../c/" as "a/c". */
static int clean(const char *in, char out[FS_PATH], struct error *err) {
    size_t n = 0;

    for (const char *p = in; *p;) {
        size_t len = strcspn(p, "/");

        if (len == 2 && !strncmp(p, "..", 2)) {
            if (!n)
                return error_set(err, -EINVAL, "the path '%.200s' leads out of the image", in);
            while (n && out[--n] != '/')
                ;
        } else if (len && !(len == 1 && *p == '.')) {
            if (len >= FS_NAME || n + len + 2 > FS_PATH)
                return error_set(err, -ENAMETOOLONG, "the path '%.200s' is too long", in);
            if (n)
                out[n++] = '/';
            memcpy(out + n, p, len);
            n += len;
        }
        p += len + (p[len] == '/');
    }
    out[n] = 0;
    return 0;
}

static int read_link(struct oci_fs *fs, ext2_ino_t ino, struct ext2_inode *inode,
                     char out[FS_PATH]) {
    ext2_file_t f;
    unsigned n = 0;
    errcode_t code;

    if (ext2fs_is_fast_symlink(inode)) {
        snprintf(out, sizeof(inode->i_block) + 1, "%s", (const char *)inode->i_block);
        return 0;
    }
    code = ext2fs_file_open(fs->fs, ino, 0, &f);
    if (code)
        return -EIO;
    code = ext2fs_file_read(f, out, FS_PATH - 1, &n);
    ext2fs_file_close(f);
    out[code ? 0 : n] = 0;
    return code ? -EIO : 0;
}

struct walk {
    ext2_ino_t at;
    char rest[FS_PATH]; /* folders that are still to be gone through */
    unsigned links;
};

/* What a link says comes before the rest. */
static int follow(struct oci_fs *fs, struct walk *w, ext2_ino_t ino, struct ext2_inode *inode,
                  const char *path, struct error *err) {
    char target[FS_PATH], rest[FS_PATH];

    if (++w->links > MOST_LINKS)
        return error_set(err, -ELOOP, "the path '%.200s' has symbolic links without end", path);
    if (read_link(fs, ino, inode, target) < 0)
        return error_set(err, -EIO, "a symbolic link of '%.200s' cannot be read", path);
    snprintf(rest, sizeof(rest), "%s", w->rest);
    if (snprintf(w->rest, sizeof(w->rest), "%s/%s", target, rest) >= FS_PATH)
        return error_set(err, -ENAMETOOLONG, "the path '%.200s' becomes too long", path);
    if (*target == '/')
        w->at = EXT2_ROOT_INO;
    return 0;
}

/* One folder further. */
static int go(struct oci_fs *fs, struct walk *w, const char *name, bool make, const char *path,
              struct error *err) {
    ext2_ino_t ino = fs_lookup(fs, w->at, name); /* of the root ".." is the root */
    struct ext2_inode inode;

    if (!ino && !make)
        return -ENOENT;
    if (!ino) {
        if (fs_mkdir(fs, w->at, name, &ino, path, err) < 0)
            return -EIO;
    } else if (make && strcmp(name, "..") != 0) {
        seen_add(&fs->seen, w->at, name, strlen(name));
    }
    if (fs_read_inode(fs, ino, &inode, err) < 0)
        return -EIO;
    if (LINUX_S_ISLNK(inode.i_mode))
        return follow(fs, w, ino, &inode, path, err);
    if (!LINUX_S_ISDIR(inode.i_mode))
        return error_set(err, -ENOTDIR, "the path '%.200s' leads through a file", path);
    w->at = ino;
    return 0;
}

static int walk(struct oci_fs *fs, struct walk *w, bool make, const char *path, struct error *err) {
    char name[FS_NAME];
    int r = 0;

    while (r == 0 && *w->rest) {
        size_t len = strcspn(w->rest, "/");

        if (len >= FS_NAME)
            return error_set(err, -ENAMETOOLONG, "the path '%.200s' is too long", path);
        memcpy(name, w->rest, len);
        name[len] = 0;
        memmove(w->rest, w->rest + len + (w->rest[len] == '/'),
                strlen(w->rest + len + (w->rest[len] == '/')) + 1);
        if (len && strcmp(name, ".") != 0)
            r = go(fs, w, name, make, path, err);
    }
    return r;
}

int fs_parent(struct oci_fs *fs, const char *given, bool make, ext2_ino_t *ret_folder,
              char name[FS_NAME], struct error *err) {
    char path[FS_PATH], *slash;
    struct walk w = {.at = EXT2_ROOT_INO};
    int r = clean(given, path, err);

    if (r < 0)
        return r;
    slash = strrchr(path, '/');
    snprintf(name, FS_NAME, "%.255s", slash ? slash + 1 : path);
    if (!slash) {
        *ret_folder = EXT2_ROOT_INO;
        return 0;
    }
    *slash = 0;
    if (fs->cached_ino && !strcmp(path, fs->cached)) {
        *ret_folder = fs->cached_ino;
        return 0;
    }
    snprintf(w.rest, sizeof(w.rest), "%s", path);
    r = walk(fs, &w, make, given, err);
    if (r < 0)
        return r;
    *ret_folder = w.at;
    if (make) { /* what was gone through is seen by this layer */
        snprintf(fs->cached, sizeof(fs->cached), "%s", path);
        fs->cached_ino = w.at;
    }
    return 0;
}

/* ------------------------------------------------------------------ removing */

struct names {
    char (*name)[FS_NAME];
    size_t count;
};

static int take_name(ext2_ino_t dir, int entry, struct ext2_dir_entry *e, int offset, int blocksize,
                     char *buf, void *opaque) {
    struct names *list = opaque;
    int n = ext2fs_dirent_name_len(e);

    if ((n == 1 && e->name[0] == '.') || (n == 2 && !strncmp(e->name, "..", 2)) || !e->inode)
        return 0;
    if (list->count % 64 == 0) {
        void *more = realloc(list->name, (list->count + 64) * FS_NAME);

        if (!more)
            abort();
        list->name = more;
    }
    snprintf(list->name[list->count++], FS_NAME, "%.*s", n, e->name);
    return 0;
}

static int list_folder(struct oci_fs *fs, ext2_ino_t folder, struct names *ret, struct error *err) {
    errcode_t code = ext2fs_dir_iterate2(fs->fs, folder, 0, NULL, take_name, ret);

    return code ? fs_fail(fs, code, "a folder", err) : 0;
}

static int free_inode(struct oci_fs *fs, ext2_ino_t ino, struct ext2_inode *inode,
                      struct error *err) {
    bool folder = LINUX_S_ISDIR(inode->i_mode);
    errcode_t code = 0;

    if (ext2fs_file_acl_block(fs->fs, inode))
        code = ext2fs_free_ext_attr(fs->fs, ino, NULL);
    if (!code)
        code = ext2fs_read_inode(fs->fs, ino, inode);
    if (!code && ext2fs_inode_has_valid_blocks2(fs->fs, inode))
        code = ext2fs_punch(fs->fs, ino, inode, NULL, 0, ~0ull);
    if (code)
        return fs_fail(fs, code, "what a layer removes", err);
    inode->i_links_count = 0;
    inode->i_dtime = fs->fs->super->s_mkfs_time; /* a small number would be a link of orphans */
    ext2fs_write_inode(fs->fs, ino, inode);
    ext2fs_inode_alloc_stats2(fs->fs, ino, -1, folder);
    return 0;
}

static int drop_name(struct oci_fs *fs, ext2_ino_t folder, const char *name, ext2_ino_t ino,
                     struct ext2_inode *inode, struct error *err) {
    errcode_t code = ext2fs_unlink(fs->fs, folder, name, ino, 0);
    struct ext2_inode parent;

    if (code)
        return fs_fail(fs, code, name, err);
    if (LINUX_S_ISDIR(inode->i_mode)) {
        if (fs_read_inode(fs, folder, &parent, err) < 0)
            return -EIO;
        parent.i_links_count -= parent.i_links_count > 2;
        ext2fs_write_inode(fs->fs, folder, &parent);
        return free_inode(fs, ino, inode, err);
    }
    if (inode->i_links_count > 1) {
        inode->i_links_count--;
        ext2fs_write_inode(fs->fs, ino, inode);
        return 0;
    }
    return free_inode(fs, ino, inode, err);
}

/* With `lower`, what this layer made stays, and folders that hold such things. */
static int delete_tree(struct oci_fs *fs, ext2_ino_t folder, const char *name, bool lower,
                       unsigned depth, struct error *err);

static int empty(struct oci_fs *fs, ext2_ino_t folder, bool lower, unsigned depth,
                 struct error *err) {
    struct names list = {0};
    int r = list_folder(fs, folder, &list, err);

    for (size_t i = 0; i < list.count && r == 0; i++)
        r = delete_tree(fs, folder, list.name[i], lower, depth + 1, err);
    free(list.name);
    return r;
}

static int delete_tree(struct oci_fs *fs, ext2_ino_t folder, const char *name, bool lower,
                       unsigned depth, struct error *err) {
    ext2_ino_t ino = fs_lookup(fs, folder, name);
    struct ext2_inode inode;
    bool stays = lower && seen_has(&fs->seen, folder, name, strlen(name));
    int r;

    if (!ino)
        return 0;
    if (depth > MOST_DEPTH)
        return error_set(err, -EINVAL, "folders of the image lie in each other without end");
    r = fs_read_inode(fs, ino, &inode, err);
    if (r == 0 && LINUX_S_ISDIR(inode.i_mode))
        r = empty(fs, ino, lower, depth, err);
    if (r < 0 || stays)
        return r;
    fs->cached_ino = 0;
    r = fs_read_inode(fs, ino, &inode, err);
    return r < 0 ? r : drop_name(fs, folder, name, ino, &inode, err);
}

int fs_delete(struct oci_fs *fs, ext2_ino_t folder, const char *name, struct error *err) {
    return delete_tree(fs, folder, name, false, 0, err);
}

int fs_remove(struct oci_fs *fs, const char *path, struct error *err) {
    char name[FS_NAME];
    ext2_ino_t folder;
    int r = fs_parent(fs, path, false, &folder, name, err);

    if (r < 0)
        return r == -ENOENT && !err->code ? 0 : r;
    if (!*name)
        return empty(fs, EXT2_ROOT_INO, true, 0, err);
    return delete_tree(fs, folder, name, true, 0, err);
}

int fs_empty(struct oci_fs *fs, const char *path, struct error *err) {
    char name[FS_NAME];
    ext2_ino_t folder, ino;
    struct ext2_inode inode;
    int r = fs_parent(fs, path, false, &folder, name, err);

    if (r < 0)
        return r == -ENOENT && !err->code ? 0 : r;
    ino = *name ? fs_lookup(fs, folder, name) : EXT2_ROOT_INO;
    if (!ino)
        return 0;
    if (fs_read_inode(fs, ino, &inode, err) < 0)
        return -EIO;
    return LINUX_S_ISDIR(inode.i_mode) ? empty(fs, ino, true, 0, err) : 0;
}
