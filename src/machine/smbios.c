/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SMBIOS 3 tables. Source: DMTF DSP0134, System Management BIOS 3.4, chapters 5 to 7.
 *
 * A structure is a fixed part, then its strings, which the fixed part names by their number, each
 * with a zero behind it, and one more zero.
 */
#include "machine/smbios.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "machine/map.h"

enum {
    HANDLE_BOARD = 0x200,
    HANDLE_CHASSIS = 0x300,
    HANDLE_CPU = 0x400,
    HANDLE_ARRAY = 0x1000,
    HANDLE_MEMORY = 0x1100,
    HANDLE_MAPPED = 0x1300,
    HANDLE_BOOT = 0x2000,
    HANDLE_END = 0x7f00
};
enum { FIXED_MAX = 0x60, UUID_SIZE = 16 };
#define MODULE_MAX (16ull << 30) /* of memory: larger machines have several */

/* ---- settings ---- */

static const struct {
    unsigned type, offset; /* of the field with the string's number; 0: handled by itself */
    const char *name, *standard;
} fields[] = {
    {0, 0x04, "vendor", "Vivarium"},
    {0, 0x05, "version", "1.0"},
    {0, 0x08, "date", "01/01/2024"},
    {1, 0x04, "manufacturer", "Vivarium"},
    {1, 0x05, "product", "Virtual Machine"},
    {1, 0x06, "version", "1.0"},
    {1, 0x07, "serial", NULL},
    {1, 0x19, "sku", NULL},
    {1, 0x1a, "family", NULL},
    {1, 0, "uuid", NULL},
    {2, 0x04, "manufacturer", "Vivarium"},
    {2, 0x05, "product", "q35"},
    {2, 0x06, "version", "1.0"},
    {2, 0x07, "serial", NULL},
    {2, 0x08, "asset", NULL},
    {2, 0x0a, "location", NULL},
    {3, 0x04, "manufacturer", "Vivarium"},
    {3, 0x06, "version", "1.0"},
    {3, 0x07, "serial", NULL},
    {3, 0x08, "asset", NULL},
    {4, 0x04, "socket", "CPU 0"},
    {4, 0x07, "manufacturer", "Vivarium"},
    {4, 0x10, "version", "1.0"},
    {4, 0x20, "serial", NULL},
    {4, 0x21, "asset", NULL},
    {4, 0x22, "part", NULL},
    {11, 0, "value", NULL},
    {17, 0x10, "locator", "DIMM 0"},
    {17, 0x17, "manufacturer", "Vivarium"},
    {17, 0x18, "serial", NULL},
    {17, 0x19, "asset", NULL},
    {17, 0x1a, "part", NULL},
};
enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

/* 8-4-4-4-12 hexadecimal digits; the first three groups are little-endian in the table. */
static bool parse_uuid(const char *s, uint8_t ret[UUID_SIZE]) {
    static const uint8_t place[UUID_SIZE] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    unsigned n = 0;

    for (; *s && n < 2 * UUID_SIZE; s++) {
        unsigned v = isdigit((unsigned char)*s) ? (unsigned)(*s - '0')
                                                : (unsigned)(tolower((unsigned char)*s) - 'a') + 10;

        if (*s == '-' && (n == 8 || n == 12 || n == 16 || n == 20))
            continue;
        if (!isxdigit((unsigned char)*s))
            return false;
        ret[place[n / 2]] = (uint8_t)(n % 2 ? ret[place[n / 2]] | v : v << 4);
        n++;
    }
    return n == 2 * UUID_SIZE && !*s;
}

int smbios_check(unsigned type, const char *name, const char *value, struct error *err) {
    uint8_t uuid[UUID_SIZE];
    char known[300] = "";

    for (unsigned i = 0; i < FIELDS; i++) {
        if (fields[i].type != type)
            continue;
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", *known ? ", " : "",
                 fields[i].name);
        if (strcmp(fields[i].name, name) != 0)
            continue;
        if (!*value || strlen(value) > SMBIOS_TEXT_MAX)
            return error_set(err, -EINVAL, "%s= takes 1 to %d characters", name, SMBIOS_TEXT_MAX);
        if (!strcmp(name, "uuid") && !parse_uuid(value, uuid))
            return error_set(err, -EINVAL,
                             "'%s' is no UUID: write it as 01234567-89ab-cdef-0123-456789abcdef",
                             value);
        return 0;
    }
    if (!*known)
        return error_set(err, -EINVAL, "type=%u cannot be set: take 0, 1, 2, 3, 4, 11 or 17", type);
    return error_set(err, -EINVAL, "type=%u has no '%s': it has %s", type, name, known);
}

static const char *setting(const struct smbios_config *c, unsigned type, const char *name) {
    const char *value = NULL;

    for (unsigned i = 0; i < c->settings; i++) /* the last one counts */
        if (c->setting[i].type == type && !strcmp(c->setting[i].name, name))
            value = c->setting[i].value;
    return value;
}

/* ---- structures ---- */

struct structure {
    struct buf *out;
    const struct smbios_config *config;
    uint8_t fixed[FIXED_MAX];
    char text[2048];
    size_t text_len;
    unsigned strings;
};

static uint8_t string(struct structure *s, const char *text) {
    size_t n = strlen(text) + 1;

    if (s->text_len + n > sizeof(s->text))
        return 0;
    memcpy(s->text + s->text_len, text, n);
    s->text_len += n;
    return (uint8_t)++s->strings;
}

static struct structure begin(struct buf *out, const struct smbios_config *c, unsigned type,
                              unsigned length, unsigned handle) {
    struct structure s = {.out = out, .config = c};

    s.fixed[0] = (uint8_t)type;
    s.fixed[1] = (uint8_t)length;
    store_le16(s.fixed + 2, (uint16_t)handle);
    for (unsigned i = 0; i < FIELDS; i++) {
        const char *value = fields[i].type == type ? setting(c, type, fields[i].name) : NULL;

        if (fields[i].type != type || !fields[i].offset)
            continue;
        if (!value)
            value = fields[i].standard;
        if (value)
            s.fixed[fields[i].offset] = string(&s, value);
    }
    return s;
}

static void end(struct structure *s) {
    buf_put(s->out, s->fixed, s->fixed[1]);
    buf_put(s->out, s->text, s->text_len);
    buf_grow(s->out, s->text_len ? 1 : 2);
}

static void bios(struct buf *b, const struct smbios_config *c) {
    struct structure s = begin(b, c, 0, 0x1a, 0);

    store_le16(s.fixed + 6, 0xe800);
    store_le64(s.fixed + 0x0a, 1 << 3); /* no characteristics */
    s.fixed[0x13] = 0x1c;               /* UEFI, virtual machine, targeted content */
    s.fixed[0x14] = 1;
    s.fixed[0x16] = s.fixed[0x17] = 0xff;
    end(&s);
}

static void machine(struct buf *b, const struct smbios_config *c) {
    struct structure s = begin(b, c, 1, 0x1b, 0x100);
    const char *uuid = setting(c, 1, "uuid");

    if (uuid)
        parse_uuid(uuid, s.fixed + 8);
    s.fixed[0x18] = 6; /* wake-up type: power switch */
    end(&s);
    s = begin(b, c, 2, 0x0f, HANDLE_BOARD);
    s.fixed[0x09] = 1;
    store_le16(s.fixed + 0x0b, HANDLE_CHASSIS);
    s.fixed[0x0d] = 10; /* motherboard */
    end(&s);
    s = begin(b, c, 3, 0x16, HANDLE_CHASSIS);
    s.fixed[0x05] = 1; /* other */
    memset(s.fixed + 0x09, 3, 3);
    s.fixed[0x0c] = 2;
    end(&s);
}

static void processors(struct buf *b, const struct smbios_config *c) {
    for (unsigned i = 0; i < c->cpus; i++) {
        struct structure s = begin(b, c, 4, 0x30, HANDLE_CPU + i);

        s.fixed[0x05] = 3; /* central processor */
        s.fixed[0x06] = 1; /* family: other */
        store_le16(s.fixed + 0x14, 2000);
        store_le16(s.fixed + 0x16, 2000);
        s.fixed[0x18] = 0x41; /* populated, enabled */
        s.fixed[0x19] = 1;
        memset(s.fixed + 0x1a, 0xff, 6); /* no caches */
        s.fixed[0x23] = s.fixed[0x24] = s.fixed[0x25] = 1;
        store_le16(s.fixed + 0x26, 4); /* 64 bits */
        store_le16(s.fixed + 0x28, 1);
        store_le16(s.fixed + 0x2a, 1);
        store_le16(s.fixed + 0x2c, 1);
        store_le16(s.fixed + 0x2e, 1);
        end(&s);
    }
}

static void oem_strings(struct buf *b, const struct smbios_config *c) {
    struct structure s = begin(b, c, 11, 5, 0xe00);

    for (unsigned i = 0; i < c->settings; i++)
        if (c->setting[i].type == 11)
            s.fixed[4] = string(&s, c->setting[i].value);
    if (s.strings)
        end(&s);
}

static void memory_module(struct buf *b, const struct smbios_config *c, unsigned i, uint64_t size) {
    struct structure s = begin(b, c, 17, 0x28, HANDLE_MEMORY + i);
    uint64_t mib = size >> 20;

    store_le16(s.fixed + 0x04, HANDLE_ARRAY);
    store_le16(s.fixed + 0x06, 0xfffe);
    store_le16(s.fixed + 0x08, 0xffff);
    store_le16(s.fixed + 0x0a, 0xffff);
    store_le16(s.fixed + 0x0c, (uint16_t)(mib < 0x7fff ? mib : 0x7fff));
    s.fixed[0x0e] = 9; /* DIMM */
    s.fixed[0x12] = 7; /* RAM */
    store_le16(s.fixed + 0x13, 2);
    store_le32(s.fixed + 0x1c, mib < 0x7fff ? 0 : (uint32_t)mib);
    end(&s);
}

static void mapped_range(struct buf *b, const struct smbios_config *c, unsigned i, uint64_t from,
                         uint64_t size) {
    struct structure s = begin(b, c, 19, 0x1f, HANDLE_MAPPED + i);

    store_le32(s.fixed + 0x04, 0xffffffff);
    store_le32(s.fixed + 0x08, 0xffffffff);
    store_le16(s.fixed + 0x0c, HANDLE_ARRAY);
    s.fixed[0x0e] = 1;
    store_le64(s.fixed + 0x0f, from);
    store_le64(s.fixed + 0x17, from + size - 1);
    end(&s);
}

static void memory(struct buf *b, const struct smbios_config *c) {
    unsigned modules = (unsigned)((c->memory + MODULE_MAX - 1) / MODULE_MAX);
    struct structure s = begin(b, c, 16, 0x17, HANDLE_ARRAY);

    s.fixed[0x04] = 1; /* other place */
    s.fixed[0x05] = 3; /* system memory */
    s.fixed[0x06] = 6; /* multi-bit error correction */
    store_le32(s.fixed + 0x07, 0x80000000);
    store_le16(s.fixed + 0x0b, 0xfffe);
    store_le16(s.fixed + 0x0d, (uint16_t)modules);
    store_le64(s.fixed + 0x0f, c->memory);
    end(&s);
    for (unsigned i = 0; i < modules; i++) {
        uint64_t left = c->memory - i * MODULE_MAX;

        memory_module(b, c, i, left < MODULE_MAX ? left : MODULE_MAX);
    }
    mapped_range(b, c, 0, 0, map_low_size(c->memory));
    if (map_high_size(c->memory))
        mapped_range(b, c, 1, MAP_HIGH, map_high_size(c->memory));
}

static void set_sum(uint8_t *anchor) {
    uint8_t sum = 0;

    anchor[5] = 0;
    for (unsigned i = 0; i < SMBIOS_ANCHOR_SIZE; i++)
        sum = (uint8_t)(sum + anchor[i]);
    anchor[5] = (uint8_t)-sum;
}

void smbios_build(const struct smbios_config *c, struct buf *b,
                  uint8_t anchor[SMBIOS_ANCHOR_SIZE]) {
    struct structure s;

    bios(b, c);
    machine(b, c);
    processors(b, c);
    oem_strings(b, c);
    memory(b, c);
    s = begin(b, c, 32, 0x0b, HANDLE_BOOT);
    end(&s);
    s = begin(b, c, 127, 4, HANDLE_END);
    end(&s);
    memset(anchor, 0, SMBIOS_ANCHOR_SIZE);
    memcpy(anchor, "_SM3_", 5);
    anchor[6] = SMBIOS_ANCHOR_SIZE;
    anchor[7] = 3;
    anchor[8] = 4;
    anchor[10] = 1;
    store_le32(anchor + 12, (uint32_t)b->len);
    set_sum(anchor);
}

int smbios_write(struct mem *mem, const struct smbios_config *c, gpa at, uint64_t room,
                 struct error *err) {
    uint8_t anchor[SMBIOS_ANCHOR_SIZE];
    struct buf b = {0};
    int r = 0;

    smbios_build(c, &b, anchor);
    store_le64(anchor + 16, at + 32);
    set_sum(anchor);
    if (32 + b.len > room || mem_load(mem, at, anchor, sizeof(anchor)) < 0 ||
        mem_load(mem, at + 32, b.data, b.len) < 0)
        r = error_set(err, -ENOSPC,
                      "the SMBIOS tables (%zu bytes) do not fit into their place: set fewer or "
                      "shorter strings with --smbios",
                      b.len);
    buf_done(&b);
    return r;
}
