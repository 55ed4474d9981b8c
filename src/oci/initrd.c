/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cpio archives in the "newc" format, as the kernel unpacks them (Documentation/driver-api/early-
 * userspace/buffer-format.rst). Not compressed: to unpack two megabytes costs a guest more than to
 * read them.
 */
#include "oci/initrd.h"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/write.h"

enum { MOST_MODULES = 64, MOST_BYTES = 64 << 20, CHUNK = 64 * 1024, NAME = 120 };

/* In this order, each behind those that it needs. */
static const char *const wanted[] = {"virtio_pci", "virtio_blk", "virtio_net",
                                     "vmw_vsock_virtio_transport", "virtio-rng"};

struct module {
    char name[NAME];  /* without folder and .ko */
    char needs[1024]; /* paths, with spaces between them */
    struct buf data;
    bool put;
};

struct modules {
    struct module *one;
    unsigned count;
};

/* ------------------------------------------------------------------ cpio */

static void align(struct buf *out) { buf_grow(out, -out->len & 3); }

static void put(struct buf *out, const char *name, unsigned mode, const void *data, size_t n) {
    static const char zero[] = "00000000";

    buf_printf(out, "070701%08x%08x%s%s%08x%s%08zx%s%s%s%s%08zx%s", (unsigned)out->len, mode, zero,
               zero, 1u, zero, n, zero, zero, zero, zero, strlen(name) + 1, zero);
    buf_put(out, name, strlen(name) + 1);
    align(out);
    buf_put(out, data, n);
    align(out);
}

/* ------------------------------------------------------------------ modules */

/* "kernel/drivers/block/virtio_blk.ko" is virtio_blk. */
static bool name_of(const char *path, size_t n, char out[NAME]) {
    const char *slash = memrchr(path, '/', n), *name = slash ? slash + 1 : path;
    size_t len = n - (size_t)(name - path);

    if (len < 4 || len - 3 >= NAME || memcmp(name + len - 3, ".ko", 3) != 0)
        return false;
    memcpy(out, name, len - 3);
    out[len - 3] = 0;
    return true;
}

static struct module *find(struct modules *all, const char *name, bool add) {
    for (unsigned i = 0; i < all->count; i++)
        if (!strcmp(all->one[i].name, name))
            return &all->one[i];
    if (!add || all->count == MOST_MODULES)
        return NULL;
    snprintf(all->one[all->count].name, NAME, "%s", name);
    return &all->one[all->count++];
}

/* Lines "PATH: PATH PATH ...". */
static void read_dep(struct modules *all, const char *text) {
    char name[NAME];

    while (*text) {
        size_t len = strcspn(text, "\n");
        const char *colon = memchr(text, ':', len);
        struct module *m;

        if (colon && name_of(text, (size_t)(colon - text), name) && (m = find(all, name, true)))
            snprintf(m->needs, sizeof(m->needs), "%.*s", (int)(len - (size_t)(colon + 1 - text)),
                     colon + 1);
        text += len + (text[len] == '\n');
    }
}

static int read_data(struct archive *a, struct buf *out) {
    char data[CHUNK];
    la_ssize_t n;

    while ((n = archive_read_data(a, data, sizeof(data))) > 0 && out->len < MOST_BYTES)
        buf_put(out, data, (size_t)n);
    return n == 0 ? 0 : -EINVAL;
}

static int take_entry(struct modules *all, struct archive *a, struct archive_entry *e,
                      struct buf *dep) {
    const char *path = archive_entry_pathname(e), *slash = path ? strrchr(path, '/') : NULL;
    char name[NAME];
    struct module *m;

    if (!path || archive_entry_filetype(e) != AE_IFREG)
        return 0;
    if (slash && !strcmp(slash, "/modules.dep"))
        return read_data(a, dep);
    if (!name_of(path, strlen(path), name) || !(m = find(all, name, true)) || m->data.len)
        return 0;
    return read_data(a, &m->data);
}

static int read_modules(struct modules *all, const char *path, struct error *err) {
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    struct buf dep = {0};
    int r, bad = 0;

    archive_read_support_filter_gzip(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_xz(a);
    archive_read_support_format_cpio(a);
    if (archive_read_open_filename(a, path, CHUNK) != ARCHIVE_OK) {
        bad = error_set(err, -EINVAL, "the initramfs '%s' cannot be read: %s", path,
                        archive_error_string(a));
    }
    while (!bad && (r = archive_read_next_header(a, &e)) != ARCHIVE_EOF)
        if ((r != ARCHIVE_OK && r != ARCHIVE_WARN) || take_entry(all, a, e, &dep) < 0)
            bad = error_set(err, -EINVAL, "the initramfs '%s' is damaged", path);
    archive_read_free(a);
    buf_put(&dep, "", 1);
    if (!bad)
        read_dep(all, (char *)dep.data);
    buf_done(&dep);
    return bad;
}

/* With those that it needs before it. Modules that are part of this kernel are not there. */
static void put_module(struct modules *all, const char *name, struct buf *out, struct buf *order,
                       unsigned depth) {
    struct module *m = find(all, name, false);
    char path[NAME + 32], other[NAME];
    size_t at, end;

    if (!m || m->put || !m->data.len || depth > MOST_MODULES)
        return;
    m->put = true;
    /* modules.dep names what is needed last first. */
    for (end = strlen(m->needs); end; end = at) {
        at = end;
        while (at && m->needs[at - 1] != ' ')
            at--;
        if (name_of(m->needs + at, end - at, other))
            put_module(all, other, out, order, depth + 1);
        while (at && m->needs[at - 1] == ' ')
            at--;
    }
    snprintf(path, sizeof(path), "viv/%s.ko", name);
    put(out, path, S_IFREG | 0600, m->data.data, m->data.len);
    buf_printf(order, "%s.ko\n", name);
}

static int put_modules(struct buf *out, const char *path, struct error *err) {
    struct modules all = {.one = calloc(MOST_MODULES, sizeof(*all.one))};
    struct buf order = {0};
    int r = all.one ? read_modules(&all, path, err) : error_set(err, -ENOMEM, "out of memory");

    for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]) && r == 0; i++)
        put_module(&all, wanted[i], out, &order, 0);
    put(out, "viv/modules", S_IFREG | 0600, order.data, order.len);
    for (unsigned i = 0; i < all.count; i++)
        buf_done(&all.one[i].data);
    free(all.one);
    buf_done(&order);
    return r;
}

/* ------------------------------------------------------------------ the program */

static int read_file(const char *path, struct buf *out, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;

    while (n > 0 && out->len < MOST_BYTES) {
        void *p = buf_grow(out, CHUNK);

        n = read(fd, p, CHUNK);
        out->len -= CHUNK - (n > 0 ? (size_t)n : 0);
    }
    if (n < 0)
        error_set(err, -errno, "'%s' cannot be read: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return n < 0 ? -EIO : 0;
}

/* Without symbols and debugging information: what lies behind the last segment. */
static void strip(struct buf *b) {
    Elf64_Ehdr *h = (Elf64_Ehdr *)b->data;
    uint64_t end = sizeof(*h);

    if (b->len < sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 ||
        h->e_phentsize != sizeof(Elf64_Phdr) ||
        h->e_phoff + (uint64_t)h->e_phnum * sizeof(Elf64_Phdr) > b->len)
        return;
    for (unsigned i = 0; i < h->e_phnum; i++) {
        const Elf64_Phdr *p = (const Elf64_Phdr *)(b->data + h->e_phoff) + i;

        if (p->p_offset + p->p_filesz > end)
            end = p->p_offset + p->p_filesz;
    }
    if (end > b->len)
        return;
    h->e_shoff = 0;
    h->e_shnum = h->e_shstrndx = 0;
    b->len = end;
}

static int write_file(const char *path, const struct buf *b, struct error *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), r = 0;

    if (fd < 0 || write_all(fd, b->data, b->len) < 0 || fsync(fd) < 0)
        r = error_set(err, -errno, "'%s' cannot be written: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return r;
}

int oci_initrd_write(const char *path, const char *modules, const char *agent, const json_t *config,
                     struct error *err) {
    struct buf out = {0}, program = {0};
    char *text = json_dumps(config, JSON_COMPACT);
    int r;

    if (!text)
        return error_set(err, -ENOMEM, "out of memory");
    r = read_file(agent, &program, err);
    if (r == 0) {
        strip(&program);
        put(&out, "dev", S_IFDIR | 0755, NULL, 0);
        put(&out, "viv", S_IFDIR | 0700, NULL, 0);
        put(&out, "root", S_IFDIR | 0700, NULL, 0);
        put(&out, "init", S_IFREG | 0755, program.data, program.len);
        put(&out, "viv/config.json", S_IFREG | 0600, text, strlen(text));
        r = put_modules(&out, modules, err);
    }
    if (r == 0) {
        put(&out, "TRAILER!!!", 0, NULL, 0);
        r = write_file(path, &out, err);
    }
    buf_done(&program);
    buf_done(&out);
    free(text);
    return r;
}
