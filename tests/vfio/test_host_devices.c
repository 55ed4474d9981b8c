/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inventory of the host's devices, from trees that are made here: as a server has them, and as
 * nobody should. */
#include "vfio/host_devices.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

static char root[] = "/tmp/viv-sysfs-XXXXXX";

static const char *in_root(const char *path) {
    static char full[600];

    snprintf(full, sizeof(full), "%s/%s", root, path);
    return full;
}

/* With the folders above it. */
static void make_folder(const char *path) {
    char full[600];

    snprintf(full, sizeof(full), "%s", in_root(path));
    for (char *slash = full + strlen(root); (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
}

static void make_bytes(const char *path, const void *p, size_t n) {
    char folder[500];
    FILE *f;

    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = 0;
    make_folder(folder);
    f = fopen(in_root(path), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

static void make_file(const char *path, const char *text) { make_bytes(path, text, strlen(text)); }

static void make_link(const char *path, const char *to) {
    assert_int_equal(symlink(to, in_root(path)), 0);
}

static void make_device(const char *address, const char *vendor, const char *class, int group) {
    char path[200], to[80];

    snprintf(path, sizeof(path), "bus/pci/devices/%s/vendor", address);
    make_file(path, vendor);
    snprintf(path, sizeof(path), "bus/pci/devices/%s/class", address);
    make_file(path, class);
    if (group < 0)
        return;
    snprintf(path, sizeof(path), "bus/pci/devices/%s/iommu_group", address);
    snprintf(to, sizeof(to), "../../../../kernel/iommu_groups/%d", group);
    make_link(path, to);
    snprintf(path, sizeof(path), "kernel/iommu_groups/%d/devices", group);
    make_folder(path);
    snprintf(path, sizeof(path), "kernel/iommu_groups/%d/devices/%s", group, address);
    make_link(path, "nowhere");
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static int setup(void **state) {
    strcpy(strrchr(root, '-'), "-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state) { return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static json_t *find(const json_t *list, const char *key, const char *value) {
    json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
        if (!strcmp(json_string_value(json_object_get(one, key)), value))
            return one;
    fail_msg("there is no %s", value);
    return NULL;
}

static const char *text(const json_t *o, const char *key) {
    return json_string_value(json_object_get(o, key));
}

static json_int_t number(const json_t *o, const char *key) {
    assert_true(json_is_integer(json_object_get(o, key)));
    return json_integer_value(json_object_get(o, key));
}

static void a_server_has_what_it_has(void **state) {
    json_t *all, *devices, *d, *one;

    make_device("0000:03:00.0", "0x8086\n", "0x010802\n", 14);
    make_device("0000:03:00.1", "0x8086\n", "0x010802\n", 15);
    make_device("0001:c1:00.7", "0x10de\n", "0x030200\n", -1);
    make_file("bus/pci/devices/0000:03:00.0/device", "0x0A54\n");
    make_file("bus/pci/devices/0000:03:00.0/numa_node", "1\n");
    make_file("bus/pci/devices/0000:03:00.0/sriov_totalvfs", "8\n");
    make_link("bus/pci/devices/0000:03:00.0/driver", "../../../../bus/pci/drivers/nvme");
    make_link("bus/pci/devices/0000:03:00.0/virtfn0", "../0000:03:00.1");
    make_link("bus/pci/devices/0000:03:00.1/physfn", "../0000:03:00.0");
    make_file("bus/pci/devices/0001:c1:00.7/numa_node", "-1\n");
    make_file("bus/pci/devices/0001:c1:00.7/mdev_supported_types/nvidia-35/name", "GRID 2Q\n");
    make_file("bus/pci/devices/0001:c1:00.7/mdev_supported_types/nvidia-35/available_instances",
              "12\n");
    make_folder("bus/pci/devices/0001:c1:00.7/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
    make_file("devices/system/node/node0/cpulist", "0-3,8\n");
    make_file("devices/system/node/node0/distance", "10 21\n");
    make_file("devices/system/node/node0/meminfo",
              "Node 0 MemTotal:       16384 kB\nNode 0 MemFree:  4096 kB\n");
    make_file("devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "64\n");
    make_file("devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "60\n");
    make_file("devices/system/node/node10/cpulist", "\n");
    all = host_devices_read(root);
    devices = json_object_get(all, "devices");
    assert_int_equal(json_array_size(devices), 3);
    d = find(devices, "address", "0000:03:00.0");
    assert_string_equal(text(d, "vendor"), "8086");
    assert_string_equal(text(d, "device"), "0a54");
    assert_string_equal(text(d, "class"), "010802");
    assert_string_equal(text(d, "kind"), "nvme");
    assert_string_equal(text(d, "driver"), "nvme");
    assert_int_equal(number(d, "iommu_group"), 14);
    assert_int_equal(number(d, "numa_node"), 1);
    assert_int_equal(number(d, "functions_max"), 8);
    assert_string_equal(json_string_value(json_array_get(json_object_get(d, "functions"), 0)),
                        "0000:03:00.1");
    d = find(devices, "address", "0000:03:00.1");
    assert_string_equal(text(d, "function_of"), "0000:03:00.0");
    assert_null(json_object_get(d, "driver"));
    d = find(devices, "address", "0001:c1:00.7");
    assert_string_equal(text(d, "kind"), "display");
    assert_null(json_object_get(d, "iommu_group"));
    one = json_array_get(json_object_get(d, "mdev_types"), 0);
    assert_string_equal(text(one, "type"), "nvidia-35");
    assert_string_equal(text(one, "name"), "GRID 2Q");
    assert_int_equal(number(one, "available"), 12);
    assert_int_equal(json_array_size(json_object_get(d, "mdevs")), 1);
    one = json_array_get(json_object_get(all, "iommu_groups"), 0);
    assert_int_equal(number(one, "group"), 14);
    assert_int_equal(json_array_size(json_object_get(one, "devices")), 1);
    assert_int_equal(json_array_size(json_object_get(all, "numa_nodes")), 2);
    one = json_array_get(json_object_get(all, "numa_nodes"), 0);
    assert_string_equal(text(one, "cpus"), "0-3,8");
    assert_int_equal(number(one, "memory"), 16 << 20);
    assert_int_equal(json_array_size(json_object_get(one, "distances")), 2);
    one = json_array_get(json_object_get(one, "hugepages"), 0);
    assert_int_equal(number(one, "page"), 2 << 20);
    assert_int_equal(number(one, "free"), 60);
    assert_int_equal(number(json_array_get(json_object_get(all, "numa_nodes"), 1), "node"), 10);
    json_decref(all);
}

static void names_that_are_none_are_left_out(void **state) {
    static const char *const names[] = {"0000:03:00.8",  "0000:03:00",       "0000:03:00.0x",
                                        "0000:0g:00.0",  "0000:03:00.0\n1",  "../devices",
                                        "000A:03:00.0x", "\xff\xfe:03:00.0", "eth0"};
    json_t *all;

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[100];

        snprintf(path, sizeof(path), "bus/pci/devices/%s", names[i]);
        make_folder(path);
    }
    make_folder("kernel/iommu_groups/none/devices");
    make_folder("kernel/iommu_groups/99999999999999999999/devices");
    make_folder("devices/system/node/node");
    make_folder("devices/system/node/node-1");
    all = host_devices_read(root);
    assert_int_equal(json_array_size(json_object_get(all, "devices")), 0);
    assert_int_equal(json_array_size(json_object_get(all, "iommu_groups")), 0);
    assert_int_equal(json_array_size(json_object_get(all, "numa_nodes")), 0);
    json_decref(all);
}

static void content_that_is_none_is_left_out(void **state) {
    static char much[1 << 20];
    json_t *all, *d;
    char *dumped;

    make_device("0000:00:01.0", "0x123456789\n", "tax\n", -1);
    make_file("bus/pci/devices/0000:00:01.0/device", "");
    make_file("bus/pci/devices/0000:00:01.0/numa_node", "99999999999999999999999\n");
    make_bytes("bus/pci/devices/0000:00:01.0/reset_method", "\xff\x00\x1b[31m", 7);
    make_bytes("bus/pci/devices/0000:00:01.0/subsystem_vendor", much, sizeof(much));
    make_link("bus/pci/devices/0000:00:01.0/driver", "driver");
    make_link("bus/pci/devices/0000:00:01.0/virtfn0", "../../etc");
    make_link("bus/pci/devices/0000:00:01.0/iommu_group", "/x/y");
    make_folder("bus/pci/devices/0000:00:01.0/sriov_totalvfs");
    assert_int_equal(mkfifo(in_root("bus/pci/devices/0000:00:01.0/subsystem_device"), 0600), 0);
    make_link("bus/pci/devices/0000:00:02.0", "0000:00:02.0");
    make_file("bus/pci/devices/0000:00:03.0", "a file");
    memset(much, 'x', sizeof(much));
    make_bytes("devices/system/node/node0/meminfo", much, sizeof(much));
    make_bytes("devices/system/node/node0/distance", much, sizeof(much));
    make_folder("devices/system/node/node0/cpulist");
    all = host_devices_read(root);
    assert_int_equal(json_array_size(json_object_get(all, "devices")), 1);
    d = json_array_get(json_object_get(all, "devices"), 0);
    for (const char *const *key =
             (const char *const[]){"vendor", "device", "class", "numa_node", "subsystem_vendor",
                                   "subsystem_device", "iommu_group", "functions_max", NULL};
         *key; key++)
        if (json_object_get(d, *key))
            fail_msg("%s is there", *key);
    assert_string_equal(text(d, "reset"), "?");
    assert_int_equal(json_array_size(json_object_get(d, "functions")), 0);
    dumped = json_dumps(all, 0);
    assert_non_null(dumped);
    free(dumped);
    json_decref(all);
}

static void without_anything_all_lists_are_empty(void **state) {
    json_t *all = host_devices_read("/nonexistent");

    assert_int_equal(json_array_size(json_object_get(all, "devices")), 0);
    assert_true(json_is_array(json_object_get(all, "numa_nodes")));
    json_decref(all);
}

static void this_host_is_read(void **state) {
    json_t *all = host_devices_read("/sys");

    assert_true(json_is_array(json_object_get(all, "devices")));
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_server_has_what_it_has, setup, teardown),
        cmocka_unit_test_setup_teardown(names_that_are_none_are_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(content_that_is_none_is_left_out, setup, teardown),
        cmocka_unit_test(without_anything_all_lists_are_empty),
        cmocka_unit_test(this_host_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
