/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices of the host by VFIO, on a kernel that is made up and may say anything. */
#include <sys/eventfd.h>

#include "base/loop.h"
#include "support/test.h"
#include "vfio/fake_kernel.h"

enum { CAP = sizeof(struct vfio_region_info) };

static const struct vfio_place place = {.name = "0000:03:00.0", .group = 7},
                               other = {.name = "0000:04:00.0", .group = 8};
static struct loop *loop;
static struct vfio_host *host;
static struct vfio_function *f;

static int setup(void **state) {
    kernel_init();
    loop = loop_new(NULL, NULL);
    host = vfio_host_new(loop, "/dev", &fake_calls);
    f = NULL;
    return 0;
}

static int teardown(void **state) {
    vfio_close(f);
    assert_int_equal(fake.groups_in, 0);
    assert_int_equal(fake.mapped_areas, 0);
    assert_int_equal(fake.irq_count, 0);
    vfio_host_free(host);
    loop_free(loop);
    return 0;
}

static void mount(void) {
    struct error err = {0};

    f = vfio_open(host, &place, &err);
    if (!f)
        fail_msg("%s", err.text);
}

static void expect_refused(const char *words) {
    struct error err = {0};

    assert_null(vfio_open(host, &place, &err));
    if (!strstr(err.text, words))
        fail_msg("'%s' is not in: %s", words, err.text);
    assert_false(vfio_used(host));
    assert_int_equal(fake.groups_in, 0);
}

/* ------------------------------------------------------------------ opening */

static void a_device_is_opened_and_closed(void **state) {
    mount();
    assert_int_equal(f->region[0].size, 0x4000);
    assert_int_equal(f->region[1].size, 0);
    assert_int_equal(f->interrupts[VFIO_MSIX], 33);
    assert_true(vfio_used(host));
    vfio_close(f);
    f = NULL;
    assert_false(vfio_used(host));
    mount(); /* the container was forgotten, and is made anew */
}

static void what_the_kernel_refuses_is_said(void **state) {
    static const struct {
        int request, error;
        const char *words;
    } cases[] = {
        {-1, EACCES, "cannot be opened"},
        {-1, EBUSY, "another program or machine"},
        {(int)VFIO_GROUP_GET_STATUS, EIO, "kernel's log"},
        {(int)VFIO_GROUP_SET_CONTAINER, EBUSY, "cannot be taken"},
        {(int)VFIO_SET_IOMMU, EPERM, "allow_unsafe_interrupts"},
        {(int)VFIO_GROUP_GET_DEVICE_FD, ENODEV, "does not hand it out"},
        {(int)VFIO_DEVICE_GET_INFO, EIO, "kernel's log"},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake.fail = cases[i].request;
        fake.error = cases[i].error;
        expect_refused(cases[i].words);
    }
}

static void what_the_kernel_lacks_is_said(void **state) {
    fake.api = 1;
    expect_refused("type 1");
    kernel_init();
    fake.type1 = 0;
    expect_refused("type 1");
    kernel_init();
    fake.viable = 0;
    expect_refused("still uses");
    kernel_init();
    fake.info.flags = VFIO_DEVICE_FLAGS_PLATFORM;
    expect_refused("PCI device");
    kernel_init();
    kernel_region_at(7)->size = 64;
    expect_refused("configuration space");
    kernel_init();
    fake.info.num_regions = 0;
    expect_refused("configuration space");
}

/* ------------------------------------------------------------------ memory */

static void memory_is_told_with_the_first_group_and_after_it(void **state) {
    static uint8_t memory[3][4096];

    assert_int_equal(vfio_map(host, 0, memory[0], 4096, NULL), 0);
    assert_int_equal(fake.maps, 0);
    mount();
    assert_int_equal(fake.maps, 1);
    assert_int_equal(vfio_map(host, 0x10000, memory[1], 4096, NULL), 0);
    assert_int_equal(fake.maps, 2);
    assert_true(vfio_map(host, 0x10000, memory[2], 4096, NULL) < 0);
    vfio_unmap(host, 0x10000, 4096);
    vfio_unmap(host, 0x20000, 4096); /* was never */
    assert_int_equal(fake.maps, 1);
    vfio_close(f);
    mount();
    assert_int_equal(fake.maps, 1);
}

static void memory_that_is_refused_refuses_the_device(void **state) {
    static uint8_t memory[4096];
    struct error err = {0};

    assert_int_equal(vfio_map(host, 0, memory, 4096, NULL), 0);
    fake.fail = (int)VFIO_IOMMU_MAP_DMA;
    fake.error = EINVAL;
    expect_refused("does not reach");
    fake.fail = 0;
    mount();
    fake.fail = (int)VFIO_IOMMU_MAP_DMA;
    fake.error = ENOSPC;
    assert_true(vfio_map(host, 0x10000, memory, 4096, &err) < 0);
    assert_non_null(strstr(err.text, "less memory"));
}

static void groups_share_a_container(void **state) {
    struct vfio_function *g;

    mount();
    g = vfio_open(host, &other, NULL);
    assert_non_null(g);
    assert_int_equal(fake.groups_in, 2);
    vfio_close(g);
    assert_int_equal(fake.groups_in, 1);
    assert_true(fake.iommu_set);
    g = vfio_open(host, &place, NULL); /* two functions of one group */
    assert_int_equal(fake.groups_in, 1);
    vfio_close(g);
    assert_int_equal(fake.groups_in, 1);
}

/* ------------------------------------------------------------------ regions */

static void transfers_that_are_short_are_errors(void **state) {
    uint32_t word = 0;

    mount();
    assert_int_equal(f->ops->read(f, 0, 0, &word, 4), 0);
    assert_int_equal(word, 0x5a5a5a5a);
    fake.short_transfers = true;
    assert_true(f->ops->read(f, 0, 0, &word, 4) < 0);
    assert_true(f->ops->write(f, 0, 0, &word, 4) < 0);
}

static void a_bar_is_mapped_as_a_whole(void **state) {
    mount();
    assert_int_equal(f->region[0].areas, 1);
    assert_int_equal(f->region[0].area[0].offset, 0);
    assert_int_equal(f->region[0].area[0].size, 0x4000);
}

static void what_cannot_be_mapped_is_not(void **state) {
    kernel_region_at(0)->size = 0x800; /* no whole page */
    mount();
    assert_int_equal(f->region[0].areas, 0);
    vfio_close(f);
    kernel_init();
    kernel_region_at(0)->flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP;
    mount();
    assert_int_equal(f->region[0].areas, 0);
    vfio_close(f);
    kernel_init();
    fake.fail = -2;
    fake.error = EPERM;
    mount();
    assert_int_equal(f->region[0].areas, 0);
    vfio_close(f);
    kernel_init();
    kernel_region_at(0)->flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_WRITE;
    mount();
    assert_int_equal(f->region[0].areas, 0);
}

struct area {
    uint64_t offset, size;
};

/* A capability of another kind, then the areas. */
static struct vfio_region_info_cap_sparse_mmap *put_areas(const struct area *a, unsigned count) {
    uint8_t *bytes = fake.region[0].bytes;
    struct vfio_info_cap_header *first = (void *)(bytes + CAP);
    struct vfio_region_info_cap_sparse_mmap *c = (void *)(bytes + CAP + 8);

    fake.region[0].size = (uint32_t)(CAP + 8 + sizeof(*c) + count * sizeof(c->areas[0]));
    kernel_region_at(0)->argsz = fake.region[0].size;
    kernel_region_at(0)->flags |= VFIO_REGION_INFO_FLAG_CAPS;
    kernel_region_at(0)->cap_offset = CAP;
    *first = (struct vfio_info_cap_header){
        .id = VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, .version = 1, .next = CAP + 8};
    c->header = (struct vfio_info_cap_header){.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1};
    c->nr_areas = count;
    for (unsigned i = 0; i < count; i++) {
        c->areas[i].offset = a[i].offset;
        c->areas[i].size = a[i].size;
    }
    return c;
}

static void of_a_bar_with_holes_the_areas_are_mapped(void **state) {
    static const struct area a[] = {{0, 0x1000}, {0x3000, 0x1000}};

    put_areas(a, 2);
    mount();
    assert_int_equal(f->region[0].areas, 2);
    assert_int_equal(f->region[0].area[1].offset, 0x3000);
}

static void areas_that_make_no_sense_are_left_out(void **state) {
    static const struct area a[] = {
        {0x2000, 0x1000},    {0x1000, 0x1000},    {0x2000, 0x1000}, /* back, and twice */
        {0x3000, 0x2000},    {0x3800, 0x800},     {0x3000, 0},      /* too long, no page, empty */
        {~0xfffull, 0x1000}, {0x3000, ~0xfffull}, {0x3000, 0x1000},
    };

    put_areas(a, sizeof(a) / sizeof(a[0]));
    mount();
    assert_int_equal(f->region[0].areas, 2);
    assert_int_equal(f->region[0].area[0].offset, 0x2000);
    assert_int_equal(f->region[0].area[1].offset, 0x3000);
}

static void more_areas_than_there_is_room_for_stay_with_the_board(void **state) {
    struct area a[VFIO_AREAS + 4];

    kernel_region_at(0)->size = 1 << 20;
    for (unsigned i = 0; i < VFIO_AREAS + 4; i++)
        a[i] = (struct area){i * 0x2000, 0x1000};
    put_areas(a, VFIO_AREAS + 4);
    mount();
    assert_int_equal(f->region[0].areas, VFIO_AREAS);
}

static void a_count_that_is_too_large_ends_with_the_answer(void **state) {
    static const struct area a[] = {{0, 0x1000}};

    put_areas(a, 1)->nr_areas = ~0u;
    mount();
    assert_int_equal(f->region[0].areas, 1);
}

static void chains_that_lead_nowhere_or_in_circles_end(void **state) {
    static const struct area a[] = {{0, 0x1000}};
    static const uint32_t next[] = {CAP, 1, CAP + 4, KERNEL_INFO * 2, ~0u, ~7u};

    for (unsigned i = 0; i < sizeof(next) / sizeof(next[0]); i++) {
        put_areas(a, 1);
        ((struct vfio_info_cap_header *)(fake.region[0].bytes + CAP))->next = next[i];
        mount();
        assert_int_equal(f->region[0].area[0].size, 0x4000); /* as without any */
        vfio_close(f);
        kernel_region_at(0)->cap_offset = next[i];
        mount();
        vfio_close(f);
        f = NULL;
    }
}

static void an_answer_that_always_grows_is_taken_without_capabilities(void **state) {
    static const struct area a[] = {{0, 0x1000}};

    put_areas(a, 1);
    kernel_region_at(0)->argsz = ~0u;
    mount();
    assert_int_equal(f->region[0].area[0].size, 0x4000);
}

/* ------------------------------------------------------------------ interrupts */

static void counts_of_interrupts_are_bounded(void **state) {
    fake.irq[2].count = ~0u;
    fake.irq[1].flags = 0; /* not by descriptors */
    mount();
    assert_int_equal(f->interrupts[VFIO_MSIX], VFIO_VECTORS);
    assert_int_equal(f->interrupts[VFIO_MSI], 0);
}

static void messages_have_the_descriptors_that_they_are_given(void **state) {
    int fd = eventfd(0, EFD_CLOEXEC);

    mount();
    assert_int_equal(f->ops->listen(f, VFIO_MSIX, 33, NULL), 33);
    assert_int_equal(fake.irq_count, 33);
    for (unsigned i = 0; i < 33; i++)
        assert_int_equal(fake.fd[i], -1);
    assert_int_equal(f->ops->signal(f, 32, fd), 0);
    assert_int_equal(fake.fd[32], fd);
    assert_int_equal(fake.fd[31], -1);
    assert_true(f->ops->signal(f, 33, fd) < 0);
    assert_int_equal(f->ops->listen(f, VFIO_MSI, 1, &fd), 1);
    assert_int_equal(fake.irq_kind, VFIO_MSI);
    assert_int_equal(fake.fd[0], fd);
    assert_int_equal(f->ops->listen(f, VFIO_INTX, 0, NULL), 0);
    assert_int_equal(fake.irq_count, 0);
    assert_true(f->ops->signal(f, 0, fd) < 0);
    close(fd);
}

static void a_host_with_few_vectors_left_gives_those(void **state) {
    mount();
    fake.vectors_left = 5;
    assert_int_equal(f->ops->listen(f, VFIO_MSIX, 33, NULL), 5);
    assert_true(f->ops->signal(f, 5, 0) < 0);
    f->ops->listen(f, VFIO_INTX, 0, NULL);
    fake.vectors_left = 0;
    assert_int_equal(f->ops->listen(f, VFIO_MSIX, 33, NULL), -ENOSPC);
}

static unsigned told;

static void fired(void *opaque) { told++; }

static void a_level_is_told_by_the_loop(void **state) {
    const uint64_t one = 1;

    mount();
    f->fired = fired;
    told = 0;
    assert_int_equal(f->ops->listen(f, VFIO_INTX, 1, NULL), 1);
    assert_int_equal(write(fake.fd[0], &one, sizeof(one)), sizeof(one));
    while (loop_step(loop, 0))
        ;
    assert_int_equal(told, 1);
    assert_int_equal(f->ops->unmask(f), 0);
    assert_int_equal(fake.unmasks, 1);
    f->fired = NULL;
    assert_int_equal(write(fake.fd[0], &one, sizeof(one)), sizeof(one));
    while (loop_step(loop, 0))
        ;
    assert_int_equal(told, 1);
}

static void one_that_cannot_be_reset_says_so(void **state) {
    mount();
    assert_int_equal(f->ops->reset(f), 0);
    assert_int_equal(fake.resets, 1);
    vfio_close(f);
    fake.info.flags &= ~(uint32_t)VFIO_DEVICE_FLAGS_RESET;
    mount();
    assert_int_equal(f->ops->reset(f), -ENOTSUP);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_device_is_opened_and_closed),
        T(what_the_kernel_refuses_is_said),
        T(what_the_kernel_lacks_is_said),
        T(memory_is_told_with_the_first_group_and_after_it),
        T(memory_that_is_refused_refuses_the_device),
        T(groups_share_a_container),
        T(transfers_that_are_short_are_errors),
        T(a_bar_is_mapped_as_a_whole),
        T(what_cannot_be_mapped_is_not),
        T(of_a_bar_with_holes_the_areas_are_mapped),
        T(areas_that_make_no_sense_are_left_out),
        T(more_areas_than_there_is_room_for_stay_with_the_board),
        T(a_count_that_is_too_large_ends_with_the_answer),
        T(chains_that_lead_nowhere_or_in_circles_end),
        T(an_answer_that_always_grows_is_taken_without_capabilities),
        T(counts_of_interrupts_are_bounded),
        T(messages_have_the_descriptors_that_they_are_given),
        T(a_host_with_few_vectors_left_gives_those),
        T(a_level_is_told_by_the_loop),
        T(one_that_cannot_be_reset_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
