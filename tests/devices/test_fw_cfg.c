/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the firmware configuration: ports, requests by DMA, the directory, the answer. */
#include "devices/fw_cfg.h"

#include "base/bytes.h"
#include "devices/chip.h"

extern const struct device_class fw_cfg_class;

enum { READ = 2, SKIP = 4, SELECT = 8, WRITE = 16, REQUEST = 0x100, DATA = 0x200 };

static const struct fw_cfg_config config = {"etc/answer"};

static struct mem memory;

static void open_cfg(struct chip *c) {
    assert_int_equal(mem_init(&memory, NULL), 0);
    assert_int_equal(mem_add(&memory, 0, 0x1000, false, NULL), 0);
    chip_open(c, &fw_cfg_class, &config);
    c->dev->env.mem = &memory;
    assert_int_equal(fw_cfg_set_file(c->dev, "etc/b", "bee", 3, NULL), 0);
    assert_int_equal(fw_cfg_set_file(c->dev, "etc/a", "ay", 2, NULL), 0);
    assert_int_equal(fw_cfg_set_number(c->dev, FW_CFG_NB_CPUS, 2, 0x1234, NULL), 0);
}

static void close_cfg(struct chip *c) {
    chip_close(c);
    mem_done(&memory);
}

/* The request's control word afterwards. */
static uint32_t request(struct chip *c, uint32_t control, uint32_t length, uint64_t address) {
    uint8_t r[16];

    store_be32(r, control);
    store_be32(r + 4, length);
    store_be64(r + 8, address);
    assert_int_equal(mem_write(&memory, REQUEST, r, sizeof(r)), 0);
    chip_write(c, 1, 0, 4, 0);
    chip_write(c, 1, 4, 4, htobe32(REQUEST));
    assert_int_equal(mem_read(&memory, REQUEST, r, sizeof(r)), 0);
    return load_be32(r);
}

static void ports_give_the_selected_item_byte_by_byte(void **state) {
    struct chip c;

    open_cfg(&c);
    chip_write(&c, 0, 0, 2, FW_CFG_SIGNATURE);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(chip_in(&c, 0, 1), "QEMU"[i]);
    assert_int_equal(chip_in(&c, 0, 1), 0); /* past its end */
    chip_write(&c, 0, 0, 2, FW_CFG_ID);
    assert_int_equal(chip_in(&c, 0, 1), 3); /* ports and DMA */
    chip_write(&c, 0, 0, 2, FW_CFG_NB_CPUS);
    assert_int_equal(chip_in(&c, 0, 1), 0x34);
    assert_int_equal(chip_in(&c, 0, 1), 0x12);
    chip_write(&c, 0, 0, 2, 0x3fff); /* nothing */
    assert_int_equal(chip_in(&c, 0, 1), 0);
    close_cfg(&c);
}

static void the_dma_port_says_that_it_is_there(void **state) {
    struct chip c;

    open_cfg(&c);
    assert_int_equal(chip_read(&c, 1, 0, 4), load_le32("QEMU"));
    assert_int_equal(chip_read(&c, 1, 4, 4), load_le32(" CFG"));
    close_cfg(&c);
}

static void the_directory_lists_files_by_name(void **state) {
    uint8_t dir[4 + 3 * 64];
    struct chip c;

    open_cfg(&c);
    assert_int_equal(
        request(&c, (uint32_t)FW_CFG_FILE_DIR << 16 | SELECT | READ, sizeof(dir), DATA), 0);
    mem_read(&memory, DATA, dir, sizeof(dir));
    assert_int_equal(load_be32(dir), 3);
    assert_string_equal((char *)dir + 4 + 8, "etc/a");
    assert_int_equal(load_be32(dir + 4), 2);
    assert_string_equal((char *)dir + 4 + 64 + 8, "etc/answer");
    assert_int_equal(load_be32(dir + 4 + 64), FW_CFG_ANSWER_SIZE);
    assert_string_equal((char *)dir + 4 + 128 + 8, "etc/b");
    /* The number that it says leads there, also after a skip. */
    assert_int_equal(
        request(&c, (uint32_t)load_be16(dir + 4 + 128 + 4) << 16 | SELECT | SKIP, 1, 0), 0);
    assert_int_equal(request(&c, READ, 4, DATA), 0);
    mem_read(&memory, DATA, dir, 4);
    assert_memory_equal(dir, "ee\0\0", 4);
    close_cfg(&c);
}

static unsigned key_of(struct chip *c, const char *name) {
    uint8_t dir[4 + 3 * 64];

    request(c, (uint32_t)FW_CFG_FILE_DIR << 16 | SELECT | READ, sizeof(dir), DATA);
    mem_read(&memory, DATA, dir, sizeof(dir));
    for (unsigned i = 0; i < 3; i++)
        if (!strcmp((char *)dir + 4 + 64 * i + 8, name))
            return load_be16(dir + 4 + 64 * i + 4);
    fail();
    return 0;
}

static void the_answer_and_nothing_else_can_be_written(void **state) {
    struct chip c;
    uint32_t answer, other;

    open_cfg(&c);
    answer = key_of(&c, "etc/answer") << 16;
    other = key_of(&c, "etc/a") << 16;
    mem_write(&memory, DATA, "12345678", 8);
    assert_int_equal(request(&c, answer | SELECT | WRITE, 8, DATA), 0);
    assert_memory_equal(fw_cfg_answer(c.dev), "12345678", 8);
    assert_int_equal(request(&c, answer | SELECT | WRITE, 9, DATA), 1);
    assert_int_equal(request(&c, other | SELECT | WRITE, 1, DATA), 1);
    device_reset(c.dev);
    assert_int_equal(load_le64(fw_cfg_answer(c.dev)), 0);
    close_cfg(&c);
}

static void requests_outside_memory_fail(void **state) {
    struct chip c;

    open_cfg(&c);
    assert_int_equal(request(&c, SELECT | READ, 4, 1ull << 40), 1);
    assert_int_equal(request(&c, SELECT | READ, 0xffffffff, DATA), 1);
    chip_write(&c, 1, 0, 4, htobe32(0x80)); /* a request at 2^39: nothing happens */
    chip_write(&c, 1, 4, 4, 0);
    close_cfg(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_give_the_selected_item_byte_by_byte),
        cmocka_unit_test(the_dma_port_says_that_it_is_there),
        cmocka_unit_test(the_directory_lists_files_by_name),
        cmocka_unit_test(the_answer_and_nothing_else_can_be_written),
        cmocka_unit_test(requests_outside_memory_fail),
    };

    return chip_run(tests);
}
