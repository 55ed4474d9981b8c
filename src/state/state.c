/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved state, binary. A stream is the schema of the table that wrote it, then the values in the
 * same order; all numbers little-endian. The schema lets a reader refuse what does not fit by name:
 *
 *   schema   name  version:u16  fields:u16  field...
 *   field    name  type:u8  count:u32  [schema of the sub-table, for type sub]
 *   name     length:u8  bytes
 *   values   each field's elements: 1, 2, 4 or 8 bytes by type, raw bytes, or the sub-table's
 * values
 *
 * A stream of an older version lacks the fields that came later (state_field.since): they stay as
 * they are in the struct, which was reset before.
 */
#include "state/state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "state/state_internal.h"

const struct state_type_info state_types[] = {
    [STATE_TYPE_END] = {"end", 0, false},     [STATE_TYPE_BOOL] = {"bool", 1, false},
    [STATE_TYPE_U8] = {"u8", 1, false},       [STATE_TYPE_U16] = {"u16", 2, false},
    [STATE_TYPE_U32] = {"u32", 4, false},     [STATE_TYPE_U64] = {"u64", 8, false},
    [STATE_TYPE_I8] = {"i8", 1, true},        [STATE_TYPE_I16] = {"i16", 2, true},
    [STATE_TYPE_I32] = {"i32", 4, true},      [STATE_TYPE_I64] = {"i64", 8, true},
    [STATE_TYPE_BYTES] = {"bytes", 0, false}, [STATE_TYPE_SUB] = {"sub", 0, false},
};

uint64_t state_get(const struct state_field *f, const void *element) {
    uint64_t v = 0;
    unsigned spare;

    assert(f->size == state_types[f->type].size);
    memcpy(&v, element, f->size); /* the host is little-endian, as the guest */
    spare = 64 - 8 * f->size;
    return state_types[f->type].is_signed ? (uint64_t)((int64_t)(v << spare) >> spare) : v;
}

void state_put(const struct state_field *f, void *element, uint64_t v) {
    assert(f->size == state_types[f->type].size);
    memcpy(element, &v, f->size);
}

size_t state_extent(const struct state_desc *d) {
    size_t end = d->struct_size;

    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++)
        if (f->offset + (size_t)f->count * f->size > end)
            end = f->offset + (size_t)f->count * f->size;
    assert(!d->struct_size || end == d->struct_size);
    return end;
}

/* ------------------------------------------------------------------ save */

static void put_name(struct buf *out, const char *name) {
    size_t n = strlen(name);

    assert(n > 0 && n < 256);
    *(uint8_t *)buf_grow(out, 1) = (uint8_t)n;
    buf_put(out, name, n);
}

static void put_schema(const struct state_desc *d, struct buf *out) {
    uint16_t fields = 0;

    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++)
        fields++;
    assert(d->version > 0);
    put_name(out, d->name);
    buf_put_le16(out, d->version);
    buf_put_le16(out, fields);
    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++) {
        assert(f->since > 0 && f->since <= d->version);
        put_name(out, f->name);
        *(uint8_t *)buf_grow(out, 1) = f->type;
        buf_put_le32(out, f->count);
        if (f->type == STATE_TYPE_SUB)
            put_schema(f->sub, out);
    }
}

static void put_values(const struct state_desc *d, const void *obj, struct buf *out) {
    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++) {
        if (f->type == STATE_TYPE_BYTES) {
            buf_put(out, state_element(f, obj, 0), f->count);
            continue;
        }
        for (uint32_t i = 0; i < f->count; i++) {
            if (f->type == STATE_TYPE_SUB) {
                put_values(f->sub, state_element(f, obj, i), out);
            } else {
                uint64_t v = state_get(f, state_element(f, obj, i));

                memcpy(buf_grow(out, f->size), &v, f->size);
            }
        }
    }
}

void state_save(const struct state_desc *d, const void *obj, struct buf *out) {
    put_schema(d, out);
    put_values(d, obj, out);
}

/* ------------------------------------------------------------------ checking the schema of a
 * stream */

enum { MAX_DEPTH = 8 }; /* of tables in tables, ours */

/* The versions found in a stream, in the order of its schemas; values are read by the same walk. */
struct versions {
    uint16_t version[64];
    unsigned count, next;
};

/* A name as it may be shown: it comes from a file. */
static bool read_name(struct reader *r, char ret_name[static 256]) {
    uint8_t n = reader_u8(r);
    const uint8_t *p = reader_take(r, n);

    if (!p)
        return false;
    for (unsigned i = 0; i < n; i++)
        ret_name[i] = p[i] > 0x20 && p[i] < 0x7f ? (char)p[i] : '?';
    ret_name[n] = 0;
    return true;
}

static int ends_early(const struct state_desc *d, const char *where, struct error *err) {
    return error_set(
        err, -EINVAL,
        "state '%s' ends early (%s): the file is cut off or damaged; use another snapshot", d->name,
        where);
}

static int check_schema(const struct state_desc *d, struct reader *r, struct versions *v,
                        unsigned depth, struct error *err);

static int check_field(const struct state_desc *d, const struct state_field *f, struct reader *r,
                       struct versions *v, unsigned depth, struct error *err) {
    char name[256];
    uint8_t type;
    uint32_t count;

    if (!read_name(r, name))
        return ends_early(d, f->name, err);
    type = reader_u8(r);
    count = reader_le32(r);
    if (r->bad)
        return ends_early(d, f->name, err);
    if (strcmp(name, f->name))
        return error_set(
            err, -EINVAL,
            "state '%s': field '%s' is expected, '%s' was found; the file is damaged or of "
            "another program",
            d->name, f->name, name);
    if (type != f->type || count != f->count)
        return error_set(
            err, -EINVAL,
            "state '%s', field '%s': %s[%u] was found, %s[%u] is expected; the file is damaged "
            "or of another program",
            d->name, f->name,
            type > 0 && type <= STATE_TYPE_SUB ? state_types[type].name : "unknown type", count,
            state_types[f->type].name, f->count);
    if (f->type == STATE_TYPE_SUB)
        return check_schema(f->sub, r, v, depth + 1, err);
    return 0;
}

static int check_schema(const struct state_desc *d, struct reader *r, struct versions *v,
                        unsigned depth, struct error *err) {
    char name[256];
    uint16_t version, count, expected = 0;
    int code;

    assert(depth < MAX_DEPTH && v->count < sizeof(v->version) / sizeof(v->version[0]));
    if (!read_name(r, name))
        return ends_early(d, "name", err);
    version = reader_le16(r);
    count = reader_le16(r);
    if (r->bad)
        return ends_early(d, "version", err);
    if (strcmp(name, d->name))
        return error_set(err, -EINVAL,
                         "state of '%s' is expected, '%s' was found; use a snapshot of this kind "
                         "of machine",
                         d->name, name);
    if (version == 0 || version > d->version)
        return error_set(
            err, -ENOTSUP,
            "state '%s' has version %u, this program knows 1 to %u; use a newer program", d->name,
            version, d->version);
    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++)
        expected += f->since <= version;
    if (count != expected)
        return error_set(
            err, -EINVAL,
            "state '%s', version %u: %u fields were found, %u are expected; the file is damaged",
            d->name, version, count, expected);
    v->version[v->count++] = version;
    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++)
        if (f->since <= version && (code = check_field(d, f, r, v, depth, err)) < 0)
            return code;
    return 0;
}

/* ------------------------------------------------------------------ reading the values */

static int get_scalar(const struct state_desc *d, const struct state_field *f, void *element,
                      struct reader *r, struct error *err) {
    uint64_t max = f->type == STATE_TYPE_BOOL ? 1 : f->max;
    const void *p = reader_take(r, f->size);
    uint64_t v = 0;
    bool ok;

    if (!p)
        return ends_early(d, f->name, err);
    memcpy(&v, p, f->size);
    if (state_types[f->type].is_signed) {
        unsigned spare = 64 - 8 * f->size;

        v = (uint64_t)((int64_t)(v << spare) >> spare);
    }
    ok = !max || v <= max; /* a negative value is a large one here */
    if (!ok)
        return error_set(
            err, -ERANGE,
            "state '%s', field '%s': value %llu is above its limit %llu; the file is damaged",
            d->name, f->name, (unsigned long long)v, (unsigned long long)max);
    state_put(f, element, v);
    return 0;
}

static int get_values(const struct state_desc *d, void *obj, struct reader *r, struct versions *v,
                      struct error *err);

static int get_field(const struct state_desc *d, const struct state_field *f, void *obj,
                     struct reader *r, struct versions *v, struct error *err) {
    unsigned first_version = v->next;
    int code = 0;

    if (f->type == STATE_TYPE_BYTES) {
        const void *p = reader_take(r, f->count);

        if (!p)
            return ends_early(d, f->name, err);
        memcpy(state_element(f, obj, 0), p, f->count);
        return 0;
    }
    for (uint32_t i = 0; i < f->count && code == 0; i++) {
        if (f->type == STATE_TYPE_SUB) {
            v->next = first_version; /* one schema for all elements */
            code = get_values(f->sub, state_element(f, obj, i), r, v, err);
        } else {
            code = get_scalar(d, f, state_element(f, obj, i), r, err);
        }
    }
    return code;
}

static int get_values(const struct state_desc *d, void *obj, struct reader *r, struct versions *v,
                      struct error *err) {
    uint16_t version = v->version[v->next++];
    int code;

    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++)
        if (f->since <= version && (code = get_field(d, f, obj, r, v, err)) < 0)
            return code;
    return 0;
}

/* Sub-tables first: a table's own check may rely on its parts. */
static int run_validate(const struct state_desc *d, const void *obj, struct error *err) {
    int code;

    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++)
        for (uint32_t i = 0; f->type == STATE_TYPE_SUB && i < f->count; i++)
            if ((code = run_validate(f->sub, state_element(f, obj, i), err)) < 0)
                return code;
    code = d->validate ? d->validate(obj, err) : 0;
    if (code < 0 && err && !err->code)
        error_set(err, code, "state '%s': its values contradict each other; the file is damaged",
                  d->name);
    return code;
}

static void run_post_load(const struct state_desc *d, void *obj) {
    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++)
        for (uint32_t i = 0; f->type == STATE_TYPE_SUB && i < f->count; i++)
            run_post_load(f->sub, state_element(f, obj, i));
    if (d->post_load)
        d->post_load(obj);
}

/* ------------------------------------------------------------------ load */

static int decode(const struct state_desc *d, void *obj, const void *bytes, size_t n,
                  struct error *err) {
    struct reader r = {.p = bytes, .left = n};
    struct versions v = {.count = 0};
    int code = check_schema(d, &r, &v, 0, err);

    if (code == 0)
        code = get_values(d, obj, &r, &v, err);
    if (code == 0 && r.left)
        code = error_set(
            err, -EINVAL,
            "state '%s' has %zu bytes too many: the file is damaged; use another snapshot", d->name,
            r.left);
    return code;
}

int state_validate(const struct state_desc *d, const void *obj, const void *bytes, size_t n,
                   struct error *err) {
    size_t size = state_extent(d);
    void *scratch = malloc(size ? size : 1);
    int code;

    assert(!d->validate || d->struct_size);
    if (!scratch)
        return error_set(err, -ENOMEM, "state '%s': out of memory", d->name);
    memcpy(scratch, obj, size);
    code = decode(d, scratch, bytes, n, err);
    if (code == 0)
        code = run_validate(d, scratch, err);
    free(scratch);
    return code;
}

int state_load(const struct state_desc *d, void *obj, const void *bytes, size_t n,
               struct error *err) {
    int code = state_validate(d, obj, bytes, n, err);

    if (code < 0)
        return code;
    code = decode(d, obj, bytes, n, err);
    assert(code == 0); /* the same bytes were just read without fault */
    run_post_load(d, obj);
    return 0;
}
