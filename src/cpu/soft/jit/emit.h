/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Host machine code, byte by byte: the few instructions that the translator adds around the guest's
 * own. */
#ifndef CPU_SOFT_JIT_EMIT_H
#define CPU_SOFT_JIT_EMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Scratch registers, not the guest's: A is R15, B is R14. */
enum { H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI, H_B = 14, H_A = 15, H_NONE = 0xff };

struct emit {
    uint8_t *p; /* where bytes are written */
    size_t n, cap;
};

static inline void e8(struct emit *e, unsigned b) {
    if (e->n < e->cap)
        e->p[e->n] = (uint8_t)b;
    e->n++;
}
static inline void e_bytes(struct emit *e, const void *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        e8(e, ((const uint8_t *)p)[i]);
}
static inline void e32(struct emit *e, uint32_t v) { e_bytes(e, &v, 4); }
static inline void e64(struct emit *e, uint64_t v) { e_bytes(e, &v, 8); }

/* Up to three bytes of nothing, as one instruction. */
static inline void e_nop(struct emit *e, size_t n) {
    e_bytes(e, n == 3 ? "\x0f\x1f\x00" : n == 2 ? "\x66\x90" : "\x90", n);
}

/* op reg, gs:[disp] (or the reverse for a store opcode), 64-bit when w. */
static inline void e_gs(struct emit *e, unsigned w, unsigned op, unsigned reg, size_t disp) {
    e8(e, 0x65);
    if (w || reg >= 8)
        e8(e, 0x40 | w << 3 | (reg >> 3) << 2);
    e8(e, op);
    e8(e, (reg & 7) << 3 | 4);
    e8(e, 0x25);
    e32(e, (uint32_t)disp);
}
static inline void e_load(struct emit *e, unsigned reg, size_t disp) {
    e_gs(e, 1, 0x8b, reg, disp);
}
static inline void e_store(struct emit *e, unsigned reg, size_t disp) {
    e_gs(e, 1, 0x89, reg, disp);
}

/* op reg, gs:[base + disp], 64-bit; no RSP, no R12. */
static inline void e_gs_base(struct emit *e, unsigned op, unsigned reg, unsigned base,
                             size_t disp) {
    e8(e, 0x65);
    e8(e, 0x48 | (reg >> 3) << 2 | base >> 3);
    e8(e, op);
    e8(e, 2 << 6 | (reg & 7) << 3 | (base & 7));
    e32(e, (uint32_t)disp);
}

/* op reg, gs:[index*8 + disp], 64-bit. */
static inline void e_gs_index(struct emit *e, unsigned op, unsigned reg, unsigned index,
                              size_t disp) {
    e8(e, 0x65);
    e8(e, 0x48 | (reg >> 3) << 2 | (index >> 3) << 1);
    e8(e, op);
    e8(e, (reg & 7) << 3 | 4);
    e8(e, 3 << 6 | (index & 7) << 3 | 5);
    e32(e, (uint32_t)disp);
}

/* mov dword gs:[disp], imm; mov byte gs:[disp], imm; cmp byte gs:[disp], imm; cmp dword gs:[disp],
 * imm8. */
static inline void e_gs_set32(struct emit *e, size_t disp, uint32_t imm) {
    e_gs(e, 0, 0xc7, 0, disp);
    e32(e, imm);
}
static inline void e_gs_set8(struct emit *e, size_t disp, unsigned imm) {
    e_gs(e, 0, 0xc6, 0, disp);
    e8(e, imm);
}
static inline void e_gs_cmp8(struct emit *e, size_t disp, unsigned imm) {
    e_gs(e, 0, 0x80, 7, disp);
    e8(e, imm);
}
static inline void e_gs_cmp32(struct emit *e, size_t disp, unsigned imm) {
    e_gs(e, 0, 0x83, 7, disp);
    e8(e, imm);
}

/* Register move, 64-bit when w. */
static inline void e_mov_w(struct emit *e, unsigned w, unsigned to, unsigned from) {
    e8(e, 0x40 | w << 3 | (from >> 3) << 2 | to >> 3);
    e8(e, 0x89);
    e8(e, 0xc0 | (from & 7) << 3 | (to & 7));
}
static inline void e_mov(struct emit *e, unsigned to, unsigned from) { e_mov_w(e, 1, to, from); }

/* [base + index << scale + disp]; H_NONE where there is no base or no index. RSP is no index. */
struct place {
    uint8_t base, index, scale;
    int32_t disp;
};

/* Bits X and B of a REX prefix for it. */
static inline unsigned e_rex_xb(struct place m) {
    return (m.index != H_NONE && m.index >= 8 ? 2 : 0) | (m.base != H_NONE && m.base >= 8);
}

/* ModRM, SIB and displacement. */
static inline void e_place(struct emit *e, unsigned reg, struct place m) {
    bool small = m.disp == (int8_t)m.disp;
    unsigned mod = m.disp == 0 && (m.base & 7) != 5 ? 0 : small ? 1 : 2;

    reg = (reg & 7) << 3;
    if (m.base == H_NONE) { /* absolute: SIB without base */
        e8(e, reg | 4);
        e8(e, (unsigned)m.scale << 6 | (m.index == H_NONE ? 4 : m.index & 7) << 3 | 5);
        e32(e, (uint32_t)m.disp);
        return;
    }
    if (m.index != H_NONE || (m.base & 7) == 4) {
        e8(e, mod << 6 | reg | 4);
        e8(e, (unsigned)m.scale << 6 | (m.index == H_NONE ? 4 : m.index & 7) << 3 | (m.base & 7));
    } else {
        e8(e, mod << 6 | reg | (m.base & 7));
    }
    if (mod == 1)
        e8(e, (uint8_t)m.disp);
    else if (mod == 2)
        e32(e, (uint32_t)m.disp);
}

/* op reg, place with an opcode byte, 64-bit when w. */
static inline void e_op(struct emit *e, unsigned w, unsigned op, unsigned reg, struct place m) {
    e8(e, 0x40 | w << 3 | (reg >> 3) << 2 | e_rex_xb(m));
    e8(e, op);
    e_place(e, reg, m);
}

/* lea to, [base + disp], 64-bit when w. */
static inline void e_lea_w(struct emit *e, unsigned w, unsigned to, unsigned base, int32_t disp) {
    e_op(e, w, 0x8d, to, (struct place){.base = (uint8_t)base, .index = H_NONE, .disp = disp});
}
static inline void e_lea(struct emit *e, unsigned to, unsigned base, int32_t disp) {
    e_lea_w(e, 1, to, base, disp);
}

/* Jumps with a 32-bit displacement: return the offset of the displacement for e_patch. */
static inline size_t e_jmp(struct emit *e) {
    e8(e, 0xe9);
    e32(e, 0);
    return e->n - 4;
}
static inline size_t e_jcc(struct emit *e, unsigned cc) {
    e8(e, 0x0f);
    e8(e, 0x80 | cc);
    e32(e, 0);
    return e->n - 4;
}
static inline void e_patch_to(struct emit *e, size_t at, size_t target) {
    uint32_t d = (uint32_t)(target - (at + 4));

    if (at + 4 <= e->cap)
        memcpy(e->p + at, &d, 4);
}
static inline void e_patch(struct emit *e, size_t at) { e_patch_to(e, at, e->n); }

#endif
