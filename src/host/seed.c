/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing a FAT12 file system. Specification: Microsoft "FAT32 File System Specification" 1.03,
 * sections on FAT12 and on long names (VFAT).
 *
 * A cluster is a sector, and files lie one behind the other, so that each chain is a run. Names are
 * long ones (NoCloud's have lower case and more than eight letters), each with a short one made
 * from its number. Times are the first that FAT knows, so that the bytes depend on the files alone.
 */
#include "host/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/write.h"

enum {
    SECTOR = 512,
    ENTRY = 32,
    ROOT_ENTRIES = 512, /* 16 files with 21 entries each fit */
    ROOT_SECTORS = ROOT_ENTRIES * ENTRY / SECTOR,
    FATS = 2,
    FAT_SECTORS = 12, /* of one: for the 4084 clusters beyond which it would be FAT16 */
    FIRST_CLUSTER = 2,
    LEAST_CLUSTERS = 64,
    PER_TRACK = 32, /* a geometry that nobody heeds but that must divide the size */
    HEADS = 2,
    MEDIA = 0xf8,
    ATTR_READ_ONLY = 1,
    ATTR_LABEL = 8,
    ATTR_LONG_NAME = 15,
    LAST_LONG = 0x40,
    LONG_CHARS = 13,   /* of a name, in an entry */
    FIRST_DATE = 0x21, /* 1980-01-01 */
    END_OF_CHAIN = 0xfff,
};

static const char label[] = "CIDATA     ";

static unsigned sectors_of(size_t bytes) { return (unsigned)((bytes + SECTOR - 1) / SECTOR); }

/* The rest of the last track becomes clusters as well; with SEED_BYTES they are still few enough.
 */
static unsigned sectors_for(unsigned clusters) {
    const unsigned fixed = 1 + FATS * FAT_SECTORS + ROOT_SECTORS;
    unsigned least = fixed + (clusters < LEAST_CLUSTERS ? LEAST_CLUSTERS : clusters);

    return (least + PER_TRACK - 1) / PER_TRACK * PER_TRACK;
}

/* ------------------------------------------------------------------ checks */

static bool name_is_good(const char *name) {
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t len = strlen(name);

    return len && len <= SEED_NAME && strspn(name, good) == len && name[0] != '.' &&
           name[len - 1] != '.';
}

static int check(const struct seed_file *files, unsigned n, unsigned *ret_clusters,
                 struct error *err) {
    size_t bytes = 0;

    *ret_clusters = 0;
    if (n > SEED_FILES)
        return error_set(err, -EINVAL, "a seed disk holds at most %d files", SEED_FILES);
    for (unsigned i = 0; i < n; i++) {
        if (!name_is_good(files[i].name))
            return error_set(err, -EINVAL, "'%.60s' cannot be the name of a file on a seed disk",
                             files[i].name);
        for (unsigned k = 0; k < i; k++)
            if (!strcasecmp(files[i].name, files[k].name))
                return error_set(err, -EINVAL, "there are two files '%.60s' for a seed disk",
                                 files[i].name);
        if (files[i].len > SEED_BYTES - bytes)
            return error_set(err, -EFBIG,
                             "the texts for the guest are larger than the %d KiB that a seed disk "
                             "holds; make them shorter",
                             SEED_BYTES / 1024);
        bytes += files[i].len;
        *ret_clusters += sectors_of(files[i].len);
    }
    return 0;
}

/* ------------------------------------------------------------------ parts */

static void put_boot_sector(uint8_t *p, unsigned sectors) {
    static const uint8_t jump[] = {0xeb, 0x3c, 0x90};
    uint8_t *code = p + 0x3e;

    memcpy(p, jump, sizeof(jump));
    memcpy(p + 3, "VIVARIUM", 8);
    store_le16(p + 11, SECTOR);
    p[13] = 1; /* sectors a cluster */
    store_le16(p + 14, 1);
    p[16] = FATS;
    store_le16(p + 17, ROOT_ENTRIES);
    store_le16(p + 19, (uint16_t)sectors);
    p[21] = MEDIA;
    store_le16(p + 22, FAT_SECTORS);
    store_le16(p + 24, PER_TRACK);
    store_le16(p + 26, HEADS);
    p[36] = 0x80; /* the drive's number; then: an extended boot record follows */
    p[38] = 0x29;
    store_le32(p + 39, 0x56495631);
    memcpy(p + 43, label, 11);
    memcpy(p + 54, "FAT12   ", 8);
    memcpy(code, "\xf4\xeb\xfd", 3); /* hlt; jump back to it */
    p[510] = 0x55;
    p[511] = 0xaa;
}

static void set_fat(uint8_t *fat, unsigned cluster, unsigned value) {
    uint8_t *p = fat + cluster * 3 / 2;
    unsigned old = load_le16(p);

    store_le16(p, (uint16_t)(cluster & 1 ? (old & 0x000f) | value << 4 : (old & 0xf000) | value));
}

/* A run of clusters as a chain. */
static void set_chain(uint8_t *fat, unsigned first, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        set_fat(fat, first + i, i + 1 < count ? first + i + 1 : END_OF_CHAIN);
}

static uint8_t checksum(const uint8_t *name) {
    uint8_t sum = 0;

    for (unsigned i = 0; i < 11; i++)
        sum = (uint8_t)((sum >> 1 | sum << 7) + name[i]);
    return sum;
}

/* Part `number` (from 1) of a long name. */
static void put_long_name(uint8_t *p, const char *name, unsigned number, bool last, uint8_t sum) {
    static const uint8_t at[LONG_CHARS] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    size_t len = strlen(name), from = (size_t)(number - 1) * LONG_CHARS;

    p[0] = (uint8_t)(number | (last ? LAST_LONG : 0));
    p[11] = ATTR_LONG_NAME;
    p[13] = sum;
    for (unsigned i = 0; i < LONG_CHARS; i++)
        store_le16(p + at[i], from + i < len    ? (uint8_t)name[from + i]
                              : from + i == len ? 0
                                                : 0xffff);
}

static void put_entry(uint8_t *p, const char short_name[11], unsigned attributes, unsigned cluster,
                      size_t size) {
    memcpy(p, short_name, 11);
    p[11] = (uint8_t)attributes;
    store_le16(p + 16, FIRST_DATE);
    store_le16(p + 18, FIRST_DATE);
    store_le16(p + 24, FIRST_DATE);
    store_le16(p + 26, (uint16_t)cluster);
    store_le32(p + 28, (uint32_t)size);
}

/* Returns where the next entry goes. */
static uint8_t *put_name(uint8_t *p, const struct seed_file *f, unsigned number, unsigned cluster) {
    unsigned parts = (unsigned)((strlen(f->name) + LONG_CHARS - 1) / LONG_CHARS);
    char name[12];
    uint8_t sum;

    snprintf(name, sizeof(name), "SEED%02u~1   ", number % 100);
    sum = checksum((const uint8_t *)name);
    for (unsigned i = parts; i > 0; i--, p += ENTRY)
        put_long_name(p, f->name, i, i == parts, sum);
    put_entry(p, name, ATTR_READ_ONLY, f->len ? cluster : 0, f->len);
    return p + ENTRY;
}

/* ------------------------------------------------------------------ all of it */

int seed_make(const struct seed_file *files, unsigned n, struct buf *out, struct error *err) {
    unsigned clusters, cluster = FIRST_CLUSTER;
    uint8_t *image, *fat, *entry, *data;
    unsigned sectors;
    int r = check(files, n, &clusters, err);

    if (r < 0)
        return r;
    sectors = sectors_for(clusters);
    image = buf_grow(out, (size_t)sectors * SECTOR);
    fat = image + SECTOR;
    entry = fat + (size_t)FATS * FAT_SECTORS * SECTOR;
    data = entry + (size_t)ROOT_SECTORS * SECTOR;
    put_boot_sector(image, sectors);
    set_fat(fat, 0, 0xf00 | MEDIA);
    set_fat(fat, 1, END_OF_CHAIN);
    put_entry(entry, label, ATTR_LABEL, 0, 0);
    entry += ENTRY;
    for (unsigned i = 0; i < n; i++) {
        unsigned count = sectors_of(files[i].len);

        entry = put_name(entry, &files[i], i, cluster);
        set_chain(fat, cluster, count);
        if (files[i].len)
            memcpy(data + (size_t)(cluster - FIRST_CLUSTER) * SECTOR, files[i].data, files[i].len);
        cluster += count;
    }
    memcpy(fat + (size_t)FAT_SECTORS * SECTOR, fat, (size_t)FAT_SECTORS * SECTOR);
    return 0;
}

int seed_write(int folder, const char *name, const struct seed_file *files, unsigned n,
               struct error *err) {
    struct buf image = {0};
    char part[SEED_NAME + 8];
    int fd, r = seed_make(files, n, &image, err);

    if (r < 0)
        return r;
    snprintf(part, sizeof(part), "%.*s.new", SEED_NAME, name);
    fd = openat(folder, part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    r = fd < 0 ? -errno : write_all(fd, image.data, image.len);
    if (fd >= 0 && close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0 && renameat(folder, part, folder, name) < 0)
        r = -errno;
    if (r < 0)
        unlinkat(folder, part, 0);
    buf_done(&image);
    return r < 0 ? error_set(err, r, "the seed disk '%s' cannot be written: %s", name, strerror(-r))
                 : 0;
}
