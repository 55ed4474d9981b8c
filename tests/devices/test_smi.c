/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the SMI registers: what lets an SMI through, the lock, and the negotiation by files. */
#include "devices/smi.h"

#include <endian.h>

#include "devices/chip.h"
#include "devices/fw_cfg.h"
#include "devices/pci.h"

extern const struct device_class smi_class, lpc_class, fw_cfg_class;

enum { EN = 0, STS = 4, CNT = 0, DATA = 1, GBL = 1, APMC = 0x20 };

static unsigned raised, to_all;

static void raise_smi(void *opaque, bool all) {
    raised++;
    to_all += all;
}

static void open_smi(struct chip *c, const struct device *lpc) {
    struct smi_config config = {.raise = raise_smi, .lpc = lpc};

    raised = to_all = 0;
    chip_open(c, &smi_class, &config);
}

static void an_smi_needs_both_enables(void **state) {
    struct chip c;

    open_smi(&c, NULL);
    assert_int_equal(chip_read(&c, 0, EN, 4), 0); /* firmware takes APMC_EN for "no such mode" */
    chip_out(&c, 1, CNT, 1);
    chip_write(&c, 0, EN, 4, GBL);
    chip_out(&c, 1, CNT, 1);
    chip_write(&c, 0, EN, 4, APMC);
    chip_out(&c, 1, CNT, 1);
    assert_int_equal(raised, 0);
    assert_int_equal(chip_read(&c, 0, STS, 4), 0);
    chip_write(&c, 0, EN, 4, APMC | GBL);
    chip_out(&c, 1, DATA, 0x77);
    assert_int_equal(raised, 0);
    chip_out(&c, 1, CNT, 0x12);
    assert_true(raised == 1 && to_all == 0);
    assert_int_equal(chip_in(&c, 1, CNT), 0x12);
    assert_int_equal(chip_in(&c, 1, DATA), 0x77);
    assert_int_equal(chip_read(&c, 0, STS, 4), APMC);
    chip_write(&c, 0, STS, 4, 1);
    assert_int_equal(chip_read(&c, 0, STS, 4), APMC);
    chip_write(&c, 0, STS, 1, APMC);
    assert_int_equal(chip_read(&c, 0, STS, 4), 0);
    chip_close(&c);
}

static void the_bridge_locks_the_global_enable(void **state) {
    struct chip c, lpc;

    chip_open(&lpc, &lpc_class, NULL);
    open_smi(&c, lpc.dev);
    chip_write(&c, 0, EN, 4, GBL);
    ((struct pci_device *)lpc.dev)->config[0xa0] |= 0x10;
    chip_write(&c, 0, EN, 4, APMC);
    assert_int_equal(chip_read(&c, 0, EN, 4), APMC | GBL);
    chip_out(&c, 0, EN, 0);
    assert_int_equal(chip_read(&c, 0, EN, 4), GBL);
    chip_close(&c);
    chip_close(&lpc);
}

/* ------------------------------------------------------------------ negotiation */

static struct mem memory;

static unsigned key_of(struct chip *f, const char *name) {
    chip_write(f, 0, 0, 2, FW_CFG_FILE_DIR);
    for (unsigned i = 0; i < 4; i++)
        chip_in(f, 0, 1);
    for (;;) {
        uint8_t e[64];

        for (unsigned i = 0; i < sizeof(e); i++)
            e[i] = (uint8_t)chip_in(f, 0, 1);
        if (!e[8])
            fail_msg("no file %s", name);
        if (!strcmp((const char *)e + 8, name))
            return e[4] << 8 | e[5];
    }
}

static uint8_t first_byte(struct chip *f, const char *name) {
    chip_write(f, 0, 0, 2, key_of(f, name));
    return (uint8_t)chip_in(f, 0, 1);
}

/* By DMA; the control word afterwards. */
static uint32_t write_file(struct chip *f, const char *name, uint64_t value, uint32_t size) {
    uint8_t r[16], le[8];

    store_le64(le, value);
    store_be32(r, key_of(f, name) << 16 | 16 | 8);
    store_be32(r + 4, size);
    store_be64(r + 8, 0x200);
    assert_int_equal(mem_write(&memory, 0x200, le, sizeof(le)), 0);
    assert_int_equal(mem_write(&memory, 0x100, r, sizeof(r)), 0);
    chip_write(f, 1, 0, 4, 0);
    chip_write(f, 1, 4, 4, htobe32(0x100));
    assert_int_equal(mem_read(&memory, 0x100, r, sizeof(r)), 0);
    return load_be32(r);
}

static void firmware_negotiates_smis_for_all_processors(void **state) {
    struct chip c, f;

    assert_int_equal(mem_init(&memory, NULL), 0);
    assert_int_equal(mem_add(&memory, 0, 0x1000, false, NULL), 0);
    open_smi(&c, NULL);
    chip_open(&f, &fw_cfg_class, NULL);
    f.dev->env.mem = &memory;
    assert_int_equal(smi_add_files(c.dev, f.dev, NULL), 0);
    assert_int_equal(first_byte(&f, "etc/smi/supported-features"), SMI_FEATURE_BROADCAST);
    assert_int_not_equal(write_file(&f, "etc/smi/supported-features", 0, 8), 0);
    assert_int_equal(write_file(&f, "etc/smi/requested-features", 3, 8), 0); /* one is unknown */
    assert_int_equal(first_byte(&f, "etc/smi/features-ok"), 0);
    assert_int_equal(write_file(&f, "etc/smi/requested-features", SMI_FEATURE_BROADCAST, 8), 0);
    assert_int_equal(first_byte(&f, "etc/smi/features-ok"), 1);
    assert_int_equal(write_file(&f, "etc/smi/requested-features", 0, 8), 0); /* too late */
    assert_int_equal(first_byte(&f, "etc/smi/features-ok"), 1);
    assert_int_not_equal(write_file(&f, "etc/smi/features-ok", 0, 1), 0);
    chip_write(&c, 0, EN, 4, APMC | GBL);
    chip_out(&c, 1, CNT, 0);
    assert_true(raised == 1 && to_all == 1);
    device_reset(c.dev);
    chip_write(&c, 0, EN, 4, APMC | GBL);
    chip_out(&c, 1, CNT, 0);
    assert_true(raised == 2 && to_all == 1);
    chip_close(&f);
    chip_close(&c);
    mem_done(&memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_smi_needs_both_enables),
        cmocka_unit_test(the_bridge_locks_the_global_enable),
        cmocka_unit_test(firmware_negotiates_smis_for_all_processors),
    };

    return chip_run(tests);
}
