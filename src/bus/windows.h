/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Windows: memory of devices of the host that the guest's processors reach by themselves, as KVM's
 * do memory of the process. Where there is none, as with every backend but KVM, an access comes to
 * the board as any other; so a window must only ever save time.
 *
 * Contract: machine lock held. The memory is not the machine's: it is in no snapshot, and devices
 * do not reach it. It stays there as long as the window.
 */
#ifndef BUS_WINDOWS_H
#define BUS_WINDOWS_H

#include <stdbool.h>
#include <stdint.h>

enum { WINDOWS_MOST = 64 }; /* of one machine */

struct windows;

/* What the processors' backend can do: at `at`, whole pages, is this memory from now on; `size` 0:
 * what window n showed is no longer there. 0, or a negative errno if it cannot. */
typedef int window_fn(void *opaque, unsigned n, uint64_t at, void *memory, uint64_t size);

/* NULL if out of memory. `show` NULL: no backend does it. */
struct windows *windows_new(window_fn *show, void *opaque);
void windows_free(struct windows *w); /* accepts NULL */

/* The number of the window, or negative: accesses go on to come to the board. `w` NULL: as well. */
int window_open(struct windows *w, uint64_t at, void *memory, uint64_t size);
void window_close(struct windows *w, int n); /* negative: nothing */
/* The backend is going, and is not asked any more. */
void windows_come_home(struct windows *w);

#endif
