/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Zeroed memory for large structs of which little is used: what is not touched costs nothing.
 * (calloc fills what it gives from its heap with zeroes, page by page.)
 *
 * Contract: any thread.
 */
#ifndef BASE_ZERO_H
#define BASE_ZERO_H

#include <stddef.h>

/* NULL if there is none. Small sizes come from the heap. */
void *zero_alloc(size_t size);
void zero_free(void *p, size_t size); /* of the same size; accepts NULL */

#endif
