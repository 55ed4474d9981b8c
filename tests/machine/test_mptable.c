/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The MP and $PIR tables as a guest reads them: found where the specifications say, good checksums,
 * every entry of a known kind, interrupts as the bus is wired. */
#include "machine/mptable.h"

#include <string.h>

#include "base/bytes.h"
#include "machine/map.h"
#include "support/test.h"

enum { LPC = 0x1f << 3 };

static struct mem mem;

static int setup(void **state) {
    struct error err = {0};

    assert_int_equal(mem_init(&mem, &err), 0);
    assert_int_equal(mem_add(&mem, MAP_SHADOW, MAP_1M - MAP_SHADOW, false, &err), 0);
    return 0;
}

static int teardown(void **state) {
    mem_done(&mem);
    return 0;
}

/* Looks through the BIOS area at every multiple of 16, as kernels do. */
static const uint8_t *find(const char *signature) {
    for (uint64_t at = 0xf0000; at < 0x100000; at += 16) {
        const uint8_t *p = mem_ptr(&mem, at, 16, false);
        if (!memcmp(p, signature, 4))
            return p;
    }
    fail_msg("no %s", signature);
    return NULL;
}

static void adds_up(const uint8_t *p, size_t n) {
    uint8_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + p[i]);
    assert_int_equal(sum, 0);
}

static const uint8_t *mp_table(unsigned cpus) {
    struct error err = {0};
    const uint8_t *p;

    assert_int_equal(mptable_write(&mem, cpus, LPC, &err), 0);
    p = find("_MP_");
    assert_int_equal(p[8], 1);
    assert_int_equal(p[9], 4);
    assert_int_equal(p[11], 0);        /* a table, no default configuration */
    assert_int_equal(p[12] & 0x80, 0); /* virtual wire, no IMCR */
    adds_up(p, 16);
    p = mem_ptr(&mem, load_le32(p + 4), 44, false);
    assert_memory_equal(p, "PCMP", 4);
    adds_up(p, load_le16(p + 4));
    return p;
}

static void every_processor_is_listed_and_the_entries_are_counted(void **state) {
    static const uint8_t size[5] = {20, 8, 8, 8, 8};
    const uint8_t *t = mp_table(8);
    unsigned kinds[5] = {0}, n = 0, at = 44;

    assert_int_equal(load_le32(t + 36), MAP_LAPIC);
    for (; at < load_le16(t + 4); at += size[t[at]], n++) {
        assert_true(t[at] < 5);
        if (t[at] == 0) {
            assert_int_equal(t[at + 1], kinds[0]);
            assert_int_equal(t[at + 3], kinds[0] == 0 ? 3 : 1);
        }
        if (t[at] == 2)
            assert_int_equal(load_le32(t + at + 4), MAP_IOAPIC);
        kinds[t[at]]++;
    }
    assert_int_equal(at, load_le16(t + 4));
    assert_int_equal(n, load_le16(t + 34));
    assert_int_equal(kinds[0], 8);
    assert_int_equal(kinds[1], 2);
    assert_int_equal(kinds[2], 1);
    assert_int_equal(kinds[3], 15 + 31 * 4);
    assert_int_equal(kinds[4], 2);
}

static void pci_interrupts_reach_the_pins_that_the_dsdt_names(void **state) {
    const uint8_t *t = mp_table(1);
    unsigned pci = 0, isa = 0;

    for (const uint8_t *e = t + 44 + 20 + 3 * 8; e < t + load_le16(t + 4); e += 8) {
        if (e[0] != 3)
            continue;
        if (e[4] == 0) {
            assert_int_equal(e[7], 16 + (e[5] / 4 + e[5] % 4) % 4);
            pci++;
        } else {
            assert_int_equal(e[7], e[5] ? e[5] : 2); /* the timer has pin 2 */
            isa++;
        }
    }
    assert_int_equal(pci, 31 * 4);
    assert_int_equal(isa, 15);
}

static void the_routing_table_names_the_bridges_registers(void **state) {
    struct error err = {0};
    const uint8_t *t;

    assert_int_equal(mptable_write(&mem, 1, LPC, &err), 0);
    t = find("$PIR");
    assert_int_equal(load_le16(t + 4), 0x100);
    assert_int_equal(load_le16(t + 6), 32 + 16 * 31);
    assert_int_equal(t[9], LPC);
    adds_up(t, load_le16(t + 6));
    for (unsigned slot = 1; slot < 32; slot++)
        for (unsigned pin = 0; pin < 4; pin++) {
            const uint8_t *e = t + 32 + 16 * (slot - 1);
            assert_int_equal(e[1], slot << 3);
            assert_int_equal(e[2 + 3 * pin], 0x60 + (slot + pin) % 4);
            assert_true(load_le16(e + 3 + 3 * pin) >> map_pci_isa_irq((slot + pin) % 4) & 1);
        }
}

static void too_many_processors_are_refused_with_a_sentence(void **state) {
    struct error err = {0};

    assert_true(mptable_write(&mem, 4000, LPC, &err) < 0);
    assert_non_null(strstr(err.text, "fewer processors"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(every_processor_is_listed_and_the_entries_are_counted),
        TEST(pci_interrupts_reach_the_pins_that_the_dsdt_names),
        TEST(the_routing_table_names_the_bridges_registers),
        TEST(too_many_processors_are_refused_with_a_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
