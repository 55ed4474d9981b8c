/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two halves of the translator share: jit.c (run time) and translate.c. */
#ifndef CPU_SOFT_JIT_JIT_INTERNAL_H
#define CPU_SOFT_JIT_JIT_INTERNAL_H

#include "cpu/soft/jit/jit.h"

enum { JIT_BLOCK_MAX = 65536, JIT_KEYS = 16 };

enum { JIT_KEY_VALUES = 1 << 12 };

#define JIT_POISON    (0x8000ull << 48) /* a key that no entry of the jump cache has */
#define JIT_UNREACHED (0x4000ull << 48) /* see jc_empty */

#define JIT_NO_MODE 0u /* no mode has these bits: translated code is 64-bit */

struct jit_link { /* lies in the code cache, next to its exit */
    uint32_t at;  /* offset of the jump's displacement */
};

struct jit_cache {
    uint8_t *rw, *rx;
    size_t size, start, used; /* start: end of the shared code */
    void (*enter)(struct ref *c, const void *code);
    size_t leave, bail, slow, helper, vec_load; /* offsets of the shared code */
    uint32_t key_mode[JIT_KEYS];
    uint16_t key_value[JIT_KEYS];
    unsigned next_key;
};

void jit_emit_common(struct ref *c);
void jit_set_key(struct ref *c); /* after c->mode or the generation changed */

#endif
