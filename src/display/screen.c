/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The picture on a machine's screen. It is compared with what a source draws, in stretches of one
 * tile's width: so a source need not know what it changed, and what is drawn again without a change
 * costs its watchers nothing.
 */
#include "display/screen.h"

#include <stdlib.h>
#include <string.h>

static unsigned columns(const struct screen *s) {
    return (s->width + SCREEN_TILE_W - 1) / SCREEN_TILE_W;
}

static unsigned rows(const struct screen *s) {
    return (s->height + SCREEN_TILE_H - 1) / SCREEN_TILE_H;
}

struct screen *screen_new(void) {
    struct screen *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->width = 640;
    s->height = 480;
    s->stale = true;
    s->pixels = calloc((size_t)s->width * s->height, sizeof(*s->pixels));
    if (s->pixels)
        return s;
    free(s);
    return NULL;
}

void screen_free(struct screen *s) {
    if (!s)
        return;
    while (s->watch)
        screen_watch_remove(s, s->watch);
    free(s->pixels);
    free(s);
}

/* ---- watchers ---- */

/* Its tiles for the picture's size. Without memory it sees a picture without tiles. */
static void fit(struct screen *s, struct screen_watch *w) {
    size_t n = (size_t)columns(s) * rows(s);
    uint8_t *tiles = realloc(w->dirty, n);

    if (!tiles) {
        w->columns = w->rows = 0;
        return;
    }
    w->dirty = tiles;
    w->columns = columns(s);
    w->rows = rows(s);
    screen_watch_all(s, w);
}

void screen_watch_add(struct screen *s, struct screen_watch *w) {
    *w = (struct screen_watch){.next = s->watch};
    s->watch = w;
    fit(s, w);
}

void screen_watch_remove(struct screen *s, struct screen_watch *w) {
    struct screen_watch **link = &s->watch;

    while (*link && *link != w)
        link = &(*link)->next;
    if (*link)
        *link = w->next;
    free(w->dirty);
    *w = (struct screen_watch){0};
}

void screen_watch_all(struct screen *s, struct screen_watch *w) {
    memset(w->dirty, 1, (size_t)w->columns * w->rows);
    w->any = true;
}

static void damage(struct screen *s, unsigned x, unsigned y) {
    for (struct screen_watch *w = s->watch; w; w = w->next)
        if (w->columns) {
            w->dirty[(size_t)(y / SCREEN_TILE_H) * w->columns + x / SCREEN_TILE_W] = 1;
            w->any = true;
        }
}

/* ---- drawing ---- */

void screen_set_source(struct screen *s, unsigned rank, const struct screen_source *source) {
    s->source[rank] = source ? *source : (struct screen_source){0};
    s->stale = true;
}

static const struct screen_source *on_top(const struct screen *s) {
    for (unsigned i = SCREEN_SOURCES; i--;)
        if (s->source[i].draw)
            return &s->source[i];
    return NULL;
}

bool screen_resize(struct screen *s, unsigned width, unsigned height) {
    uint32_t *pixels;

    if (width == s->width && height == s->height)
        return true;
    if (!width || !height || width > SCREEN_MAX_SIDE || height > SCREEN_MAX_SIDE ||
        (size_t)width * height > SCREEN_MAX_PIXELS)
        return false;
    pixels = calloc((size_t)width * height, sizeof(*pixels));
    if (!pixels)
        return false;
    free(s->pixels);
    s->pixels = pixels;
    s->width = width;
    s->height = height;
    for (struct screen_watch *w = s->watch; w; w = w->next) {
        fit(s, w);
        w->resized = true;
    }
    return true;
}

void screen_put(struct screen *s, unsigned x, unsigned y, const uint32_t *pixels, unsigned n) {
    uint32_t *row;

    if (y >= s->height || x >= s->width)
        return;
    if (n > s->width - x)
        n = s->width - x;
    row = s->pixels + (size_t)y * s->width;
    while (n) {
        unsigned part = SCREEN_TILE_W - x % SCREEN_TILE_W;

        if (part > n)
            part = n;
        if (memcmp(row + x, pixels, part * sizeof(*pixels)) != 0) {
            memcpy(row + x, pixels, part * sizeof(*pixels));
            damage(s, x, y);
        }
        x += part;
        pixels += part;
        n -= part;
    }
}

void screen_fill(struct screen *s, uint32_t pixel) {
    uint32_t row[SCREEN_TILE_W];

    for (unsigned i = 0; i < SCREEN_TILE_W; i++)
        row[i] = pixel;
    for (unsigned y = 0; y < s->height; y++)
        for (unsigned x = 0; x < s->width; x += SCREEN_TILE_W)
            screen_put(s, x, y, row, SCREEN_TILE_W);
}

bool screen_refresh(struct screen *s) {
    const struct screen_source *top = on_top(s);
    bool all = s->stale, changed = false;

    s->stale = false;
    if (top)
        top->draw(top->opaque, s, all);
    else
        screen_fill(s, 0);
    for (struct screen_watch *w = s->watch; w; w = w->next)
        changed |= w->any;
    return changed;
}

void screen_wish(struct screen *s, unsigned width, unsigned height) {
    const struct screen_source *top = on_top(s);

    if (top && top->wish && width && height && width <= SCREEN_MAX_SIDE &&
        height <= SCREEN_MAX_SIDE && (size_t)width * height <= SCREEN_MAX_PIXELS)
        top->wish(top->opaque, width, height);
}
