/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole machines with a device of the host, which is made up: where its BARs are. */
#include "base/loop.h"
#include "devices/fake_vfio.h"
#include "machine/image.h"
#include "machine/machine.h"
#include "machine/map.h"
#include "support/test.h"

struct box {
    pthread_mutex_t lock;
    struct loop *loop;
    struct machine *machine;
    struct machine_config config;
    struct image image;
    struct fake_vfio host;
};

static int setup(void **state) {
    static const uint8_t code[] = {0xf4}; /* HLT */
    struct box *b = calloc(1, sizeof(*b));

    pthread_mutex_init(&b->lock, NULL);
    b->loop = loop_new(&b->lock, NULL);
    image_elf(&b->image, &(struct elf_shape){0}, code, sizeof(code));
    fake_init(&b->host);
    b->config = (struct machine_config){.name = "box",
                                        .cpus = 1,
                                        .memory = 16 << 20,
                                        .cpu = "ref",
                                        .kernel = b->image.path,
                                        .passed = {&b->host.f},
                                        .passed_count = 1};
    *state = b;
    return 0;
}

static int teardown(void **state) {
    struct box *b = *state;

    machine_free(b->machine);
    loop_free(b->loop);
    image_done(&b->image);
    pthread_mutex_destroy(&b->lock);
    free(b);
    return 0;
}

static void add_bar(struct box *b, unsigned bar, uint64_t size) {
    b->host.f.region[bar] = (struct vfio_region){.size = size, .read = true, .write = true};
    store_le32(b->host.config + PCI_BAR0 + 4 * bar, 0xc); /* 64 bits, prefetchable */
}

static const struct pci_device *start(struct box *b, struct error *err) {
    const struct device *d = NULL;

    b->machine = machine_new(&b->config, b->loop, &b->lock, err);
    for (unsigned i = 0; b->machine && (d = machine_device(b->machine, i)); i++)
        if (!strcmp(d->cls->name, "vfio_pci"))
            return (const struct pci_device *)d;
    return NULL;
}

static void a_bar_of_gigabytes_is_behind_all_memory(void **state) {
    struct box *b = *state;
    struct error err = {0};
    const struct pci_device *d;

    b->config.memory = 9ull << 30;
    add_bar(b, 4, 8ull << 30);
    d = start(b, &err);
    if (!d)
        fail_msg("%s", err.text);
    assert_true(d->bar[0].mapped && d->bar[4].mapped);
    assert_in_range(d->bar[0].region.base, MAP_PCI_MMIO, MAP_PCI_MMIO_END - 1);
    assert_int_equal(d->bar[4].region.base, 16ull << 30); /* memory ends at 10.25 GiB */
    assert_int_equal(d->bar[4].region.size, 8ull << 30);
}

static void the_largest_bar_has_a_place(void **state) {
    struct box *b = *state;
    struct error err = {0};
    const struct pci_device *d;

    add_bar(b, 2, 1ull << 34);
    add_bar(b, 4, 1ull << 38);
    d = start(b, &err);
    if (!d)
        fail_msg("%s", err.text);
    assert_true(d->bar[2].mapped && d->bar[4].mapped);
    assert_true(d->bar[4].region.base + d->bar[4].region.size <= MAP_PCI64_END);
}

static void what_has_no_place_is_said(void **state) {
    struct box *b = *state;
    struct error err = {0};

    add_bar(b, 4, 1ull << 39);
    assert_null(start(b, &err));
    assert_null(b->machine);
    assert_non_null(strstr(err.text, "BAR 4 of 64 bits"));
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_bar_of_gigabytes_is_behind_all_memory),
        T(the_largest_bar_has_a_place),
        T(what_has_no_place_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
