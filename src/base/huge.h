/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory on huge pages: what is walked at random costs the host a page walk at every step
 * otherwise, and the walks of a host that is itself a guest are dear.
 *
 * Contract: any thread. Where the host has no huge page to give, small ones serve.
 */
#ifndef BASE_HUGE_H
#define BASE_HUGE_H

#include <stddef.h>

#define HUGE_SIZE ((size_t)2 << 20)

/* Address space that begins at a multiple of HUGE_SIZE and cannot be accessed, to be mapped over;
 * NULL if there is none. munmap gives it back. */
void *huge_reserve(size_t size);
/* Zeroed memory, or NULL: on small pages, so that who needs little takes little. */
void *huge_alloc(size_t size);
/* From now on it is worth huge pages: what it holds moves there. */
void huge_warm(void *p, size_t size);
void huge_free(void *p, size_t size); /* of huge_alloc; accepts NULL */
/* Puts HUGE_SIZE bytes of a shared file, which is mapped for writing at `rw` and once more at
 * `also`, on a huge page in both mappings. Best before they are filled: then 512 faults are saved.
 */
void huge_collapse(void *rw, void *also);

#endif
