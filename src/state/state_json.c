/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * State for people and programs: the JSON view (RFC 8259) and the schema text.
 * Numbers beyond 2^53 are strings ("0x..."), since many JSON readers keep doubles only; raw bytes
 * are hex.
 */
#include <inttypes.h>

#include "state/state.h"
#include "state/state_internal.h"

#define JSON_MAX (1ull << 53)

static void put_string(struct buf *out, const char *s) {
    buf_printf(out, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            buf_printf(out, "\\u%04x", c);
        else
            buf_put(out, s, 1);
    }
    buf_printf(out, "\"");
}

static void put_scalar(const struct state_field *f, const void *element, struct buf *out) {
    uint64_t v = state_get(f, element);

    if (f->type == STATE_TYPE_BOOL)
        buf_printf(out, v ? "true" : "false");
    else if (state_types[f->type].is_signed && (int64_t)v >= -(int64_t)JSON_MAX && (int64_t)v < 0)
        buf_printf(out, "%" PRId64, (int64_t)v);
    else if (v <= JSON_MAX)
        buf_printf(out, "%" PRIu64, v);
    else
        buf_printf(out, "\"0x%" PRIx64 "\"", v);
}

static void put_object(const struct state_desc *d, const void *obj, struct buf *out);

static void put_element(const struct state_field *f, const void *obj, uint32_t i, struct buf *out) {
    if (f->type == STATE_TYPE_SUB)
        put_object(f->sub, state_element(f, obj, i), out);
    else
        put_scalar(f, state_element(f, obj, i), out);
}

static void put_field(const struct state_field *f, const void *obj, struct buf *out) {
    put_string(out, f->name);
    buf_printf(out, ":");
    if (f->type == STATE_TYPE_BYTES) {
        const uint8_t *p = state_element(f, obj, 0);

        buf_printf(out, "\"");
        for (uint32_t i = 0; i < f->count; i++)
            buf_printf(out, "%02x", p[i]);
        buf_printf(out, "\"");
    } else if (f->count == 1) {
        put_element(f, obj, 0, out);
    } else {
        for (uint32_t i = 0; i < f->count; i++) {
            buf_printf(out, i ? "," : "[");
            put_element(f, obj, i, out);
        }
        buf_printf(out, f->count ? "]" : "[]");
    }
}

static void put_object(const struct state_desc *d, const void *obj, struct buf *out) {
    buf_printf(out, "{");
    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++) {
        if (f != d->fields)
            buf_printf(out, ",");
        put_field(f, obj, out);
    }
    buf_printf(out, "}");
}

void state_json(const struct state_desc *d, const void *obj, struct buf *out) {
    put_object(d, obj, out);
}

/* One line a field: "  name type[count] since=v max=m", sub-tables indented below their field. */
static void put_schema(const struct state_desc *d, unsigned indent, struct buf *out) {
    buf_printf(out, "%*s%s version %u\n", (int)indent, "", d->name, d->version);
    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++) {
        buf_printf(out, "%*s%s %s", (int)indent + 2, "", f->name, state_types[f->type].name);
        if (f->count != 1 || f->type == STATE_TYPE_BYTES)
            buf_printf(out, "[%u]", f->count);
        if (f->since > 1)
            buf_printf(out, " since=%u", f->since);
        if (f->max)
            buf_printf(out, " max=%" PRIu64, f->max);
        buf_printf(out, "\n");
        if (f->type == STATE_TYPE_SUB)
            put_schema(f->sub, indent + 4, out);
    }
}

void state_schema(const struct state_desc *d, struct buf *out) { put_schema(d, 0, out); }
