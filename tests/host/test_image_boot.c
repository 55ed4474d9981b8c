/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What boots a disk, by its partitions: whatever stands there, an answer comes. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "host/image_boot.h"
#include "support/test.h"

enum { SECTOR = 512, DISK = 64 * 1024 };

static const uint8_t esp[16] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};

static const char *boot_of(const uint8_t *disk, size_t size) {
    char path[] = "/tmp/viv-boot-XXXXXX";
    int fd = mkstemp(path);
    const char *by;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, disk, size), size);
    by = image_boot_of_disk(path);
    close(fd);
    unlink(path);
    return by;
}

static void put_gpt(uint8_t *disk, uint64_t lba, uint32_t count, uint32_t size) {
    memset(disk, 0, DISK);
    memcpy(disk + SECTOR, "EFI PART", 8);
    store_le64(disk + SECTOR + 72, lba);
    store_le32(disk + SECTOR + 80, count);
    store_le32(disk + SECTOR + 84, size);
}

static void a_system_partition_alone_wants_uefi(void **state) {
    uint8_t *disk = calloc(1, DISK);

    put_gpt(disk, 2, 4, 128);
    memcpy(disk + 1024 + 2 * 128, esp, sizeof(esp));
    assert_string_equal(boot_of(disk, DISK), "uefi");
    disk[SECTOR] = 'x';
    assert_string_equal(boot_of(disk, DISK), "bios");
    free(disk);
}

static void tables_that_lie_are_not_followed(void **state) {
    static const struct {
        uint64_t lba;
        uint32_t count, size;
    } lies[] = {{UINT64_MAX, 4, 128}, {INT64_MAX / SECTOR, 4, 128},
                {2, UINT32_MAX, 128}, {2, 4, 0},
                {2, 4, UINT32_MAX},   {1000, 128, 4096}};
    uint8_t *disk = calloc(1, DISK);

    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        put_gpt(disk, lies[i].lba, lies[i].count, lies[i].size);
        assert_non_null(boot_of(disk, DISK));
    }
    free(disk);
}

static void what_is_short_or_random_has_an_answer(void **state) {
    uint8_t *disk = calloc(1, DISK);

    srand(7);
    for (unsigned i = 0; i < 300; i++) {
        for (unsigned k = 0; k < 2048; k++)
            disk[k] = (uint8_t)rand();
        if (i & 1)
            memcpy(disk + SECTOR, "EFI PART", 8);
        assert_non_null(boot_of(disk, i % 3 ? DISK : i * 7));
    }
    assert_string_equal(image_boot_of_disk("/nowhere"), "bios");
    free(disk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_system_partition_alone_wants_uefi),
        cmocka_unit_test(tables_that_lie_are_not_followed),
        cmocka_unit_test(what_is_short_or_random_has_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
