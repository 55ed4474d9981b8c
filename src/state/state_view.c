/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables out of streams. The values of a stream are packed in the order of its schema, so with the
 * right offsets they are already the object. */
#include "state/state_view.h"

#include <errno.h>
#include <stdlib.h>

#include "state/state_internal.h"

enum { MAX_DEPTH = 8, FIELD_MIN = 7 /* bytes of the shortest field of a schema */ };

struct chunk {
    struct chunk *next;
    uint64_t data[]; /* aligned for anything */
};

struct maker {
    struct state_view *view;
    struct reader r;
    uint64_t limit; /* of an object's size: all values must lie in the stream */
};

static void *take(struct maker *m, size_t n) {
    struct chunk *c = calloc(1, sizeof(*c) + n);

    if (!c)
        return NULL;
    c->next = m->view->arena;
    m->view->arena = c;
    return c->data;
}

static const char *take_name(struct maker *m) {
    uint8_t n = reader_u8(&m->r);
    const uint8_t *p = reader_take(&m->r, n);
    char *name = p && n ? take(m, n + 1u) : NULL;

    for (unsigned i = 0; name && i < n; i++)
        name[i] = p[i] > ' ' && p[i] < 0x7f ? (char)p[i] : '?';
    return name;
}

static const struct state_desc *take_table(struct maker *m, unsigned depth, uint64_t *ret_size);

static bool take_field(struct maker *m, struct state_field *f, unsigned depth, uint64_t *offset) {
    uint64_t size;

    f->name = take_name(m);
    f->type = reader_u8(&m->r);
    f->count = reader_le32(&m->r);
    f->since = 1;
    if (!f->name || m->r.bad || f->type == STATE_TYPE_END || f->type > STATE_TYPE_SUB)
        return false;
    size = f->type == STATE_TYPE_BYTES ? 1 : state_types[f->type].size;
    if (f->type == STATE_TYPE_SUB)
        f->sub = take_table(m, depth + 1, &size);
    if (f->type == STATE_TYPE_SUB && !f->sub)
        return false;
    f->offset = (uint32_t)*offset;
    f->size = (uint32_t)size;
    /* Both factors are below 2^32. An element takes at least a byte, so loops over them are bounded
     * by the stream's length. */
    *offset += size * f->count;
    return *offset <= m->limit;
}

static const struct state_desc *take_table(struct maker *m, unsigned depth, uint64_t *ret_size) {
    struct state_desc *d = depth < MAX_DEPTH ? take(m, sizeof(*d)) : NULL;
    struct state_field *fields;
    uint16_t count;

    if (!d)
        return NULL;
    d->name = take_name(m);
    d->version = reader_le16(&m->r);
    count = reader_le16(&m->r);
    if (!d->name || m->r.bad || !count || count > m->r.left / FIELD_MIN)
        return NULL;
    d->fields = fields = take(m, (count + 1u) * sizeof(*fields));
    *ret_size = 0;
    for (unsigned i = 0; i < count; i++)
        if (!fields || !take_field(m, &fields[i], depth, ret_size))
            return NULL;
    return *ret_size ? d : NULL;
}

int state_view_open(struct state_view *v, const void *bytes, size_t n, struct error *err) {
    struct maker m = {.view = v, .r = {.p = bytes, .left = n}, .limit = n};
    uint64_t size = 0;

    *v = (struct state_view){.arena = NULL};
    if (n <= UINT32_MAX)
        v->desc = take_table(&m, 0, &size);
    if (v->desc && size == m.r.left) {
        v->obj = m.r.p;
        return 0;
    }
    state_view_close(v);
    return error_set(err, -EINVAL,
                     "saved state: its schema is impossible or does not fit its values; it is "
                     "damaged");
}

void state_view_close(struct state_view *v) {
    struct chunk *c;

    while ((c = v->arena)) {
        v->arena = c->next;
        free(c);
    }
    *v = (struct state_view){.arena = NULL};
}
