/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The processor's saved state: reset values, round trip, and everything a hostile snapshot may
 * claim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/soft/decode.h"
#include "cpu/x86.h"

/* A state of 64-bit user code that has most fields set. */
static struct x86_state good(void) {
    struct x86_state s;

    x86_reset(&s, false);
    s.cr0 = 0x80050033;
    s.cr4 =
        X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_OSFXSR | X86_CR4_OSXSAVE | X86_CR4_SMEP;
    s.efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
    s.cr3 = 0x12345001;
    s.rip = 0x00007fff12345678;
    s.rflags = 0x10246;
    for (unsigned i = 0; i < 16; i++)
        s.gpr[i] = 0x0123456789abcdef * (i + 1);
    s.seg[SEG_CS] = (struct x86_segment){.sel = 0x33, .attr = 0xa0fb, .limit = 0xffffffff};
    s.seg[SEG_SS] = (struct x86_segment){.sel = 0x2b, .attr = 0xc0f3, .limit = 0xffffffff};
    s.seg[SEG_FS].base = 0x00007f0000001000;
    s.seg[SEG_GS].base = 0xffff888000000000;
    s.lstar = 0xffffffff81000000;
    s.xcr0 = 7;
    s.mtrr_base[3] = 0xc0000000;
    s.mtrr_mask[3] = 0xffc0000800;
    s.mtrr_def_type = 0xc06;
    s.exception_pending = true;
    s.exception_vector = X86_PF;
    s.exception_error = 4;
    s.debug_pending = X86_DR6_BS | 5;
    s.debug_hold = true;
    return s;
}

static int try_load(const struct x86_state *s, struct error *err) {
    struct x86_state loaded = {0};
    struct buf bytes = {0};
    int code;

    state_save(&x86_state_desc, s, &bytes);
    code = state_validate(&x86_state_desc, &loaded, bytes.data, bytes.len, err);
    if (code == 0) {
        assert_int_equal(state_load(&x86_state_desc, &loaded, bytes.data, bytes.len, err), 0);
        assert_true(state_equal(&x86_state_desc, s, &loaded));
    }
    buf_done(&bytes);
    return code;
}

static void power_on_has_the_values_of_the_manual(void **state) {
    struct x86_state s;

    memset(&s, 0xa5, sizeof(s));
    x86_reset(&s, false);
    assert_int_equal(s.cr0, 0x60000010);
    assert_int_equal(s.rflags, 2);
    assert_int_equal(s.seg[SEG_CS].base + s.rip, 0xfffffff0);
    assert_int_equal(s.gpr[X86_RDX] >> 8 & 0xf, 6);
    assert_int_equal(s.gpr[X86_RAX] | s.gpr[X86_RSP], 0);
    assert_int_equal(s.dr6, 0xffff0ff0);
    assert_int_equal(s.dr7, 0x400);
    assert_int_equal(s.fpu.fcw, 0x40);
    assert_int_equal(s.fpu.mxcsr, 0x1f80);
    assert_int_equal(s.xcr0, 1);
    assert_int_equal(s.pat, 0x0007040600070406);
    assert_int_equal(s.idtr.limit, 0xffff);
    assert_int_equal(try_load(&s, NULL), 0);
}

static void init_keeps_fpu_and_msrs_and_cache_control(void **state) {
    struct x86_state s = good();

    s.cr0 |= X86_CR0_CD;
    s.fpu.vec[3][5] = 0x77;
    s.tsc_adjust = 99;
    x86_reset(&s, true);
    assert_int_equal(s.cr0, X86_CR0_CD | X86_CR0_ET);
    assert_int_equal(s.cr4 | s.efer | s.cr3, 0);
    assert_int_equal(s.fpu.vec[3][5], 0x77);
    assert_int_equal(s.lstar, 0xffffffff81000000);
    assert_int_equal(s.mtrr_def_type, 0xc06);
    assert_int_equal(s.tsc_adjust, 99);
    assert_int_equal(s.xcr0, 7);
    assert_false(s.exception_pending);
    assert_int_equal(s.debug_pending, 0);
    assert_false(s.debug_hold);
    assert_int_equal(try_load(&s, NULL), 0);
}

static void a_rich_state_survives_the_round_trip(void **state) {
    struct x86_state s = good();
    struct error err = {0};

    assert_int_equal(try_load(&s, &err), 0);
}

#define REFUSED(change)                                                                            \
    do {                                                                                           \
        struct x86_state s = good();                                                               \
        struct error err = {0};                                                                    \
        change;                                                                                    \
        if (try_load(&s, &err) == 0)                                                               \
            fail_msg("accepted: %s", #change);                                                     \
        assert_true(strlen(err.text) > 10);                                                        \
    } while (0)

static void control_registers_that_cannot_be_are_refused(void **state) {
    REFUSED(s.cr0 &= ~X86_CR0_PE);
    REFUSED(s.cr0 |= X86_CR0_NW);
    REFUSED(s.cr0 |= 1ull << 32);
    REFUSED(s.cr0 |= 1u << 6);
    REFUSED(s.cr4 |= X86_CR4_LA57);
    REFUSED(s.cr4 |= 1ull << 13);
    REFUSED(s.cr4 &= ~X86_CR4_PAE);
    REFUSED(s.cr0 &= ~X86_CR0_PG);
    REFUSED(s.efer &= ~X86_EFER_LMA);
    REFUSED(s.efer &= ~X86_EFER_LME);
    REFUSED(s.efer |= 1u << 12);
    REFUSED(s.cr3 |= 1ull << 40);
    REFUSED(s.pdpte[2] = 1ull << 40 | 1);
    REFUSED(s.pdpte[0] = 3);
}

static void modes_that_cannot_be_are_refused(void **state) {
    REFUSED(s.rflags &= ~2ull);
    REFUSED(s.rflags |= 1u << 15);
    REFUSED(s.rflags |= 1ull << 40);
    REFUSED(s.rflags |= X86_FLAG_VM);
    REFUSED(s.seg[SEG_CS].attr |= X86_ATTR_DB);
    REFUSED(s.seg[SEG_CS].attr |= X86_ATTR_UNUSABLE);
    REFUSED(s.seg[SEG_CS].attr &= ~X86_ATTR_L);
    REFUSED(s.rip = 0x0000800000000000);
    REFUSED(s.seg[SEG_DS].attr |= 1u << 9);
    REFUSED(s.seg[SEG_DS].attr |= 1u << 20);
}

static void addresses_that_are_not_canonical_are_refused(void **state) {
    REFUSED(s.gdtr.base = 1ull << 47);
    REFUSED(s.idtr.base = 1ull << 63);
    REFUSED(s.tr.base = 1ull << 50);
    REFUSED(s.ldtr.base = 1ull << 50);
    REFUSED(s.seg[SEG_FS].base = 1ull << 48);
    REFUSED(s.seg[SEG_GS].base = 1ull << 48);
    REFUSED(s.seg[SEG_DS].base = 1ull << 32);
    REFUSED(s.lstar = 1ull << 48);
    REFUSED(s.cstar = 1ull << 48);
    REFUSED(s.kernel_gs_base = 1ull << 48);
    REFUSED(s.sysenter_esp = 1ull << 48);
    REFUSED(s.sysenter_eip = 1ull << 48);
}

static void msrs_that_wrmsr_would_refuse_are_refused(void **state) {
    REFUSED(s.xcr0 = 6);
    REFUSED(s.xcr0 = 5);
    REFUSED(s.xcr0 = 0xe7);
    REFUSED(s.xss = 1);
    REFUSED(s.dr7 |= 1ull << 32);
    REFUSED(s.pat = 2);
    REFUSED(s.mtrr_def_type = 7);
    REFUSED(s.mtrr_fixed[10] = 3);
    REFUSED(s.mtrr_base[7] = 0x102);
    REFUSED(s.mtrr_mask[0] = 1);
    REFUSED(s.spec_ctrl = 8);
    REFUSED(s.sfmask = 1ull << 32);
    REFUSED(s.tsc_aux = 1ull << 32);
    REFUSED(s.fpu.mxcsr = 0x10000);
    REFUSED(s.fpu.fop = 0x800);
    REFUSED(s.activity = 4);
    REFUSED(s.shadow = 2);
    REFUSED(s.exception_vector = 32);
    REFUSED(s.debug_pending = 0x10);
    REFUSED(s.debug_pending = 0x8000);
}

static void truncated_and_overlong_bytes_are_refused(void **state) {
    struct x86_state s = good(), loaded = {0};
    struct buf bytes = {0};

    state_save(&x86_state_desc, &s, &bytes);
    for (size_t n = 0; n < bytes.len; n++)
        assert_true(state_validate(&x86_state_desc, &loaded, bytes.data, n, NULL) < 0);
    buf_grow(&bytes, 1);
    assert_true(state_validate(&x86_state_desc, &loaded, bytes.data, bytes.len, NULL) < 0);
    buf_done(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_on_has_the_values_of_the_manual),
        cmocka_unit_test(init_keeps_fpu_and_msrs_and_cache_control),
        cmocka_unit_test(a_rich_state_survives_the_round_trip),
        cmocka_unit_test(control_registers_that_cannot_be_are_refused),
        cmocka_unit_test(modes_that_cannot_be_are_refused),
        cmocka_unit_test(addresses_that_are_not_canonical_are_refused),
        cmocka_unit_test(msrs_that_wrmsr_would_refuse_are_refused),
        cmocka_unit_test(truncated_and_overlong_bytes_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
