/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CPUID models: what each promises, what none may advertise, and that words and decoder features
 * agree. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/soft/decode.h"

static void leaf(const char *model, uint32_t l, uint32_t sub, uint32_t out[4]) {
    struct cpu cpu = {.config = {.index = 2, .count = 4, .model = model}};
    struct x86_state s;

    x86_reset(&s, false);
    cpu_cpuid(&cpu, &s, l, sub, out);
}

static bool usable(const char *model) { return cpuid_check_model(model, NULL) == 0; }

static const char *const models[] = {"x86-64-v1", "x86-64-v2", "x86-64-v3", "host"};

static void every_feature_of_the_opcode_table_is_known(void **state) {
    for (unsigned i = 0; i < FEAT_COUNT; i++)
        if (!cpuid_knows(insn_feature_name(i)))
            fail_msg("no CPUID bit for %s", insn_feature_name(i));
}

static void unknown_models_are_refused_with_the_list(void **state) {
    struct error err = {0};

    assert_true(cpuid_check_model("pentium", &err) < 0);
    assert_non_null(strstr(err.text, "x86-64-v2"));
    assert_int_equal(cpuid_check_model(NULL, NULL), 0);
    assert_int_equal(cpuid_check_model("host", NULL), 0);
}

static void levels_have_what_the_psabi_promises(void **state) {
    const struct {
        const char *model;
        enum cpuid_word word;
        uint32_t bits;
    } promise[] = {
        {"x86-64-v1", CPUID_1_EDX,
         1u << 0 | 1u << 8 | 1u << 15 | 1u << 23 | 1u << 24 | 1u << 25 | 1u << 26},
        {"x86-64-v1", CPUID_81_EDX, 1u << 11 | 1u << 29},
        {"x86-64-v2", CPUID_1_ECX, 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23},
        {"x86-64-v2", CPUID_81_ECX, 1u << 0},
        {"x86-64-v3", CPUID_1_ECX, 1u << 12 | 1u << 22 | 1u << 26 | 1u << 28 | 1u << 29},
        {"x86-64-v3", CPUID_7_EBX, 1u << 3 | 1u << 5 | 1u << 8},
        {"x86-64-v3", CPUID_81_ECX, 1u << 5},
    };

    for (unsigned i = 0; i < sizeof(promise) / sizeof(promise[0]); i++)
        for (unsigned m = 0; m < 3; m++) {
            struct cpu_config config = {.model = models[m]};

            if (strcmp(models[m], promise[i].model) < 0 || !usable(models[m]))
                continue;
            assert_int_equal(cpuid_word(&config, promise[i].word) & promise[i].bits,
                             promise[i].bits);
        }
}

static void a_level_leaves_out_what_is_above_it(void **state) {
    struct cpu_config v1 = {.model = "x86-64-v1"}, v2 = {.model = "x86-64-v2"};

    assert_int_equal(
        cpuid_word(&v1, CPUID_1_ECX) & (1u << 0 | 1u << 9 | 1u << 20 | 1u << 26 | 1u << 28), 0);
    assert_int_equal(cpuid_word(&v2, CPUID_1_ECX) & (1u << 12 | 1u << 26 | 1u << 28 | 1u << 25), 0);
    assert_int_equal(cpuid_word(&v2, CPUID_7_EBX) & (1u << 5 | 1u << 29), 0);
    assert_int_equal(cpuid_xcr0(&v1), 1);
    assert_int_equal(cpuid_xcr0(&v2), 1);
}

static void nothing_unimplemented_is_advertised(void **state) {
    for (unsigned m = 0; m < 4; m++) {
        struct cpu_config config = {.model = models[m]};

        assert_int_equal(cpuid_word(&config, CPUID_1_EDX) & (1u << 1 | 1u << 10 | 1u << 22),
                         0); /* VME, ACPI */
        assert_int_equal(cpuid_word(&config, CPUID_1_ECX) & (1u << 3 | 1u << 5 | 1u << 6),
                         0); /* MONITOR VMX SMX */
        /* HLE, RTM, SMAP, AVX-512, MPX, PT */
        assert_int_equal(cpuid_word(&config, CPUID_7_EBX) &
                             (1u << 4 | 1u << 11 | 1u << 14 | 1u << 16 | 1u << 17 | 1u << 20 |
                              1u << 25 | 1u << 30 | 1u << 31),
                         0);
        /* PKU, WAITPKG, CET, LA57 */
        assert_int_equal(
            cpuid_word(&config, CPUID_7_ECX) & (1u << 3 | 1u << 5 | 1u << 7 | 1u << 16), 0);
        assert_int_equal(
            cpuid_word(&config, CPUID_7_EDX) & (1u << 20 | 1u << 22 | 1u << 24 | 1u << 25), 0);
    }
}

static void decoder_features_follow_the_words(void **state) {
    const struct {
        unsigned feature;
        enum cpuid_word word;
        unsigned bit;
    } pairs[] = {
        {FEAT_SSE42, CPUID_1_ECX, 20},    {FEAT_AVX2, CPUID_7_EBX, 5},
        {FEAT_BMI1, CPUID_7_EBX, 3},      {FEAT_SHA, CPUID_7_EBX, 29},
        {FEAT_INVPCID, CPUID_7_EBX, 10},  {FEAT_XSAVES, CPUID_D_1_EAX, 3},
        {FEAT_PKU, CPUID_7_ECX, 3},       {FEAT_MONITOR, CPUID_1_ECX, 3},
        {FEAT_LZCNT, CPUID_81_ECX, 5},    {FEAT_RDPID, CPUID_7_ECX, 22},
        {FEAT_SYSCALL, CPUID_81_EDX, 11},
    };

    for (unsigned m = 0; m < 4; m++) {
        struct cpu_config config = {.model = models[m]};
        uint64_t bits[4];

        if (!usable(models[m]))
            continue;
        assert_int_equal(cpuid_features(&config, bits, NULL), 0);
        assert_true(bits[FEAT_BASE / 64] >> FEAT_BASE % 64 & 1);
        for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
            assert_int_equal(bits[pairs[i].feature / 64] >> pairs[i].feature % 64 & 1,
                             cpuid_word(&config, pairs[i].word) >> pairs[i].bit & 1);
    }
}

static void the_vendor_and_limits(void **state) {
    uint32_t r[4];

    leaf(NULL, 0, 0, r);
    assert_true(r[0] >= 0xd);
    assert_memory_equal(&r[1], "Genu", 4);
    assert_memory_equal(&r[3], "ineI", 4);
    assert_memory_equal(&r[2], "ntel", 4);
    leaf(NULL, 0x80000008, 0, r);
    assert_int_equal(r[0] & 0xffff, 48 << 8 | 40);
    leaf(NULL, 0x80000007, 0, r);
    assert_true(r[3] >> 8 & 1);
}

static void the_brand_string_is_the_model(void **state) {
    char brand[48];
    uint32_t r[4];

    for (unsigned i = 0; i < 3; i++) {
        leaf("x86-64-v1", 0x80000002 + i, 0, r);
        memcpy(brand + i * 16, r, 16);
    }
    assert_string_equal(brand, "Vivarium x86-64-v1 virtual processor");
}

static void leaves_past_the_last_basic_one_repeat_it(void **state) {
    uint32_t a[4], b[4];

    leaf(NULL, 0x16, 0, a);
    leaf(NULL, 0x17, 0, b);
    assert_memory_equal(a, b, sizeof(a));
    leaf(NULL, 0x80000009, 0, b);
    assert_memory_equal(a, b, sizeof(a));
}

static void topology_gives_each_processor_its_own_core(void **state) {
    uint32_t r[4];

    leaf(NULL, 1, 0, r);
    assert_int_equal(r[1] >> 24, 2);
    assert_int_equal(r[1] >> 16 & 0xff, 4);
    leaf(NULL, 0xb, 0, r);
    assert_int_equal(r[0], 0);
    assert_int_equal(r[1], 1);
    assert_int_equal(r[2], 1 << 8);
    assert_int_equal(r[3], 2);
    leaf(NULL, 0xb, 1, r);
    assert_int_equal(r[0], 2);
    assert_int_equal(r[1], 4);
    assert_int_equal(r[2], 2 << 8 | 1);
    leaf(NULL, 0xb, 2, r);
    assert_int_equal(r[1], 0);
    assert_int_equal(r[2], 2);
    leaf(NULL, 4, 3, r);
    assert_int_equal(r[0] & 0xff, 3 | 3 << 5);
    leaf(NULL, 4, 4, r);
    assert_int_equal(r[0], 0);
}

static void the_hypervisor_leaves_can_be_left_out(void **state) {
    struct cpu cpu = {.config = {.count = 1}};
    struct x86_state s;
    uint32_t r[4];

    x86_reset(&s, false);
    cpu_cpuid(&cpu, &s, 0x40000000, 0, r);
    assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
    assert_true(r[0] >= 0x40000001);
    cpu_cpuid(&cpu, &s, 0x40000100, 0, r);
    assert_int_equal(r[0] | r[1], 0);
    cpu_cpuid(&cpu, &s, 1, 0, r);
    assert_true(r[2] >> 31);
    cpu.config.no_hypervisor = true;
    cpu_cpuid(&cpu, &s, 1, 0, r);
    assert_false(r[2] >> 31);
    cpu_cpuid(&cpu, &s, 0x40000000, 0, r);
    assert_memory_not_equal(&r[1], "KVMK", 4);
}

static void leaf_d_follows_xcr0(void **state) {
    struct cpu cpu = {.config = {.count = 1, .model = "x86-64-v3"}};
    struct x86_state s;
    uint32_t r[4];

    if (!usable("x86-64-v3"))
        skip();
    x86_reset(&s, false);
    s.xcr0 = 3;
    cpu_cpuid(&cpu, &s, 0xd, 0, r);
    assert_int_equal(r[0], 7);
    assert_int_equal(r[1], 576);
    assert_int_equal(r[2], 832);
    s.xcr0 = 7;
    cpu_cpuid(&cpu, &s, 0xd, 0, r);
    assert_int_equal(r[1], 832);
    cpu_cpuid(&cpu, &s, 0xd, 2, r);
    assert_int_equal(r[0], 256);
    assert_int_equal(r[1], 576);
    s.cr4 = X86_CR4_OSXSAVE;
    cpu_cpuid(&cpu, &s, 1, 0, r);
    assert_true(r[2] >> 27 & 1);
}

static void the_crystal_fraction_gives_the_tsc_frequency(void **state) {
    struct clock *clock = clock_new_stepped();
    struct cpu cpu = {.config = {.count = 1, .bus = {.clock = clock}}};
    struct x86_state s;
    uint32_t r[4];
    double hz;

    x86_reset(&s, false);
    cpu_cpuid(&cpu, &s, 0x15, 0, r);
    assert_true(r[0] && r[1]);
    assert_int_equal(r[2], 1000000000);
    /* As Linux computes it, in 32 bits. */
    assert_true((uint64_t)(r[2] / 1000) * r[1] <= UINT32_MAX);
    hz = (double)r[2] * r[1] / r[0];
    assert_true(abs((int)(hz - (double)clock_tsc_hz(clock))) < 1000);
    clock_free(clock);
}

static uint32_t word_of(const char *model, enum cpuid_word word) {
    struct cpu_config config = {.model = model};

    assert_int_equal(cpuid_check_model(model, NULL), 0);
    return cpuid_word(&config, word);
}

static void features_are_added_and_left_out_by_name(void **state) {
    uint32_t v2 = word_of("x86-64-v2", CPUID_1_ECX);

    assert_int_equal(v2 & (1u << 25), 0);
    assert_int_equal(word_of("x86-64-v2,+aes", CPUID_1_ECX), v2 | 1u << 25);
    assert_int_equal(word_of("x86-64-v2,-pcid,+aes", CPUID_1_ECX), (v2 & ~(1u << 17)) | 1u << 25);
    assert_int_equal(word_of("x86-64-v2,-umip", CPUID_7_ECX) & (1u << 2), 0);
    assert_int_equal(word_of("x86-64-v2,+umip", CPUID_7_ECX), word_of("x86-64-v2", CPUID_7_ECX));
    /* What cannot be without it goes, too. */
    assert_int_equal(word_of("x86-64-v2,-sse4_1", CPUID_1_ECX), v2 & ~(1u << 19 | 1u << 20));
    if (usable("x86-64-v3")) {
        assert_int_equal(word_of("x86-64-v3,-avx", CPUID_7_EBX) & (1u << 5), 0);
        assert_int_equal(word_of("x86-64-v3,-avx", CPUID_1_ECX) & (1u << 12 | 1u << 29), 0);
        assert_true(word_of("x86-64-v3,-avx", CPUID_1_ECX) & (1u << 26)); /* XSAVE stays */
        assert_int_equal(word_of("x86-64-v2,+xsave,+avx", CPUID_1_ECX), v2 | 1u << 26 | 1u << 28);
        assert_int_equal(cpuid_xcr0(&(struct cpu_config){.model = "x86-64-v2,+xsave,+avx"}), 7);
        assert_int_equal(cpuid_xcr0(&(struct cpu_config){.model = "x86-64-v3,-xsave"}), 1);
    }
}

static void decoder_features_follow_what_was_left_out(void **state) {
    struct cpu_config config = {.model = "x86-64-v1,-rdrand"};
    uint64_t bits[4];

    assert_int_equal(cpuid_features(&config, bits, NULL), 0);
    assert_false(bits[FEAT_RDRAND / 64] >> FEAT_RDRAND % 64 & 1);
    config.model = "x86-64-v1";
    assert_int_equal(cpuid_features(&config, bits, NULL), 0);
    assert_true(bits[FEAT_RDRAND / 64] >> FEAT_RDRAND % 64 & 1);
}

static void changes_that_cannot_be_are_refused_by_name(void **state) {
    static const struct {
        const char *model, *says;
    } wrong[] = {
        {"x86-64-v2,+avx2", "'avx2' needs 'avx', which x86-64-v2 has not"},
        {"x86-64-v2,+avx", "'avx' needs 'xsave'"},
        {"x86-64-v2,+fma,-avx", "'fma' cannot be without 'avx'"},
        {"x86-64-v2,+turbo", "'turbo' is not known"},
        {"x86-64-v2,+AES", "'AES' is not known"},
        {"x86-64-v2,+ae", "'ae' is not known"},
        {"x86-64-v2,+", "'' is not known"},
        {"x86-64-v2,aes", "'aes' is no feature to be added"},
        {"x86-64-v2,", "'' is no feature to be added"},
        {"x86-64-v2,+aes,-aes", "'aes' is there twice"},
        {"x86-64-v2,+aes,+aes", "'aes' is there twice"},
        {",+aes", "model '' is not known"},
        {"x86-64-v9,+aes", "model 'x86-64-v9' is not known"},
    };
    char many[CPU_MODEL_TEXT + 20] = "host";

    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error err = {0};

        assert_int_equal(cpuid_check_model(wrong[i].model, &err), -EINVAL);
        if (!strstr(err.text, wrong[i].says))
            fail_msg("%s: %s", wrong[i].model, err.text);
    }
    memset(many + 4, ',', CPU_MODEL_TEXT);
    assert_int_equal(cpuid_check_model(many, NULL), -EINVAL);
}

static void what_a_backend_lacks_is_refused_by_name(void **state) {
    struct cpu_config config = {.model = "x86-64-v1,+smap,+aes"};
    uint32_t lacks[CPUID_WORDS] = {[CPUID_1_ECX] = 1u << 25};
    struct error err = {0}, kvm = {0};
    uint64_t bits[4];

    assert_int_equal(cpuid_check_model(config.model, &err), 0);
    assert_int_equal(cpuid_features(&config, bits, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "software processor has no feature 'smap'"));
    assert_int_equal(cpuid_check_added(&config, lacks, &kvm), -ENOTSUP);
    assert_non_null(strstr(kvm.text, "KVM cannot give the feature 'aes'"));
    lacks[CPUID_1_ECX] = ~(1u << 25);
    assert_int_equal(cpuid_check_added(&config, lacks, &err), 0);
}

static bool has_bit(const struct cpu_config *config, enum cpuid_word word, unsigned bit) {
    return cpuid_word(config, word) >> bit & 1;
}

static void native_is_all_that_kvm_gives_and_nothing_of_software(void **state) {
    uint32_t less[CPUID_WORDS] = {[CPUID_7_EDX] = 1u << 14};
    struct cpu_config config = {.model = "native", .less = less};
    struct error err = {0};
    uint64_t bits[4];

    assert_int_equal(cpuid_check_model("native", &err), 0);
    assert_true(has_bit(&config, CPUID_7_EBX, 20));  /* smap: software has none */
    assert_true(has_bit(&config, CPUID_1_ECX, 28));  /* avx: whatever this host has */
    assert_false(has_bit(&config, CPUID_7_EDX, 14)); /* serialize: KVM cannot */
    assert_int_equal(cpuid_check_added(&config, less, &err), 0);
    config.model = "native,-avx,-smap";
    assert_int_equal(cpuid_check_model(config.model, &err), 0);
    assert_false(has_bit(&config, CPUID_1_ECX, 28));
    assert_false(has_bit(&config, CPUID_7_EBX, 5)); /* avx2 */
    assert_false(has_bit(&config, CPUID_7_EBX, 20));
    assert_int_equal(cpuid_features(&config, bits, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "'native' is what the host's KVM gives"));
    config.model = NULL;
    assert_string_not_equal(cpuid_model_name(&config), "native");
}

static void a_state_uses_no_feature_that_is_not_there(void **state) {
    struct cpu_config with = {.model = "x86-64-v1,+smap"}, without = {.model = "x86-64-v1"};
    struct error err = {0};
    struct x86_state s;

    x86_reset(&s, false);
    s.cr4 = X86_CR4_SMAP;
    assert_int_equal(cpuid_check_state(&with, &s, &err), 0);
    assert_int_equal(cpuid_check_state(&without, &s, &err), -EINVAL);
    assert_non_null(strstr(err.text, "'smap'"));
    s.cr4 = 0;
    assert_int_equal(cpuid_check_state(&without, &s, &err), 0);
}

static void every_feature_has_a_place_and_a_name_of_its_own(void **state) {
    for (unsigned i = 0; i < cpu_feature_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];

        assert_ptr_equal(cpu_feature_at(f->word, f->bit), f);
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(cpu_features[k].name, f->name);
        if (i)
            assert_true(f[-1].word * 32 + f[-1].bit < f->word * 32 + f->bit);
    }
}

static void the_choice_of_backend_gives_its_reason(void **state) {
    struct error err = {0};
    char why[200];

    assert_ptr_equal(cpu_select("ref", NULL, why, sizeof(why), &err), &cpu_ref_ops);
    assert_string_equal(why, "");
    assert_non_null(cpu_select("auto", NULL, why, sizeof(why), &err));
    assert_non_null(strcasestr(why, "kvm"));
    assert_ptr_not_equal(cpu_select("auto", "it is Monday", why, sizeof(why), &err), &cpu_kvm_ops);
    assert_non_null(strstr(why, "auto: "));
    assert_ptr_equal(cpu_select("auto", "it is Monday", NULL, 0, &err), cpu_software());
    assert_null(cpu_select("turbo", NULL, why, sizeof(why), &err));
    assert_non_null(strstr(err.text, "turbo"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_feature_of_the_opcode_table_is_known),
        cmocka_unit_test(unknown_models_are_refused_with_the_list),
        cmocka_unit_test(levels_have_what_the_psabi_promises),
        cmocka_unit_test(a_level_leaves_out_what_is_above_it),
        cmocka_unit_test(nothing_unimplemented_is_advertised),
        cmocka_unit_test(decoder_features_follow_the_words),
        cmocka_unit_test(the_vendor_and_limits),
        cmocka_unit_test(the_brand_string_is_the_model),
        cmocka_unit_test(leaves_past_the_last_basic_one_repeat_it),
        cmocka_unit_test(topology_gives_each_processor_its_own_core),
        cmocka_unit_test(the_hypervisor_leaves_can_be_left_out),
        cmocka_unit_test(leaf_d_follows_xcr0),
        cmocka_unit_test(the_crystal_fraction_gives_the_tsc_frequency),
        cmocka_unit_test(features_are_added_and_left_out_by_name),
        cmocka_unit_test(decoder_features_follow_what_was_left_out),
        cmocka_unit_test(changes_that_cannot_be_are_refused_by_name),
        cmocka_unit_test(what_a_backend_lacks_is_refused_by_name),
        cmocka_unit_test(native_is_all_that_kvm_gives_and_nothing_of_software),
        cmocka_unit_test(a_state_uses_no_feature_that_is_not_there),
        cmocka_unit_test(every_feature_has_a_place_and_a_name_of_its_own),
        cmocka_unit_test(the_choice_of_backend_gives_its_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
