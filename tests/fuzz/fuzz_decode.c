/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random bytes through the decoder, its operands and its formatter; the first byte chooses the
 * mode. */
#include "cpu/soft/decode.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_operands(const struct insn *in) {
    struct operand op;
    for (unsigned i = 0; i <= INSN_MAX_OPERANDS; i++) {
        insn_operand(in, i, &op);
        if ((op.kind == OPK_NONE) != (i >= in->row->nops) || op.reg > 15 || op.access > 3)
            abort();
        insn_operand_method(in, i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    unsigned mode = 2u << data[0] % 3;
    size_t n = size - 1;
    /* A buffer of exactly that size: the sanitizer sees any byte read beyond it. */
    uint8_t *bytes = malloc(n ? n : 1);
    if (!bytes)
        return 0;
    memcpy(bytes, data + 1, n);
    for (size_t at = 0; at < n;) {
        struct insn in;
        char text[64];
        int len = insn_decode(&in, bytes + at, n - at, mode);
        if (len > INSN_MAX_LEN || len < -2 || in.len > INSN_MAX_LEN || (size_t)in.len > n - at)
            abort();
        if (len > 0) {
            check_operands(&in);
            insn_lock_ok(&in);
            size_t text_len = insn_format(&in, at, text, 1 + data[0] % sizeof(text));
            if (text_len != strlen(text))
                abort();
        }
        at += len > 0 ? (size_t)len : 1;
    }
    free(bytes);
    return 0;
}
