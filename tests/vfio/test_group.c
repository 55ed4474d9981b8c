/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of the host may be given to a machine, and the sentence for what may not: on trees that are
 * made here. */
#include "vfio/group.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

#define UUID "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

static char root[] = "/tmp/viv-group-XXXXXX";

static void make(const char *path, const char *text) {
    char full[600];
    FILE *f;

    snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *slash = full + strlen(root); (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void make_link(const char *path, const char *to) {
    char full[600];

    snprintf(full, sizeof(full), "%s/%s", root, path);
    assert_int_equal(symlink(to, full), 0);
}

static void make_device(const char *address, const char *class, const char *driver, int group) {
    char path[200], to[80];

    snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/class", address);
    make(path, class);
    if (driver) {
        snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/driver", address);
        snprintf(to, sizeof(to), "../../../../bus/pci/drivers/%s", driver);
        make_link(path, to);
    }
    if (group < 0)
        return;
    snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/iommu_group", address);
    snprintf(to, sizeof(to), "../../../../kernel/iommu_groups/%d", group);
    make_link(path, to);
    snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%d/devices/%s", group, address);
    make(path, "");
    snprintf(path, sizeof(path), "dev/vfio/%d", group);
    make(path, "");
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static int setup(void **state) {
    strcpy(strrchr(root, '-'), "-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    make("dev/vfio/vfio", "");
    return 0;
}

static int teardown(void **state) { return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static int look(const char *name, struct vfio_place *ret, struct error *err) {
    char sysfs[100], dev[100];
    struct vfio_inventory *inventory;
    int r;

    snprintf(sysfs, sizeof(sysfs), "%s/sys", root);
    snprintf(dev, sizeof(dev), "%s/dev", root);
    inventory = vfio_inventory_read(sysfs);
    assert_non_null(inventory);
    r = vfio_find(inventory, dev, name, ret, err);
    vfio_inventory_free(inventory);
    return r;
}

/* All of `words`, separated by '|', are in the sentence, and nothing is given out. */
static void expect_refused(const char *name, const char *words) {
    struct vfio_place place = {.group = -77};
    struct error err = {0};
    char copy[300], *rest = copy, *word;

    assert_true(look(name, &place, &err) < 0);
    assert_int_equal(place.group, -77);
    snprintf(copy, sizeof(copy), "%s", words);
    while ((word = strsep(&rest, "|")))
        if (!strstr(err.text, word))
            fail_msg("'%s' is not in: %s", word, err.text);
}

static void a_device_with_a_group_of_its_own_is_found(void **state) {
    struct vfio_place p = {0};

    make_device("0000:03:00.0", "0x010802\n", "vfio-pci", 14);
    assert_int_equal(look("0000:03:00.0", &p, NULL), 0);
    assert_string_equal(p.name, "0000:03:00.0");
    assert_int_equal(p.group, 14);
    assert_false(p.mediated);
    assert_int_equal(look("03:00.0", &p, NULL), 0);
}

static void the_group_alone_is_a_link_away(void **state) {
    char sysfs[100];

    make_device("0000:03:00.0", "0x010802\n", "nvme", 14); /* whoever has it */
    make_device("0000:04:00.0", "0x010802\n", "vfio-pci", -1);
    snprintf(sysfs, sizeof(sysfs), "%s/sys", root);
    assert_int_equal(vfio_group_of(sysfs, "0000:03:00.0"), 14);
    assert_int_equal(vfio_group_of(sysfs, "0000:04:00.0"), -1);
    assert_int_equal(vfio_group_of(sysfs, UUID), -1);
}

static void names_are_written_as_the_kernel_has_them(void **state) {
    char name[VFIO_NAME];

    assert_true(vfio_name("0A:1F.7", name));
    assert_string_equal(name, "0000:0a:1f.7");
    assert_true(vfio_name("83B8F4F2-509f-382f-3c1e-e6bfe0fa1001", name));
    assert_string_equal(name, UUID);
    for (const char *const *bad = (const char *const[]){"", "03:00.8", "03:00", "0000:03:00.0 ",
                                                        "../..:00.0", "g0:00.0", UUID "0", NULL};
         *bad; bad++)
        assert_false(vfio_name(*bad, name));
    expect_refused("03:00", "03:00|0000:03:00.0");
}

static void what_is_not_there_is_refused(void **state) {
    make_device("0000:03:00.0", "0x010802\n", "vfio-pci", 14);
    expect_refused("0000:04:00.0", "0000:04:00.0|no PCI device|lspci");
}

static void without_an_iommu_it_is_refused(void **state) {
    make_device("0000:03:00.0", "0x010802\n", "vfio-pci", -1);
    expect_refused("0000:03:00.0", "0000:03:00.0|no IOMMU group|intel_iommu=on");
}

static void what_the_host_uses_is_refused(void **state) {
    make_device("0000:03:00.0", "0x010802\n", "nvme", 14);
    make_device("0000:03:00.1", "0x010802\n", NULL, 15);
    make_device("0000:03:00.2", "0x010802\n", "pci-stub", 16);
    make_device("0000:00:1c.0", "0x060400\n", "pcieport", 17);
    expect_refused("0000:03:00.0", "0000:03:00.0|'nvme'|unbind|vfio-pci");
    expect_refused("0000:03:00.1", "0000:03:00.1|no driver|driver_override");
    expect_refused("0000:03:00.2", "pci-stub|vfio-pci");
    expect_refused("0000:00:1c.0", "bridge");
}

static void a_group_that_the_host_uses_part_of_is_refused(void **state) {
    make_device("0000:00:1c.0", "0x060400\n", "pcieport", 14);
    make_device("0000:03:00.0", "0x010802\n", "vfio-pci", 14);
    make_device("0000:03:00.1", "0x040300\n", "snd_hda_intel", 14);
    make_device("0000:03:00.2", "0x0c0330\n", NULL, 14);
    expect_refused("0000:03:00.0", "0000:03:00.0|group 14|0000:03:00.1|snd_hda_intel|as well");
}

static void bridges_and_what_nobody_uses_do_not_count(void **state) {
    struct vfio_place p = {0};

    make_device("0000:00:1c.0", "0x060400\n", "pcieport", 14);
    make_device("0000:03:00.0", "0x010802\n", "vfio-pci", 14);
    make_device("0000:03:00.1", "0x020000\n", "mlx5_vfio_pci", 14);
    make_device("0000:03:00.2", "0x0c0330\n", NULL, 14);
    make_device("0000:03:00.3", "0x0c0330\n", "pci-stub", 14);
    assert_int_equal(look("0000:03:00.0", &p, NULL), 0);
    assert_int_equal(look("0000:03:00.1", &p, NULL), 0);
}

static void missing_files_of_vfio_are_named(void **state) {
    char path[200];

    make_device("0000:03:00.0", "0x010802\n", "vfio-pci", 14);
    snprintf(path, sizeof(path), "%s/dev/vfio/14", root);
    remove(path);
    expect_refused("0000:03:00.0", "0000:03:00.0|vfio/14|udev");
    snprintf(path, sizeof(path), "%s/dev/vfio/vfio", root);
    remove(path);
    expect_refused("0000:03:00.0", "0000:03:00.0|vfio/vfio|modprobe");
}

static void mediated_devices_are_found_by_uuid(void **state) {
    struct vfio_place p = {0};

    expect_refused(UUID, UUID "|mediated|create");
    make("sys/bus/mdev/devices/" UUID "/name", "");
    expect_refused(UUID, UUID "|no IOMMU group");
    make_link("sys/bus/mdev/devices/" UUID "/iommu_group", "../../../kernel/iommu_groups/21");
    expect_refused(UUID, "vfio/21");
    make("dev/vfio/21", "");
    assert_int_equal(look(UUID, &p, NULL), 0);
    assert_true(p.mediated);
    assert_int_equal(p.group, 21);
}

static void a_link_to_nowhere_is_no_group(void **state) {
    make("sys/bus/mdev/devices/" UUID "/name", "");
    make_link("sys/bus/mdev/devices/" UUID "/iommu_group", "99999999999999999999");
    expect_refused(UUID, "no IOMMU group");
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_device_with_a_group_of_its_own_is_found),
        T(the_group_alone_is_a_link_away),
        T(names_are_written_as_the_kernel_has_them),
        T(what_is_not_there_is_refused),
        T(without_an_iommu_it_is_refused),
        T(what_the_host_uses_is_refused),
        T(a_group_that_the_host_uses_part_of_is_refused),
        T(bridges_and_what_nobody_uses_do_not_count),
        T(missing_files_of_vfio_are_named),
        T(mediated_devices_are_found_by_uuid),
        T(a_link_to_nowhere_is_no_group),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
