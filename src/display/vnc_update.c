/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Updates of the picture: from dirty tiles to rectangles, and their way into a client's output.
 * Source: RFC 6143, 7.6.1; rfbproto "ExtendedDesktopSize".
 *
 * Theory of operation. An update is a list of rectangles, none higher than VNC_RECT_H, made when
 * the client has asked and something is dirty. They are encoded one after the other while its
 * output has room, a few milliseconds at a time, from the picture as it is then; what changes
 * meanwhile is dirty again. If the picture becomes smaller meanwhile, what was promised outside of
 * it is black.
 */
#include <stdlib.h>

#include "display/vnc_internal.h"

enum { UPDATE = 0, TURN_MS = 4 };

void vnc_set_format(struct vnc_client *c, const struct vnc_format *f) {
    c->format = *f;
    c->plain = f->bpp == 32 && !f->big_endian && f->max[0] == 255 && f->max[1] == 255 &&
               f->max[2] == 255 && f->shift[0] == 16 && f->shift[1] == 8 && f->shift[2] == 0;
}

static void put_rect(struct vnc_client *c, const struct vnc_rect *r, int32_t encoding) {
    uint8_t b[12];

    store_be16(b, r->x);
    store_be16(b + 2, r->y);
    store_be16(b + 4, r->w);
    store_be16(b + 6, r->h);
    store_be32(b + 8, (uint32_t)encoding);
    vnc_put(c, b, sizeof(b));
}

static void put_head(struct vnc_client *c, unsigned rects) {
    uint8_t b[4] = {UPDATE};

    store_be16(b + 2, (uint16_t)rects);
    vnc_put(c, b, sizeof(b));
}

/* ------------------------------------------------------------------ sizes and abilities */

static void put_size(struct vnc_client *c) {
    struct vnc_rect r = {0, 0, (uint16_t)c->width, (uint16_t)c->height};
    uint8_t b[20] = {1}; /* one screen */

    if (!c->extended_size) {
        put_rect(c, &r, VNC_DESKTOP_SIZE);
        return;
    }
    put_rect(c, &r, VNC_EXTENDED_SIZE); /* x 0: nobody's wish, y 0: all is well */
    store_be16(b + 12, r.w);
    store_be16(b + 14, r.h);
    vnc_put(c, b, sizeof(b));
}

/* What stands alone in an update: the new size, and that keys may come with their scan codes.
 * True if that was something. */
static bool tell_news(struct vnc_client *c) {
    const struct screen *s = c->vnc->screen;
    bool size = c->look.resized && (c->desktop_size || c->extended_size);
    struct vnc_rect none = {0};

    if (size) {
        c->width = s->width;
        c->height = s->height;
        c->look.resized = false;
    }
    size |= c->tell_size && c->extended_size;
    if (!size && !c->tell_extended_key)
        return false;
    put_head(c, size + c->tell_extended_key);
    if (size)
        put_size(c);
    if (c->tell_extended_key)
        put_rect(c, &none, VNC_EXTENDED_KEY);
    c->tell_size = c->tell_extended_key = false;
    return true;
}

/* ------------------------------------------------------------------ rectangles */

static unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }

/* A row of tiles that is dirty from column a to b, if another one above goes on in it. */
static bool extend(struct vnc_client *c, const struct vnc_rect *r) {
    for (unsigned i = c->rects; i-- > 0;) {
        struct vnc_rect *o = &c->rect[i];

        if (o->y + o->h < r->y)
            return false;
        if (o->y + o->h == r->y && o->x == r->x && o->w == r->w && o->h + r->h <= VNC_RECT_H) {
            o->h = (uint16_t)(o->h + r->h);
            return true;
        }
    }
    return false;
}

static void add_run(struct vnc_client *c, unsigned x0, unsigned x1, unsigned y0, unsigned y1) {
    struct vnc_rect r = {(uint16_t)x0, (uint16_t)y0, (uint16_t)(x1 - x0), (uint16_t)(y1 - y0)};

    if (!extend(c, &r))
        c->rect[c->rects++] = r;
}

/* The dirty tiles in the area that the client asks for. What the client believes to be outside of
 * the picture is left out. */
static void collect(struct vnc_client *c) {
    struct screen_watch *w = &c->look;
    unsigned right = min(c->area.x + c->area.w, min(c->width, c->vnc->screen->width));
    unsigned bottom = min(c->area.y + c->area.h, min(c->height, c->vnc->screen->height));
    unsigned first = c->area.x / SCREEN_TILE_W, last = (right + SCREEN_TILE_W - 1) / SCREEN_TILE_W;

    /* One tile a rectangle, as each has filter and palette of its own. */
    unsigned most = c->encoding == VNC_TIGHT ? 1 : w->columns;

    w->any = false;
    for (unsigned ty = 0; ty < w->rows; ty++) {
        uint8_t *tile = w->dirty + (size_t)ty * w->columns;
        unsigned y0 = ty * SCREEN_TILE_H, y1 = min(y0 + SCREEN_TILE_H, bottom);
        bool inside = y1 > c->area.y && y0 < bottom && right > c->area.x;

        if (inside && y0 < c->area.y)
            y0 = c->area.y;
        for (unsigned tx = 0; tx < w->columns; tx++) {
            unsigned start = tx;

            if (!tile[tx])
                continue;
            if (!inside || tx < first || tx >= last) {
                w->any = true;
                continue;
            }
            for (; tx < last && tile[tx] && tx - start < most; tx++)
                tile[tx] = 0;
            add_run(c, start == first ? c->area.x : start * SCREEN_TILE_W,
                    min(tx * SCREEN_TILE_W, right), y0, y1);
            tx--;
        }
    }
}

void vnc_begin_update(struct vnc_client *c) {
    struct screen_watch *w = &c->look;

    if (tell_news(c)) {
        c->wants = false;
        vnc_flush(c);
        return;
    }
    if (!w->any || !w->columns)
        return;
    c->rect = calloc((size_t)w->rows * w->columns, sizeof(*c->rect));
    if (!c->rect)
        return;
    c->rects = c->at = 0;
    collect(c);
    if (!c->rects) {
        free(c->rect);
        c->rect = NULL;
        return;
    }
    c->wants = false;
    c->sending = c->encoding;
    put_head(c, c->rects);
    vnc_pump(c);
}

/* ------------------------------------------------------------------ sending */

static void go_on(void *opaque) {
    struct vnc_client *c = opaque;
    struct vnc *v = c->vnc;

    v->inside++;
    vnc_pump(c);
    v->inside--;
}

void vnc_pump(struct vnc_client *c) {
    int64_t until = timer_now_ms() + TURN_MS;

    vnc_flush(c);
    while (c->fd >= 0 && c->rect && c->out.len - c->sent < VNC_OUT_HIGH) {
        if (c->at == c->rects) {
            free(c->rect);
            c->rect = NULL;
            if (c->wants)
                vnc_want(c);
            break;
        }
        put_rect(c, &c->rect[c->at], c->sending);
        vnc_encode(c, &c->rect[c->at++]);
        vnc_flush(c);
        if (c->fd >= 0 && timer_now_ms() >= until) {
            timer_start(c->vnc->timers, &c->more, 0, go_on, c);
            break;
        }
    }
}

void vnc_update_done(struct vnc_client *c) {
    free(c->rect);
    c->rect = NULL;
    vnc_encode_done(c);
}
