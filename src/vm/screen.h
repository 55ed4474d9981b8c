/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's screen, keyboard and pointer, as the host has them: the picture, the VNC server, and
 * the way of keys to whatever device the guest listens to.
 *
 * Contract: loop's thread, machine lock held.
 */
#ifndef VM_SCREEN_H
#define VM_SCREEN_H

#include <stdbool.h>

#include "base/error.h"
#include "display/input.h"

struct buf;
struct loop;
struct machine;
struct machine_display;
struct options;
struct snapshot;
struct snapshot_sections;
struct vm_screen;

/* Before the machine, which gets *ret_display. NULL with a sentence on failure. */
struct vm_screen *vm_screen_new(struct loop *loop, const struct options *options,
                                struct machine_display *ret_display, struct error *err);
/* After it: keys go there, and the VNC server listens. */
int vm_screen_attach(struct vm_screen *s, struct machine *machine, const struct options *options,
                     struct error *err);
void vm_screen_close(struct vm_screen *s); /* before the machine goes; ends VNC. Accepts NULL */
void vm_screen_free(struct vm_screen *s);  /* after it. Accepts NULL */

/* Keys that wait for the guest go with it: one that is down comes up again. */
void vm_screen_save(const struct vm_screen *s, struct snapshot_sections *out);
void vm_screen_load(struct vm_screen *s, const struct snapshot *from); /* before it is attached */

/* The picture as a PNG, drawn for this. */
int vm_screen_png(struct vm_screen *s, struct buf *out, struct error *err);
void vm_screen_size(const struct vm_screen *s, unsigned *ret_width, unsigned *ret_height);
unsigned vm_screen_viewers(const struct vm_screen *s);

/* Queues a key; false: too many wait. Keys reach the guest as fast as it takes them. */
bool vm_screen_key(struct vm_screen *s, unsigned code, bool down);
void vm_screen_hold(struct vm_screen *s, unsigned ms); /* the next key waits so long */
unsigned vm_screen_keys_room(const struct vm_screen *s);
uint8_t vm_screen_buttons(const struct vm_screen *s); /* that are down */
void vm_screen_pointer(struct vm_screen *s, const struct input_pointer *p);

#endif
