/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page walks: each format's pages, every combination of rights, reserved bits, accessed and dirty
 * bits. The expected outcome of the rights test comes from the manual's sentences (SDM vol.
 * 3A 4.6, 4.7) written as boolean expressions, not from a walk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/box.h"
#include "cpu/soft/ref/sys.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };
#define NX (1ull << 63)

enum { T1 = 0x100000, T2 = 0x101000, T3 = 0x102000, T4 = 0x103000, PAGE = 0x200000 };

static struct box box;

static int setup(void **state) {
    box_new(&box, NULL);
    *state = &box;
    return 0;
}

static int teardown(void **state) {
    box_done(&box);
    return 0;
}

static struct ref *use(uint64_t cr0, uint64_t cr4, uint64_t efer, uint64_t cr3) {
    struct ref *c = box.ref;

    c->s.cr0 = cr0;
    c->s.cr4 = cr4;
    c->s.efer = efer;
    c->s.cr3 = cr3;
    return c;
}

static struct ref *use_long(void) {
    return use(X86_CR0_PE | X86_CR0_PG | X86_CR0_WP, X86_CR4_PAE,
               X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE, T1);
}

/* 4-level tables for lin, with the given flags at each level; returns the address of the leaf
 * entry. */
static void map_long(uint64_t lin, uint64_t f4, uint64_t f3, uint64_t f2, uint64_t f1) {
    for (unsigned i = 0; i < 4; i++)
        memset(mem_ptr(&box.mem, T1 + i * 0x1000, 0x1000, true), 0, 0x1000);
    box_set(&box, T1 + (lin >> 39 & 511) * 8, 8, T2 | f4);
    box_set(&box, T2 + (lin >> 30 & 511) * 8, 8, T3 | f3);
    box_set(&box, T3 + (lin >> 21 & 511) * 8, 8, T4 | f2);
    box_set(&box, T4 + (lin >> 12 & 511) * 8, 8, PAGE | f1);
}

static int walk(uint64_t lin, enum ref_access access, bool user, struct ref_xlat *x,
                uint32_t *error) {
    *error = 0xdead;
    return ref_mmu_translate(box.ref, lin, access, user, x, error);
}

static void expect_pa(uint64_t lin, gpa pa, bool large) {
    struct ref_xlat x;
    uint32_t error;

    assert_int_equal(walk(lin, REF_READ, false, &x, &error), 0);
    assert_int_equal(x.pa, pa);
    assert_int_equal(x.large, large);
}

static void expect_error(uint64_t lin, enum ref_access access, bool user, uint32_t expected) {
    struct ref_xlat x;
    uint32_t error;

    assert_int_equal(walk(lin, access, user, &x, &error), -1);
    assert_int_equal(error, expected);
}

static void without_paging_addresses_wrap_at_32_bits(void **state) {
    use(X86_CR0_PE, 0, 0, 0);
    expect_pa(0x123456789, 0x23456789, false);
}

static void four_levels_lead_to_4k_2m_and_1g_pages(void **state) {
    const uint64_t lin = 0xffff912345678abc;

    use_long();
    map_long(lin, 7, 7, 7, 7);
    expect_pa(lin, PAGE | 0xabc, false);
    box_set(&box, T3 + (lin >> 21 & 511) * 8, 8, 0x40000000 | 1 << 12 | PS | 7); /* bit 12 is PAT */
    expect_pa(lin, 0x40000000 | (lin & 0x1fffff), true);
    box_set(&box, T2 + (lin >> 30 & 511) * 8, 8, 0x1c0000000 | PS | 7);
    expect_pa(lin, 0x1c0000000 | (lin & 0x3fffffff), true);
}

static void every_combination_of_rights_gives_the_manuals_outcome(void **state) {
    const uint64_t lin = 0x7f1234567000;
    unsigned bad = 0;

    use_long();
    /* Four levels of W and U and the leaf's NX, CR0.WP, CR4.SMEP, EFER.NXE on, access, privilege.
     */
    for (unsigned n = 0; n < 1u << 14; n++) {
        uint64_t f[4];
        bool all_w = true, all_u = true, nx = n >> 8 & 1, wp = n >> 9 & 1, smep = n >> 10 & 1,
             user = n >> 11 & 1;
        enum ref_access access = (n >> 12 & 3) % 3;
        bool ok, w;
        uint32_t error, expected;
        struct ref_xlat x;

        for (unsigned i = 0; i < 4; i++) {
            f[i] = P | (n >> (2 * i) & 1 ? W : 0) | (n >> (2 * i + 1) & 1 ? U : 0);
            all_w &= n >> (2 * i) & 1;
            all_u &= n >> (2 * i + 1) & 1;
        }
        box.ref->s.cr0 = X86_CR0_PE | X86_CR0_PG | (wp ? X86_CR0_WP : 0);
        box.ref->s.cr4 = X86_CR4_PAE | (smep ? X86_CR4_SMEP : 0);
        map_long(lin, f[0], f[1] | (nx ? NX : 0), f[2], f[3]);
        w = all_w || (!user && !wp);
        ok = !user || all_u;
        if (access == REF_WRITE)
            ok = ok && w;
        if (access == REF_FETCH)
            ok = ok && !nx && !(smep && !user && all_u);
        expected =
            1u | (access == REF_WRITE ? 2 : 0) | (user ? 4 : 0) | (access == REF_FETCH ? 16 : 0);
        if ((walk(lin, access, user, &x, &error) == 0) != ok)
            bad++;
        else if (!ok && error != expected)
            bad++;
        else if (ok && x.writable != (access == REF_WRITE))
            bad++; /* a clean page is not entered for writing */
    }
    assert_int_equal(bad, 0);
}

static void the_fetch_bit_of_the_error_code_needs_nx_or_smep(void **state) {
    use_long();
    expect_error(0x1000, REF_FETCH, true, 4 | 16);
    box.ref->s.efer &= ~X86_EFER_NXE;
    expect_error(0x1000, REF_FETCH, true, 4);
    box.ref->s.cr4 |= X86_CR4_SMEP;
    expect_error(0x1000, REF_FETCH, true, 4 | 16);
}

static void an_absent_entry_at_any_level_is_not_present(void **state) {
    const uint64_t lin = 0x12345678000;

    use_long();
    for (unsigned i = 0; i < 4; i++) {
        map_long(lin, i == 0 ? 6 : 7, i == 1 ? 6 : 7, i == 2 ? 6 : 7, i == 3 ? 6 : 7);
        expect_error(lin, REF_READ, false, 0);
        expect_error(lin, REF_WRITE, true, 6);
    }
}

static void reserved_bits_at_any_level_fault_as_reserved(void **state) {
    const uint64_t lin = 0x12345678000, high = 1ull << 40;

    use_long();
    map_long(lin, 7 | high, 7, 7, 7);
    expect_error(lin, REF_READ, false, 9);
    map_long(lin, 7, 7 | high, 7, 7);
    expect_error(lin, REF_READ, false, 9);
    map_long(lin, 7, 7, 7 | 1ull << 51, 7);
    expect_error(lin, REF_WRITE, true, 15);
    map_long(lin, 7, 7, 7, 7 | high);
    expect_error(lin, REF_READ, false, 9);
    map_long(lin, 7 | PS, 7, 7, 7);
    expect_error(lin, REF_READ, false, 9);
    map_long(lin, 7, 7, 7, 7 | 1ull << 52); /* bits 62:52 are the system's */
    expect_pa(lin, PAGE, false);
    map_long(lin, 7, 7, 7 | PS, 7); /* T4 as a 2 MiB page: bits 20:13 set */
    expect_error(lin, REF_READ, false, 9);
    box.ref->s.efer &= ~X86_EFER_NXE;
    map_long(lin, 7, 7, 7, 7 | NX);
    expect_error(lin, REF_READ, false, 9);
}

static void accessed_and_dirty_bits_are_set_only_by_accesses_that_succeed(void **state) {
    const uint64_t lin = 0x12345678000;
    gpa e[4] = {T1 + (lin >> 39 & 511) * 8, T2 + (lin >> 30 & 511) * 8, T3 + (lin >> 21 & 511) * 8,
                T4 + (lin >> 12 & 511) * 8};
    struct ref_xlat x;
    uint32_t error;

    use_long();
    map_long(lin, 7, 7, 7, P | W);
    expect_error(lin, REF_WRITE, true, 7);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(box_get(&box, e[i], 1) & (A | D), 0);
    assert_int_equal(walk(lin, REF_READ, false, &x, &error), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(box_get(&box, e[i], 1) & (A | D), A);
    assert_false(x.writable);
    assert_int_equal(walk(lin, REF_WRITE, false, &x, &error), 0);
    assert_true(x.writable);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(box_get(&box, e[i], 1) & (A | D), i == 3 ? A | D : A);
    assert_int_equal(walk(lin, REF_READ, false, &x, &error), 0);
    assert_true(x.writable); /* dirty already */
}

static void tables_outside_ram_read_as_not_present(void **state) {
    const uint64_t lin = 0x12345678000;

    use_long();
    map_long(lin, 7, 7, 7, 7);
    box_set(&box, T2 + (lin >> 30 & 511) * 8, 8, 0xfee00007);
    expect_error(lin, REF_READ, false, 0);
    box.ref->s.cr3 = 0x200000000000;
    expect_error(lin, REF_READ, false, 0);
}

static void tables_in_rom_translate_and_keep_their_bits(void **state) {
    uint64_t entry = PAGE | 7;
    struct ref_xlat x;
    uint32_t error;

    assert_int_equal(mem_add(&box.mem, 0xfffff000, 0x1000, true, NULL), 0);
    use(X86_CR0_PE | X86_CR0_PG, X86_CR4_PAE, X86_EFER_LME | X86_EFER_LMA, T1);
    map_long(0, 7, 7, 7, 7);
    assert_int_equal(mem_load(&box.mem, 0xfffff000, &entry, 8), 0);
    box_set(&box, T3, 8, 0xfffff007);
    assert_int_equal(walk(0, REF_WRITE, false, &x, &error), 0);
    assert_int_equal(x.pa, PAGE);
    assert_int_equal(box_get(&box, 0xfffff000, 8), entry);
}

/* ------------------------------------------------------------------ PAE */

static void map_pae(uint32_t lin, uint64_t f2, uint64_t f1) {
    memset(mem_ptr(&box.mem, T1, 0x3000, true), 0, 0x3000);
    box_set(&box, T1 + (lin >> 30) * 8, 8, T2 | P);
    box_set(&box, T2 + (lin >> 21 & 511) * 8, 8, T3 | f2);
    box_set(&box, T3 + (lin >> 12 & 511) * 8, 8, (PAGE + 0x200000000) | f1);
    assert_true(ref_load_pdptes(box.ref, T1));
}

static void pae_pages_reach_beyond_4g_and_have_nx(void **state) {
    const uint32_t lin = 0xc1234567;

    use(X86_CR0_PE | X86_CR0_PG | X86_CR0_WP, X86_CR4_PAE, X86_EFER_NXE, T1);
    map_pae(lin, 7, 7);
    expect_pa(lin, (PAGE + 0x200000000) | 0x567, false);
    map_pae(lin, 7, 7 | NX);
    expect_error(lin, REF_FETCH, false, 1 | 16);
    expect_pa(lin, (PAGE + 0x200000000) | 0x567, false);
    map_pae(lin, 7, 7 | 1ull << 52); /* reserved here, unlike in long mode */
    expect_error(lin, REF_READ, false, 9);
    map_pae(lin, 7, 5);
    expect_error(lin, REF_WRITE, false, 3);
    box_set(&box, T2 + (lin >> 21 & 511) * 8, 8, 0x600000000 | PS | 7);
    expect_pa(lin, 0x600000000 | (lin & 0x1fffff), true);
    expect_error(0x1234567, REF_READ, true, 4); /* its PDPTE is absent */
}

static void pdptes_with_reserved_bits_are_not_loaded(void **state) {
    const uint64_t bad[] = {P | W, P | U, P | 1ull << 40, P | NX, P | 0x20};

    use(X86_CR0_PE | X86_CR0_PG, X86_CR4_PAE, 0, T1);
    map_pae(0, 7, 7);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        box_set(&box, T1 + 3 * 8, 8, bad[i]);
        assert_false(ref_load_pdptes(box.ref, T1));
        assert_int_equal(box.ref->s.pdpte[0], T2 | P);
    }
    box_set(&box, T1 + 3 * 8, 8, bad[2] & ~(uint64_t)P); /* absent ones are not looked at */
    assert_true(ref_load_pdptes(box.ref, T1));
}

/* ------------------------------------------------------------------ 32-bit */

static void two_levels_lead_to_4k_and_4m_pages(void **state) {
    const uint32_t lin = 0xc1234567;
    gpa pde = T1 + (lin >> 22) * 4, pte = T2 + (lin >> 12 & 1023) * 4;

    use(X86_CR0_PE | X86_CR0_PG | X86_CR0_WP, X86_CR4_PSE, 0, T1);
    memset(mem_ptr(&box.mem, T1, 0x2000, true), 0, 0x2000);
    box_set(&box, pde, 4, T2 | 7);
    box_set(&box, pte, 4, PAGE | 7);
    expect_pa(lin, PAGE | 0x567, false);
    assert_int_equal(box_get(&box, pde, 1) & (A | D), A);
    assert_int_equal(box_get(&box, pte, 1) & (A | D), A);
    box_set(&box, pte, 4, PAGE | 5);
    expect_error(lin, REF_WRITE, true, 7);
    box_set(&box, pde, 4, 0x80000000 | 0x5 << 13 | PS | 7); /* PSE-36: bits 39:32 are 5 */
    expect_pa(lin, 0x580000000 | (lin & 0x3fffff), true);
    box_set(&box, pde, 4, 0x80000000 | 1 << 21 | PS | 7);
    expect_error(lin, REF_READ, false, 9);
    box.ref->s.cr4 = 0; /* without PSE the bit means nothing */
    box_set(&box, pde, 4, T2 | PS | 7);
    expect_pa(lin, PAGE | 0x567, false);
    box_set(&box, pte, 4, 0);
    expect_error(lin, REF_FETCH, true, 4);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(without_paging_addresses_wrap_at_32_bits),
        TEST(four_levels_lead_to_4k_2m_and_1g_pages),
        TEST(every_combination_of_rights_gives_the_manuals_outcome),
        TEST(the_fetch_bit_of_the_error_code_needs_nx_or_smep),
        TEST(an_absent_entry_at_any_level_is_not_present),
        TEST(reserved_bits_at_any_level_fault_as_reserved),
        TEST(accessed_and_dirty_bits_are_set_only_by_accesses_that_succeed),
        TEST(tables_outside_ram_read_as_not_present),
        TEST(tables_in_rom_translate_and_keep_their_bits),
        TEST(pae_pages_reach_beyond_4g_and_have_nx),
        TEST(pdptes_with_reserved_bits_are_not_loaded),
        TEST(two_levels_lead_to_4k_and_4m_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
