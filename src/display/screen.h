/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The picture on a machine's screen: who draws it (a display adapter) and who looks at it (VNC
 * clients, screenshots).
 *
 * Contract: machine lock held. Nothing is drawn unless somebody looks: screen_refresh asks the
 * source on top to bring the picture up to date; what differs from before is damage, kept for each
 * watcher by tiles until it takes it. Pixels are 32 bits, 0x00RRGGBB; the top byte is whatever the
 * guest left there.
 */
#ifndef DISPLAY_SCREEN_H
#define DISPLAY_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCREEN_TILE_W = 64,
    SCREEN_TILE_H = 16,
    SCREEN_MAX_SIDE = 8192,
    SCREEN_MAX_PIXELS = 16 << 20,
    SCREEN_SOURCES = 2
};

struct screen;

struct screen_source {
    /* Brings the picture up to date by screen_resize, screen_put and screen_fill. `all`: the
     * picture holds nothing of this source's yet. */
    void (*draw)(void *opaque, struct screen *s, bool all);
    /* The host would like another size (a viewer's window was resized). NULL: the guest decides. */
    void (*wish)(void *opaque, unsigned width, unsigned height);
    void *opaque;
};

struct screen_watch { /* one who looks; embedded by him */
    uint8_t *dirty;   /* one byte a tile, rows of tiles */
    unsigned columns, rows;
    bool resized; /* the size changed; whoever looks resets it */
    bool any;     /* some tile is dirty */
    struct screen_watch *next;
};

struct screen {
    uint32_t *pixels; /* height rows of width */
    unsigned width, height;
    struct screen_source source[SCREEN_SOURCES]; /* the last one that can draw is shown */
    bool stale;                                  /* the next draw is for all of it */
    struct screen_watch *watch;
};

/* 640x480, black. NULL: out of memory. */
struct screen *screen_new(void);
void screen_free(struct screen *s); /* accepts NULL */

/* ---- those who draw ---- */
/* Sources of a higher rank hide those below; draw NULL takes it away. */
void screen_set_source(struct screen *s, unsigned rank, const struct screen_source *source);
/* False: too large, or no memory; the size stays. Contents are black after a change. */
bool screen_resize(struct screen *s, unsigned width, unsigned height);
/* n pixels of a row; those outside of the picture are ignored. */
void screen_put(struct screen *s, unsigned x, unsigned y, const uint32_t *pixels, unsigned n);
void screen_fill(struct screen *s, uint32_t pixel); /* all of it */

/* ---- those who look ---- */
void screen_watch_add(struct screen *s, struct screen_watch *w); /* everything is dirty */
void screen_watch_remove(struct screen *s, struct screen_watch *w);
void screen_watch_all(struct screen *s, struct screen_watch *w); /* everything is dirty again */
/* Draws. True if the picture has changed. */
bool screen_refresh(struct screen *s);
void screen_wish(struct screen *s, unsigned width, unsigned height);

#endif
