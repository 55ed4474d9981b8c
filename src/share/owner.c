/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who owns a file for the guest.
 *
 * All that a guest makes belongs, on the host, to the user that the machine runs as; that user is
 * the guest's root. What the guest says beyond that (other owners, set-user-ID and the like) is
 * a record in an extended attribute of the file, "MODE UID GID", and is never done on the host: a
 * guest cannot make a program there that runs with somebody's rights. A record holds as long as the
 * host's permission bits are those that went with it: chmod on the host wins.
 *
 * The guest cannot see or change records, and those of other users' files count for nothing.
 * Links, sockets and FIFOs can have none, nor files of file systems without extended attributes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "share/share_internal.h"

#define RECORD "user.vivarium.owner"

enum { NOBODY = 65534, BITS = 07777 };

bool owner_is_record(const char *xattr) { return !strcmp(xattr, RECORD); }

static uint32_t map(uint32_t id, uint32_t ours) {
    if (id == ours)
        return 0;
    return id || !ours ? id : NOBODY; /* the host's root is nobody to a guest of somebody else */
}

static struct owner unrecorded(const struct share *s, const struct statx *st) {
    return (struct owner){st->stx_mode & BITS, map(st->stx_uid, s->uid), map(st->stx_gid, s->gid)};
}

/* The bits that the host's file has: we must be able to open it whatever the guest forbids. */
static uint32_t host_bits(const struct statx *st, uint32_t mode) {
    return (mode & 0777) | (S_ISDIR(st->stx_mode) ? 0700 : 0600);
}

static bool may_have_record(const struct share *s, const struct statx *st) {
    return st->stx_uid == s->uid && (S_ISREG(st->stx_mode) || S_ISDIR(st->stx_mode));
}

void owner_read(const struct share *s, int fd, const struct statx *st, struct owner *ret) {
    char text[40];
    struct owner o;
    ssize_t n;
    int file;

    *ret = unrecorded(s, st);
    if (!may_have_record(s, st))
        return;
    file = share_reopen(s, fd, O_RDONLY);
    if (file < 0)
        return;
    n = fgetxattr(file, RECORD, text, sizeof(text) - 1);
    close(file);
    if (n <= 0)
        return;
    text[n] = 0;
    if (sscanf(text, "%o %u %u", &o.mode, &o.uid, &o.gid) == 3 && !(o.mode & ~(uint32_t)BITS) &&
        host_bits(st, o.mode) == (st->stx_mode & BITS))
        *ret = o;
}

static int set_record(const struct share *s, int fd, const struct owner *o, bool needed) {
    int file = share_reopen(s, fd, O_RDONLY), r;
    char text[40];

    if (file < 0)
        return file;
    snprintf(text, sizeof(text), "%o %u %u", o->mode, o->uid, o->gid);
    r = needed ? fsetxattr(file, RECORD, text, strlen(text), 0) : fremovexattr(file, RECORD);
    r = r < 0 ? -errno : 0;
    close(file);
    if (!needed)
        return 0;
    return r == -EOPNOTSUPP ? -EPERM : r;
}

static int set_bits(const struct share *s, int fd, uint32_t bits) {
    char name[16];

    snprintf(name, sizeof(name), "%d", fd);
    return fchmodat(s->proc_fd, name, bits, 0) < 0 ? -errno : 0;
}

static bool same(const struct owner *a, const struct owner *b) {
    return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid;
}

int owner_write(const struct share *s, int fd, const struct statx *st, const struct owner *o) {
    uint32_t bits = host_bits(st, o->mode);
    struct statx after = *st;
    struct owner seen;
    int r;

    if (S_ISLNK(st->stx_mode))
        return 0;
    owner_read(s, fd, st, &seen);
    if (same(&seen, o))
        return 0;
    if (st->stx_uid != s->uid) /* the host says who may */
        return o->uid == seen.uid && o->gid == seen.gid && o->mode <= 0777
                   ? set_bits(s, fd, o->mode)
                   : -EPERM;
    r = (st->stx_mode & BITS) == bits ? 0 : set_bits(s, fd, bits);
    if (r < 0 || !may_have_record(s, st))
        return r;
    after.stx_mode = (uint16_t)((st->stx_mode & S_IFMT) | bits);
    seen = unrecorded(s, &after);
    return set_record(s, fd, o, !same(&seen, o));
}

void owner_drop_privileges(const struct share *s, int fd) {
    struct statx st;
    struct owner o;

    if (share_statx(fd, "", &st) < 0 || !S_ISREG(st.stx_mode))
        return;
    owner_read(s, fd, &st, &o);
    if (!(o.mode & (S_ISUID | S_ISGID)))
        return;
    /* Set-group-ID without the right to execute meant mandatory locks, and stays. */
    o.mode &= ~(uint32_t)S_ISUID;
    if (o.mode & S_IXGRP)
        o.mode &= ~(uint32_t)S_ISGID;
    owner_write(s, fd, &st, &o);
}

struct owner owner_of_new(const struct call *c, int folder_fd, uint32_t mode) {
    struct owner o = {mode & BITS, c->h.uid, c->h.gid}, folder;
    struct statx st;

    if (share_statx(folder_fd, "", &st) < 0)
        return o;
    owner_read(c->s, folder_fd, &st, &folder);
    if (!(folder.mode & S_ISGID))
        return o;
    o.gid = folder.gid;
    if (S_ISDIR(mode))
        o.mode |= S_ISGID;
    return o;
}
