/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices of the host go from their drivers to vfio-pci and back, in a tree that is made here, by a
 * kernel that is the callback. */
#include "host/lend.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

#define NIC   "0000:03:00.0"
#define DRIVE "0000:04:00.0"
#define PORT  "0000:00:01.0"
#define LONE  "0000:05:00.0"
#define MDEV  "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

static char root[] = "/tmp/viv-lend-XXXXXX";
static const char *refuses, *busy; /* a driver that takes nothing; a disk in use */
static bool stubborn;              /* drivers do not let go */
static unsigned writes, fail_at;   /* the first write that fails; 0: none */

static const char *in_root(const char *path) {
    static char full[4][600];
    static unsigned n;

    n = (n + 1) % 4;
    snprintf(full[n], sizeof(full[n]), "%s/%s", root, path);
    return full[n];
}

static void make_folder(const char *path) {
    char full[600];

    snprintf(full, sizeof(full), "%s/", in_root(path));
    for (char *slash = full + strlen(root); (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
}

static void make_file(const char *path, const char *text) {
    FILE *f = fopen(in_root(path), "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

static void make_link(const char *path, const char *to) {
    assert_int_equal(symlink(to, in_root(path)), 0);
}

static char *of(const char *name, const char *file) {
    static char path[4][200];
    static unsigned n;

    n = (n + 1) % 4;
    snprintf(path[n], sizeof(path[n]), "bus/pci/devices/%s/%s", name, file);
    return path[n];
}

static void bind_to(const char *name, const char *driver) {
    char to[200];

    unlink(in_root(of(name, "driver")));
    if (!*driver)
        return;
    snprintf(to, sizeof(to), "../../drivers/%s", driver);
    make_link(of(name, "driver"), to);
}

static const char *driver_of(const char *name) {
    static char to[PATH_MAX];
    ssize_t n = readlink(in_root(of(name, "driver")), to, sizeof(to) - 1);

    to[n > 0 ? n : 0] = 0;
    return n > 0 ? strrchr(to, '/') + 1 : "";
}

static void read_file(const char *path, char *out, size_t size) {
    FILE *f = fopen(path, "r");

    *out = 0;
    if (f && !fgets(out, (int)size, f))
        *out = 0;
    if (f)
        fclose(f);
    out[strcspn(out, "\n")] = 0;
}

/* As drivers/pci/pci-sysfs.c and drivers/base/bus.c do it. */
static void probe(const char *name) {
    char own[80], override[80];

    read_file(in_root(of(name, "driver_override")), override, sizeof(override));
    read_file(in_root(of(name, "own")), own, sizeof(own));
    if (*override)
        snprintf(own, sizeof(own), "%s", override);
    if (!*driver_of(name) && *own && !(refuses && !strcmp(refuses, own)))
        bind_to(name, own);
}

static bool kernel(const char *path, const char *text) {
    const char *file = strrchr(path, '/') + 1;
    char device[200];

    if (fail_at && ++writes >= fail_at) { /* and all that follow: the manager is gone */
        errno = EIO;
        return false;
    }
    if (!strcmp(file, "driver_override")) {
        FILE *f = fopen(path, "w");

        assert_non_null(f);
        fputs(text, f);
        fclose(f);
    } else if (!strcmp(file, "unbind")) {
        snprintf(device, sizeof(device), "%s", text);
        assert_non_null(strstr(path, device));
        if (!stubborn)
            bind_to(device, "");
    } else {
        assert_string_equal(file, "drivers_probe");
        probe(text);
    }
    return true;
}

static bool disk_used(const char *name) { return busy && !strcmp(busy, name); }

static int load_nothing(void) { return -ENOENT; }

static int load_it(void) {
    make_folder("bus/pci/drivers/vfio-pci");
    return 0;
}

static struct lend_host host(void) {
    static char routes[100], routes6[100];

    snprintf(routes, sizeof(routes), "%s/route", root);
    snprintf(routes6, sizeof(routes6), "%s/ipv6_route", root);
    return (struct lend_host){.sysfs = root,
                              .routes = routes,
                              .routes6 = routes6,
                              .write = kernel,
                              .disk_used = disk_used,
                              .load = load_nothing};
}

static void make_device(const char *name, const char *class, const char *own, int group) {
    char to[80];

    make_folder(of(name, "below"));
    make_file(of(name, "class"), class);
    make_file(of(name, "own"), own);
    bind_to(name, own);
    if (group < 0)
        return;
    snprintf(to, sizeof(to), "../../../../kernel/iommu_groups/%d", group);
    make_link(of(name, "iommu_group"), to);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static int teardown(void **state) { return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static int setup(void **state) {
    refuses = busy = NULL;
    stubborn = false;
    writes = fail_at = 0;
    strcpy(strrchr(root, '-'), "-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    make_folder("bus/pci/drivers/vfio-pci");
    make_folder("class/block");
    make_folder("class/net");
    make_device(NIC, "0x020000\n", "e1000e", 3);
    make_device(DRIVE, "0x010802\n", "nvme", 4);
    make_device(PORT, "0x060400\n", "pcieport", 3);
    make_device(LONE, "0x030000\n", "", -1);
    make_folder(of(NIC, "net/eth0"));
    make_link("class/net/eth0", "../../bus/pci/devices/" NIC "/net/eth0");
    make_folder(of(DRIVE, "nvme/nvme0/nvme0n1/nvme0n1p1"));
    make_link("class/block/nvme0n1", "../../bus/pci/devices/" DRIVE "/nvme/nvme0/nvme0n1");
    make_link("class/block/nvme0n1p1",
              "../../bus/pci/devices/" DRIVE "/nvme/nvme0/nvme0n1/nvme0n1p1");
    make_folder("bus/mdev/devices/" MDEV);
    make_link("bus/mdev/devices/" MDEV "/iommu_group", "../../../kernel/iommu_groups/17");
    make_file("route", "Iface\tDestination\tGateway\n"
                       "eth1\t00000000\t0100000A\n"
                       "eth0\t0000000A\t00000000\n");
    make_file("ipv6_route", "20010db8000000000000000000000000 40 00000000000000000000000000000000 "
                            "00 00000000000000000000000000000000 00000100 00000001 00000000 "
                            "00000001     eth0\n");
    return 0;
}

static void is_refused(const char *name, const char *why) {
    const struct lend_host h = host();
    struct error e = {0};
    char before[80];

    snprintf(before, sizeof(before), "%s", driver_of(name));
    assert_true(lend_take(&h, name, &e) < 0);
    assert_non_null(strstr(e.text, why));
    assert_string_equal(driver_of(name), before);
}

static void a_name_is_what_people_write(void **state) {
    char name[VFIO_NAME];

    assert_true(lend_name("vfio=03:00.0", name));
    assert_string_equal(name, NIC);
    assert_true(lend_name("83B8F4F2-509f-382f-3c1e-e6bfe0fa1001", name));
    assert_string_equal(name, MDEV);
    assert_false(lend_name("vfio=eth0", name));
    assert_false(lend_name("../../devices", name));
}

static void is_impossible(const char *name, const char *why) {
    const struct lend_host h = host();
    struct error e = {0};
    int group;

    assert_true(lend_check(&h, name, &group, &e) < 0);
    assert_non_null(strstr(e.text, why));
}

static void what_no_machine_could_have_is_refused(void **state) {
    const struct lend_host h = host();
    struct error e = {0};
    int group;

    assert_int_equal(lend_check(&h, NIC, &group, &e), 0);
    assert_int_equal(group, 3);
    assert_int_equal(lend_check(&h, MDEV, &group, &e), 0);
    assert_int_equal(group, 17);
    is_impossible(PORT, "bridge");
    is_impossible(LONE, "IOMMU group");
    is_impossible("0000:09:00.0", "no PCI device");
    is_impossible("00000000-509f-382f-3c1e-e6bfe0fa1001", "no mediated device");
}

static void a_device_goes_to_a_machine_and_back_to_its_driver(void **state) {
    const struct lend_host h = host();
    char driver[LEND_DRIVER];
    struct error e = {0};

    assert_true(lend_wanted(&h, DRIVE, driver));
    assert_string_equal(driver, "nvme");
    assert_int_equal(lend_take(&h, DRIVE, &e), 0);
    assert_string_equal(driver_of(DRIVE), "vfio-pci");
    assert_false(lend_wanted(&h, DRIVE, driver));
    assert_int_equal(lend_take(&h, DRIVE, &e), 0); /* again changes nothing */
    assert_int_equal(lend_give_back(&h, DRIVE, "nvme", &e), 0);
    assert_string_equal(driver_of(DRIVE), "nvme");
    assert_int_equal(lend_give_back(&h, DRIVE, "nvme", &e), 0);
    assert_string_equal(driver_of(DRIVE), "nvme");
}

static void one_without_a_driver_has_none_again(void **state) {
    const struct lend_host h = host();
    char driver[LEND_DRIVER];
    struct error e = {0};

    bind_to(DRIVE, "");
    assert_true(lend_wanted(&h, DRIVE, driver));
    assert_string_equal(driver, "");
    assert_int_equal(lend_take(&h, DRIVE, &e), 0);
    assert_string_equal(driver_of(DRIVE), "vfio-pci");
    assert_int_equal(lend_give_back(&h, DRIVE, "", &e), 0);
    assert_string_equal(driver_of(DRIVE), "");
}

static void mediated_devices_and_those_that_are_gone_need_nothing(void **state) {
    const struct lend_host h = host();
    char driver[LEND_DRIVER];
    struct error e = {0};

    assert_false(lend_wanted(&h, MDEV, driver));
    assert_false(lend_wanted(&h, "0000:09:00.0", driver));
    assert_int_equal(lend_take(&h, "0000:09:00.0", &e), 0);
    assert_int_equal(lend_give_back(&h, "0000:09:00.0", "nvme", &e), 0);
}

static void what_another_has_bound_meanwhile_is_left_to_it(void **state) {
    const struct lend_host h = host();
    struct error e = {0};
    char override[80];

    assert_int_equal(lend_take(&h, DRIVE, &e), 0);
    bind_to(DRIVE, "uio_pci_generic");
    assert_int_equal(lend_give_back(&h, DRIVE, "nvme", &e), 0);
    assert_string_equal(driver_of(DRIVE), "uio_pci_generic");
    read_file(in_root(of(DRIVE, "driver_override")), override, sizeof(override));
    assert_string_equal(override, "");
}

/* Whatever write does not come about: what was done before it is undone by giving back. */
static void after_an_end_in_the_middle_it_is_given_back(void **state) {
    const struct lend_host h = host();

    for (unsigned i = 1; i <= 3; i++) {
        struct error e = {0};

        fail_at = i;
        writes = 0;
        assert_true(lend_take(&h, DRIVE, &e) < 0);
        fail_at = 0;
        e = (struct error){0};
        assert_int_equal(lend_give_back(&h, DRIVE, "nvme", &e), 0);
        assert_string_equal(driver_of(DRIVE), "nvme");
    }
}

static void what_the_host_needs_stays_with_it(void **state) {
    busy = "nvme0n1p1";
    is_refused(DRIVE, "nvme0n1p1, which is in use");
    busy = NULL;
    make_file("route", "Iface\tDestination\tGateway\neth0\t00000000\t0100000A\n");
    is_refused(NIC, "eth0, through which");
    make_file("route", "");
    make_file("ipv6_route", "00000000000000000000000000000000 00 00000000000000000000000000000000 "
                            "00 fe800000000000000000000000000001 00000400 00000001 00000000 "
                            "00000003     eth0\n");
    is_refused(NIC, "eth0, through which");
    make_file("ipv6_route", "");
    make_folder(of(NIC, "net/eth0/master"));
    is_refused(NIC, "bridge or bond");
    make_file(of(NIC, "sriov_numvfs"), "2\n");
    is_refused(NIC, "2 virtual functions");
}

static void a_drive_with_several_ways_is_seen(void **state) {
    make_folder("devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1");
    make_link("devices/virtual/nvme-subsystem/nvme-subsys0/nvme0",
              "../../../../bus/pci/devices/" DRIVE "/nvme/nvme0");
    make_folder(of(DRIVE, "nvme/nvme0"));
    assert_int_equal(unlink(in_root("class/block/nvme0n1p1")), 0);
    make_link("class/block/nvme0n1p1",
              "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1");
    busy = "nvme0n1p1";
    is_refused(DRIVE, "nvme0n1p1, which is in use");
}

static void drivers_that_do_not_play_along_are_told(void **state) {
    struct lend_host h = host();
    struct error e = {0};

    refuses = "vfio-pci";
    is_refused(DRIVE, "does not take it");
    refuses = NULL;
    stubborn = true;
    is_refused(DRIVE, "does not let go");
    stubborn = false;
    assert_int_equal(rmdir(in_root("bus/pci/drivers/vfio-pci")), 0);
    is_refused(DRIVE, "modprobe");
    h.load = load_it;
    assert_int_equal(lend_take(&h, DRIVE, &e), 0);
    refuses = "nvme";
    assert_true(lend_give_back(&h, DRIVE, "nvme", &e) < 0);
    assert_non_null(strstr(e.text, "does not take it back"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_name_is_what_people_write, setup, teardown),
        cmocka_unit_test_setup_teardown(what_no_machine_could_have_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_device_goes_to_a_machine_and_back_to_its_driver, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_without_a_driver_has_none_again, setup, teardown),
        cmocka_unit_test_setup_teardown(mediated_devices_and_those_that_are_gone_need_nothing,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_another_has_bound_meanwhile_is_left_to_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(after_an_end_in_the_middle_it_is_given_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_the_host_needs_stays_with_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_drive_with_several_ways_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(drivers_that_do_not_play_along_are_told, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
