/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ACPI machine language writer. Source: ACPI 6.5 section 20.2 (grammar), 6.4.2 and 6.4.3
 * (resources). */
#include "machine/aml.h"

#include <string.h>

enum {
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_DUAL_NAME = 0x2e,
    AML_MULTI_NAME = 0x2f,
    AML_LOCAL0 = 0x60,
    AML_ARG0 = 0x68,
    AML_STORE = 0x70,
    AML_SHIFT_LEFT = 0x79,
    AML_AND = 0x7b,
    AML_OR = 0x7d,
    AML_NOTIFY = 0x86,
    AML_IF = 0xa0,
    AML_RETURN = 0xa4,
    AML_EXT = 0x5b,
    AML_REGION = 0x80,
    AML_FIELD = 0x81,
    AML_DEVICE = 0x82,
};

static void put8(struct buf *b, unsigned v) {
    uint8_t byte = (uint8_t)v;

    buf_put(b, &byte, 1);
}

/* NameString: an optional backslash and one name segment of up to four characters. */
static void put_path(struct buf *b, const char *path) {
    char seg[5] = "____";

    if (*path == '\\')
        put8(b, (unsigned char)*path++);
    memcpy(seg, path, strlen(path) < 4 ? strlen(path) : 4);
    buf_put(b, seg, 4);
}

/* Room for the longest PkgLength that we need (three bytes: 1 MiB), filled in by aml_close. */
static size_t open_package(struct buf *b) {
    size_t mark = b->len;

    buf_grow(b, 3);
    return mark;
}

void aml_close(struct buf *b, size_t mark) {
    size_t n = b->len - mark;

    b->data[mark] = (uint8_t)(2 << 6 | (n & 15));
    b->data[mark + 1] = (uint8_t)(n >> 4);
    b->data[mark + 2] = (uint8_t)(n >> 12);
}

size_t aml_scope(struct buf *b, const char *path) {
    size_t mark;

    put8(b, AML_SCOPE);
    mark = open_package(b);
    put_path(b, path);
    return mark;
}

size_t aml_device(struct buf *b, const char *name) {
    size_t mark;

    put8(b, AML_EXT);
    put8(b, AML_DEVICE);
    mark = open_package(b);
    put_path(b, name);
    return mark;
}

size_t aml_method(struct buf *b, const char *name, unsigned args) {
    size_t mark;

    put8(b, AML_METHOD);
    mark = open_package(b);
    put_path(b, name);
    put8(b, args);
    return mark;
}

size_t aml_package(struct buf *b, unsigned elements) {
    size_t mark;

    put8(b, AML_PACKAGE);
    mark = open_package(b);
    put8(b, elements);
    return mark;
}

/* Buffer whose size is a word constant, patched at the end. */
size_t aml_resources(struct buf *b) {
    size_t mark;

    put8(b, AML_BUFFER);
    mark = open_package(b);
    put8(b, AML_WORD);
    buf_put_le16(b, 0);
    return mark;
}

void aml_close_resources(struct buf *b, size_t mark) {
    size_t size_at = mark + 4;

    put8(b, 0x79); /* end tag, checksum 0 = none */
    put8(b, 0);
    store_le16(b->data + size_at, (uint16_t)(b->len - size_at - 2));
    aml_close(b, mark);
}

void aml_name(struct buf *b, const char *name) {
    put8(b, AML_NAME);
    put_path(b, name);
}

void aml_integer(struct buf *b, uint64_t v) {
    if (v <= 1) {
        put8(b, (unsigned)v);
    } else if (v <= 0xff) {
        put8(b, AML_BYTE);
        put8(b, (unsigned)v);
    } else if (v <= 0xffff) {
        put8(b, AML_WORD);
        buf_put_le16(b, (uint16_t)v);
    } else if (v <= 0xffffffff) {
        put8(b, AML_DWORD);
        buf_put_le32(b, (uint32_t)v);
    } else {
        put8(b, AML_QWORD);
        buf_put_le64(b, v);
    }
}

void aml_string(struct buf *b, const char *s) {
    put8(b, AML_STRING);
    buf_put(b, s, strlen(s) + 1);
}

static unsigned hex_digit(char c) {
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* Three compressed letters and four hex digits, big-endian (ACPI 6.5 section 19.3.4). */
void aml_eisa_id(struct buf *b, const char *id) {
    uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
                 (uint32_t)(id[2] - '@') << 16;

    for (unsigned i = 0; i < 4; i++)
        v |= hex_digit(id[3 + i]) << (12 - 4 * i);
    put8(b, AML_DWORD);
    buf_put_le32(b, __builtin_bswap32(v));
}

void aml_return_arg(struct buf *b, unsigned n) {
    put8(b, AML_RETURN);
    put8(b, AML_ARG0 + n);
}

void aml_return_name(struct buf *b, const char *name) {
    put8(b, AML_RETURN);
    put_path(b, name);
}

void aml_store_arg(struct buf *b, unsigned n, const char *name) {
    put8(b, AML_STORE);
    put8(b, AML_ARG0 + n);
    put_path(b, name);
}

void aml_notify(struct buf *b, const char *parent, const char *name, unsigned value) {
    put8(b, AML_NOTIFY);
    put8(b, '\\');
    put8(b, AML_DUAL_NAME);
    put_path(b, parent);
    put_path(b, name);
    aml_integer(b, value);
}

size_t aml_if(struct buf *b, const char *name) {
    size_t mark;

    put8(b, AML_IF);
    mark = open_package(b);
    put_path(b, name);
    return mark;
}

/* ---- registers ---- */

enum { NO_TARGET = 0 };

void aml_ports(struct buf *b, const char *name, uint16_t base, uint8_t length) {
    put8(b, AML_EXT);
    put8(b, AML_REGION);
    put_path(b, name);
    put8(b, 1); /* SystemIO */
    aml_integer(b, base);
    aml_integer(b, length);
}

void aml_fields32(struct buf *b, const char *ports, const char *const *names, unsigned count) {
    enum { ACCESS_32 = 3, WRITE_AS_ZEROS = 2 << 5 };
    size_t mark;

    put8(b, AML_EXT);
    put8(b, AML_FIELD);
    mark = open_package(b);
    put_path(b, ports);
    put8(b, ACCESS_32 | WRITE_AS_ZEROS);
    for (unsigned i = 0; i < count; i++) {
        put_path(b, names[i]);
        put8(b, 32); /* bits */
    }
    aml_close(b, mark);
}

void aml_store_integer(struct buf *b, uint64_t v, const char *name) {
    put8(b, AML_STORE);
    aml_integer(b, v);
    put_path(b, name);
}

void aml_store_local(struct buf *b, const char *name, unsigned local) {
    put8(b, AML_STORE);
    put_path(b, name);
    put8(b, AML_LOCAL0 + local);
}

size_t aml_if_bits(struct buf *b, unsigned local, uint32_t mask) {
    size_t mark;

    put8(b, AML_IF);
    mark = open_package(b);
    put8(b, AML_AND);
    put8(b, AML_LOCAL0 + local);
    aml_integer(b, mask);
    put8(b, NO_TARGET);
    return mark;
}

static void low_byte_of_arg(struct buf *b, unsigned arg, unsigned shift) {
    put8(b, AML_SHIFT_LEFT);
    put8(b, AML_AND);
    put8(b, AML_ARG0 + arg);
    aml_integer(b, 0xff);
    put8(b, NO_TARGET);
    aml_integer(b, shift);
    put8(b, NO_TARGET);
}

void aml_store_packed(struct buf *b, uint32_t v, const char *name) {
    put8(b, AML_STORE);
    put8(b, AML_OR);
    put8(b, AML_OR);
    aml_integer(b, v);
    low_byte_of_arg(b, 0, 8);
    put8(b, NO_TARGET);
    low_byte_of_arg(b, 1, 16);
    put8(b, NO_TARGET);
    put_path(b, name);
}

void aml_call(struct buf *b, const char *device, const char *method) {
    put8(b, '\\');
    put8(b, AML_MULTI_NAME);
    put8(b, 3);
    put_path(b, "_SB");
    put_path(b, device);
    put_path(b, method);
}

void aml_return_integer(struct buf *b, uint64_t v) {
    put8(b, AML_RETURN);
    aml_integer(b, v);
}

void aml_bytes(struct buf *b, const uint8_t *bytes, unsigned n) {
    size_t mark;

    put8(b, AML_BUFFER);
    mark = open_package(b);
    put8(b, AML_BYTE);
    put8(b, n);
    buf_put(b, bytes, n);
    aml_close(b, mark);
}

void aml_call_here(struct buf *b, const char *method) {
    put8(b, '\\');
    put8(b, AML_DUAL_NAME);
    put_path(b, "_SB");
    put_path(b, method);
}

void aml_notify_near(struct buf *b, const char *name, unsigned value) {
    put8(b, AML_NOTIFY);
    put_path(b, name);
    aml_integer(b, value);
}

/* ---- resources ---- */

void aml_io(struct buf *b, uint16_t base, uint8_t length) {
    put8(b, 0x47);
    put8(b, 1); /* decodes 16 bits */
    buf_put_le16(b, base);
    buf_put_le16(b, base);
    put8(b, 1);
    put8(b, length);
}

void aml_irq(struct buf *b, unsigned irq) {
    put8(b, 0x22); /* edge, active high, exclusive */
    buf_put_le16(b, (uint16_t)(1u << irq));
}

/* Address space descriptors: minimum and maximum fixed, consumed by children (producer). */
static void address_head(struct buf *b, unsigned tag, unsigned length, unsigned type,
                         unsigned specific) {
    put8(b, tag);
    buf_put_le16(b, (uint16_t)length);
    put8(b, type);
    put8(b, 0x0c); /* MinFixed, MaxFixed, positive decode, producer */
    put8(b, specific);
}

static void word_range(struct buf *b, unsigned type, unsigned specific, uint16_t first,
                       uint16_t last) {
    address_head(b, 0x88, 13, type, specific);
    buf_put_le16(b, 0);
    buf_put_le16(b, first);
    buf_put_le16(b, last);
    buf_put_le16(b, 0);
    buf_put_le16(b, (uint16_t)(last - first + 1));
}

void aml_bus_range(struct buf *b, uint16_t first, uint16_t last) {
    word_range(b, 2, 0, first, last);
}

void aml_io_range(struct buf *b, uint16_t first, uint16_t last) {
    word_range(b, 1, 3, first, last);
}

void aml_memory_range32(struct buf *b, uint32_t first, uint32_t last) {
    address_head(b, 0x87, 23, 0, 1); /* read-write, not cacheable */
    buf_put_le32(b, 0);
    buf_put_le32(b, first);
    buf_put_le32(b, last);
    buf_put_le32(b, 0);
    buf_put_le32(b, last - first + 1);
}

void aml_memory_range64(struct buf *b, uint64_t first, uint64_t last) {
    address_head(b, 0x8a, 43, 0, 1);
    buf_put_le64(b, 0);
    buf_put_le64(b, first);
    buf_put_le64(b, last);
    buf_put_le64(b, 0);
    buf_put_le64(b, last - first + 1);
}

void aml_fixed_memory(struct buf *b, uint32_t base, uint32_t length) {
    put8(b, 0x86);
    buf_put_le16(b, 9);
    put8(b, 1);
    buf_put_le32(b, base);
    buf_put_le32(b, length);
}
