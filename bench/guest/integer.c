/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Integer kernels: what compilers make of ordinary C. SHA-256 follows FIPS 180-4, section 6.2. */
#include "bench.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- arithmetic in registers ---- */

static int alu_loop(uint64_t n, const char *arg, uint64_t *sum) {
    uint64_t x = 0x0123456789abcdefull, y = 1;

    for (uint64_t i = 0; i < n; i++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        y ^= x >> 33;
        y = y << 7 | y >> 57;
        y += x & 1 ? i : ~i;
    }
    *sum = x ^ y;
    return 0;
}

/* ---- the C library's sort, with its callback ---- */

enum { SORT_COUNT = 8192 };

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static int sort(uint64_t n, const char *arg, uint64_t *sum) {
    static uint32_t v[SORT_COUNT];
    uint64_t state = 42, s = 0;

    for (uint64_t i = 0; i < n; i++) {
        for (size_t k = 0; k < SORT_COUNT; k++)
            v[k] = (uint32_t)next_random(&state);
        qsort(v, SORT_COUNT, sizeof(v[0]), compare_u32);
        for (size_t k = 0; k < SORT_COUNT; k += 97)
            s = mix(s, v[k]);
    }
    *sum = s;
    return 0;
}

/* ---- a hash table with open addressing ---- */

/* 256 KiB, which any software TLB covers: with more, the peer's figure jumps between two values ten
 * times apart, by the size its TLB happens to have. */
enum { HASH_SIZE = 1 << 14 };

static int hash(uint64_t n, const char *arg, uint64_t *sum) {
    static uint64_t key[HASH_SIZE], value[HASH_SIZE];
    uint64_t state = 7, s = 0;
    size_t used = 0;

    memset(key, 0, sizeof(key));
    for (uint64_t i = 0; i < n; i++) {
        uint64_t k = (next_random(&state) & (HASH_SIZE - 1)) + 1;
        size_t at = k * 0x9e3779b97f4a7c15ull >> 50;

        while (key[at] && key[at] != k)
            at = (at + 1) % HASH_SIZE;
        if (key[at]) {
            s += value[at]++;
        } else if (used < HASH_SIZE / 4 * 3) {
            key[at] = k;
            value[at] = i;
            used++;
        }
    }
    *sum = mix(s, used);
    return 0;
}

/* ---- CRC-32, one byte at a time from a table ---- */

static int crc(uint64_t n, const char *arg, uint64_t *sum) {
    static uint8_t data[16384];
    uint32_t table[256], c = ~0u;
    uint64_t state = 3;

    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;

        for (int k = 0; k < 8; k++)
            v = v & 1 ? v >> 1 ^ 0xedb88320u : v >> 1;
        table[i] = v;
    }
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(next_random(&state) >> 56);
    for (uint64_t i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof(data); k++)
            c = table[(c ^ data[k]) & 0xff] ^ c >> 8;
    *sum = ~c;
    return 0;
}

/* ---- SHA-256 ---- */

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t ror(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void sha_block(uint32_t h[8], const uint8_t *p) {
    uint32_t w[64], v[8];

    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
               (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(v, h, sizeof(v));
    for (int i = 0; i < 64; i++) {
        uint32_t a = v[0], e = v[4];
        uint32_t t1 = v[7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & v[5]) ^ (~e & v[6])) +
                      sha_k[i] + w[i];
        uint32_t t2 =
            (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));

        v[7] = v[6], v[6] = v[5], v[5] = v[4], v[4] = v[3] + t1;
        v[3] = v[2], v[2] = v[1], v[1] = v[0], v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        h[i] += v[i];
}

static int sha256(uint64_t n, const char *arg, uint64_t *sum) {
    static uint8_t data[4096];
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint64_t state = 11;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(next_random(&state) >> 56);
    for (uint64_t i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof(data); k += 64)
            sha_block(h, data + k);
    *sum = (uint64_t)h[0] << 32 | h[7];
    return 0;
}

/* ---- a bytecode interpreter: indirect jumps that depend on data ---- */

enum op { OP_LOAD, OP_ADD, OP_XOR, OP_MUL, OP_SHR, OP_LOOP, OP_ODD, OP_STORE, OP_END };

struct insn {
    uint8_t op, a, b;
    int8_t value;
};

static uint64_t interpret(const struct insn *code, uint64_t turns) {
    static const void *const go[] = {&&load, &&add, &&xor,   &&mul, &&shr,
                                     &&loop, &&odd, &&store, &&end};
    uint64_t r[8] = {1, 2, 3, 4, 5, 6, 7, turns}, cell[64] = {0};
    const struct insn *pc = code;

#define NEXT goto *go[(++pc)->op]
    goto *go[pc->op];
load:
    r[pc->a] = cell[r[pc->b] & 63];
    NEXT;
add:
    r[pc->a] += r[pc->b] + (uint64_t)pc->value;
    NEXT;
    xor : r[pc->a] ^= r[pc->b];
    NEXT;
mul:
    r[pc->a] = r[pc->a] * (2 * r[pc->b] + 1);
    NEXT;
shr:
    r[pc->a] = r[pc->b] >> pc->value;
    NEXT;
odd: /* skips that many when the register is odd */
    if (r[pc->a] & 1)
        pc += pc->value;
    NEXT;
store:
    cell[r[pc->b] & 63] = r[pc->a];
    NEXT;
loop:
    if (--r[pc->a])
        pc += pc->value;
    NEXT;
#undef NEXT
end:
    return r[0] ^ r[1] ^ cell[5];
}

static int interp(uint64_t n, const char *arg, uint64_t *sum) {
    static const struct insn code[] = {
        {OP_ADD, 0, 1, 3},   {OP_MUL, 1, 0, 0},  {OP_SHR, 2, 1, 17}, {OP_ODD, 2, 0, 2},
        {OP_XOR, 0, 2, 0},   {OP_ADD, 3, 2, -1}, {OP_LOAD, 4, 2, 0}, {OP_ADD, 4, 3, 1},
        {OP_STORE, 4, 0, 0}, {OP_ODD, 4, 0, 1},  {OP_XOR, 1, 4, 0},  {OP_LOOP, 7, 0, -12},
        {OP_END, 0, 0, 0},
    };

    *sum = interpret(code, n);
    return 0;
}

/* ---- calls and returns ---- */

static __attribute__((noinline, noclone, optimize("no-optimize-sibling-calls"))) uint64_t
fib(unsigned n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static int calls(uint64_t n, const char *arg, uint64_t *sum) {
    uint64_t s = 0;

    for (uint64_t i = 0; i < n; i++)
        s = mix(s, fib(18 + (unsigned)(i & 1)));
    *sum = s;
    return 0;
}

/* ---- the C library's memcpy and strlen ---- */

static int strings(uint64_t n, const char *arg, uint64_t *sum) {
    static char a[16384], b[16384];
    uint64_t state = 5, s = 0;

    for (size_t i = 0; i < sizeof(a); i++)
        a[i] = (char)('a' + (next_random(&state) >> 60));
    for (uint64_t i = 0; i < n; i++) {
        size_t length = 64 + (next_random(&state) & 0x1fff), from = next_random(&state) & 0xfff;

        memcpy(b, a + from, length);
        b[length] = '\0';
        s = mix(s, strlen(b) + (uint8_t)b[length / 2]);
        a[next_random(&state) & 0x3fff] = 'z';
    }
    *sum = s;
    return 0;
}

/* ---- LZ77 with a hash of the last positions, and back ---- */

enum { LZ_SIZE = 32768, LZ_HASH = 4096 };

static size_t lz_pack(const uint8_t *in, size_t size, uint8_t *out) {
    static uint16_t last[LZ_HASH];
    size_t to = 0, at = 0;

    memset(last, 0, sizeof(last));
    while (at + 4 <= size) {
        uint32_t word;
        size_t h, from, length = 0;

        memcpy(&word, in + at, 4);
        h = word * 2654435761u >> 20;
        from = last[h];
        last[h] = (uint16_t)at;
        if (from < at)
            while (length < 130 && at + length < size && in[from + length] == in[at + length])
                length++;
        if (length >= 4) {
            out[to++] = (uint8_t)(0x80 + length - 4);
            out[to++] = (uint8_t)(from >> 8);
            out[to++] = (uint8_t)from;
            at += length;
        } else {
            out[to++] = in[at++] & 0x7f;
        }
    }
    while (at < size)
        out[to++] = in[at++] & 0x7f;
    return to;
}

static size_t lz_unpack(const uint8_t *in, size_t size, uint8_t *out) {
    size_t to = 0;

    for (size_t at = 0; at < size;) {
        if (in[at] < 0x80) {
            out[to++] = in[at++];
            continue;
        }
        size_t length = in[at] - 0x80u + 4, from = (size_t)in[at + 1] << 8 | in[at + 2];

        at += 3;
        while (length--)
            out[to++] = out[from++];
    }
    return to;
}

static int lz(uint64_t n, const char *arg, uint64_t *sum) {
    static uint8_t text[LZ_SIZE], packed[2 * LZ_SIZE], back[LZ_SIZE + 256];
    static const char *const words[] = {"lorem ", "ipsum ",  "dolor ", "sit ",
                                        "amet, ", "tempor ", "ut. "};
    uint64_t state = 9, s = 0;

    for (size_t i = 0; i < LZ_SIZE;) {
        const char *w = words[next_random(&state) % 7];
        uint64_t letter = next_random(&state);

        if ((letter & 15) == 0)
            text[i++] = (uint8_t)('0' + letter % 64 / 8);
        while (*w && i < LZ_SIZE)
            text[i++] = (uint8_t)*w++;
    }
    for (uint64_t i = 0; i < n; i++) {
        size_t size = lz_pack(text, LZ_SIZE, packed);

        if (lz_unpack(packed, size, back) != LZ_SIZE || memcmp(back, text, LZ_SIZE) != 0)
            return -EBADMSG;
        s = mix(s, size);
        text[next_random(&state) % LZ_SIZE] = 'q';
    }
    *sum = s;
    return 0;
}

const struct kernel integer_kernels[] = {
    {"alu", alu_loop},  {"sort", sort},   {"hash", hash},       {"crc", crc}, {"sha256", sha256},
    {"interp", interp}, {"calls", calls}, {"strings", strings}, {"lz", lz},   {NULL, NULL},
};
