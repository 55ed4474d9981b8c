/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a machine is on the host: what the options become, and what is refused. Guest tests
 * (test_placement.py) look at what the host makes of it. */
#include "vm/placement.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

#define MIB (1ull << 20)

static struct placement p;
static struct error err;

static int setup(void **state) {
    memset(&p, 0, sizeof(p));
    memset(&err, 0, sizeof(err));
    return 0;
}

#define BAD(call, words)                                                                           \
    do {                                                                                           \
        err = (struct error){0};                                                                   \
        assert_true((call) < 0);                                                                   \
        if (!strstr(err.text, words))                                                              \
            fail_msg("'%s' says nothing of '%s'", err.text, words);                                \
    } while (0)

static void memory_has_pages_and_a_lock(void **state) {
    assert_int_equal(placement_memory(&p, "hugepages=1G", &err), 0);
    assert_int_equal(p.backing.pages, MEM_PAGES_1G);
    assert_int_equal(mem_page_bytes(p.backing.pages), 1 << 30);
    assert_int_equal(placement_memory(&p, "thp=off", &err), 0);
    assert_int_equal(p.backing.pages, MEM_PAGES_1G);
    assert_int_equal(placement_memory(&p, "hugepages=thp", &err), 0);
    assert_int_equal(placement_memory(&p, "thp=off", &err), 0);
    assert_int_equal(p.backing.pages, MEM_PAGES_SMALL);
    assert_int_equal(placement_memory(&p, "thp=on", &err), 0);
    assert_int_equal(p.backing.pages, MEM_PAGES_THP);
    assert_int_equal(placement_memory(&p, "lock=on", &err), 0);
    assert_true(p.backing.lock);
    assert_int_equal(placement_memory(&p, "max=1G", &err), -ENOENT);
    BAD(placement_memory(&p, "hugepages=4K", &err), "2M or 1G");
    BAD(placement_memory(&p, "lock=yes", &err), "on or off");
}

static void pages_of_a_gibibyte_want_whole_gibibytes(void **state) {
    assert_int_equal(placement_memory(&p, "hugepages=1G", &err), 0);
    BAD(placement_resolve(&p, 1, 1536 * MIB, 0, &err), "whole gibibytes");
    BAD(placement_resolve(&p, 1, 1024 * MIB, 1536 * MIB, &err), "whole gibibytes");
    assert_int_equal(placement_resolve(&p, 1, 1024 * MIB, 2048 * MIB, &err), 0);
}

static void nodes_have_what_they_say(void **state) {
    assert_int_equal(placement_numa(&p, "node=0,cpus=0-1,cpus=4,memory=64M", &err), 0);
    assert_int_equal(placement_numa(&p, "node=1,cpus=2+3,memory=192M,distance=0:33", &err), 0);
    assert_int_equal(placement_resolve(&p, 5, 256 * MIB, 0, &err), 0);
    assert_int_equal(p.numa.nodes, 2);
    assert_int_equal(p.numa.node[0].cpus, 0x13);
    assert_int_equal(p.numa.node[1].cpus, 0xc);
    assert_int_equal(p.backing.node[1].size, 192 * MIB);
    assert_int_equal(p.numa.node[0].distance[1], 33);
    assert_int_equal(p.numa.node[1].distance[0], 33);
}

static void nodes_that_say_nothing_share_evenly(void **state) {
    assert_int_equal(placement_numa(&p, "node=2", &err), 0);
    assert_int_equal(placement_resolve(&p, 32, 128 * MIB, 0, &err), 0);
    assert_int_equal(p.numa.node[0].cpus, 0x3ff);
    assert_int_equal(p.numa.node[0].cpus | p.numa.node[1].cpus | p.numa.node[2].cpus, 0xffffffff);
    assert_int_equal(p.numa.node[0].cpus & p.numa.node[1].cpus, 0);
    assert_int_equal(p.backing.node[0].size + p.backing.node[1].size + p.backing.node[2].size,
                     128 * MIB);
    assert_int_equal(p.backing.node[1].size % (2 * MIB), 0);
}

static void nodes_that_do_not_add_up_are_refused(void **state) {
    static const struct {
        const char *node[2], *text;
    } bad[] = {
        {{"node=0,memory=1G", "node=1"}, "its nodes have 1024 MiB"},
        {{"node=0,memory=16777216T", "node=1,memory=128M"}, "nodes have"},
        {{"node=0,cpus=0-1", "node=1,cpus=1-3"}, "processor 1 is in two nodes"},
        {{"node=0,cpus=0-1", "node=1,cpus=3"}, "processor 2 is in no node"},
        {{"node=0,cpus=0-3", "node=1,cpus=4"}, "no processor 4"},
    };

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setup(NULL);
        if (placement_numa(&p, bad[i].node[0], &err) == 0) {
            assert_int_equal(placement_numa(&p, bad[i].node[1], &err), 0);
            BAD(placement_resolve(&p, 4, 128 * MIB, 0, &err), bad[i].text);
        }
    }
    BAD(placement_numa(&p, "cpus=0", &err), "begins with node=N");
    BAD(placement_numa(&p, "node=8", &err), "from 0 to 7");
    BAD(placement_numa(&p, "node=0-1", &err), "begins with");
    BAD(placement_numa(&p, "node=0,cpus=3-1", &err), "cpus=A-B");
    BAD(placement_numa(&p, "node=0,cpus=32", &err), "cpus=A-B");
    BAD(placement_numa(&p, "node=0,memory=3M", &err), "multiple of 2M");
    BAD(placement_numa(&p, "node=0,distance=1:9", &err), "10 to 254");
    BAD(placement_numa(&p, "node=0,distance=0:20", &err), "another node");
    BAD(placement_numa(&p, "node=0,host-node=64", &err), "host-node=N");
    BAD(placement_numa(&p, "node=0,policy=local", &err), "interleave");
}

static void threads_are_pinned_by_name(void **state) {
    assert_int_equal(placement_pin(&p, "vcpus=0-3,vcpu1=2,io=0+5-6", &err), 0);
    assert_true(p.place);
    assert_int_equal(CPU_COUNT(&p.places.vcpu[0].cpus), 4);
    assert_int_equal(CPU_COUNT(&p.places.vcpu[1].cpus), 1);
    assert_true(CPU_ISSET(2, &p.places.vcpu[1].cpus));
    assert_int_equal(CPU_COUNT(&p.places.io.cpus), 3);
    assert_int_equal(placement_resolve(&p, 2, 64 * MIB, 0, &err), 0);
    BAD(placement_resolve(&p, 1, 64 * MIB, 0, &err), "no vcpu1");
    BAD(placement_pin(&p, "vcpu32=0", &err), "vcpuN=CPUS");
    BAD(placement_pin(&p, "cpu0=0", &err), "vcpuN=CPUS");
    BAD(placement_pin(&p, "vcpu0=", &err), "vcpuN=CPUS");
    BAD(placement_pin(&p, "io=5000", &err), "vcpuN=CPUS");
    BAD(placement_pin(&p, "v=1", &err), "vcpuN=CPUS");
    BAD(placement_pin(&p, "", &err), "vcpuN=CPUS");
}

static void priorities_are_within_what_there_is(void **state) {
    assert_int_equal(placement_priority(&p, "fifo:99,io=nice:-20", &err), 0);
    assert_int_equal(p.places.vcpu[31].policy, PLACE_FIFO);
    assert_int_equal(p.places.vcpu[31].level, 99);
    assert_int_equal(p.places.io.policy, PLACE_NICE);
    assert_int_equal(p.places.io.level, -20);
    BAD(placement_priority(&p, "fifo:0", &err), "1 to 99");
    BAD(placement_priority(&p, "rr:100", &err), "1 to 99");
    BAD(placement_priority(&p, "nice:20", &err), "-20 to");
    BAD(placement_priority(&p, "fifo:", &err), "1 to 99");
    BAD(placement_priority(&p, "deadline:1", &err), "fifo:N");
}

static void a_snapshot_keeps_the_guests_topology_alone(void **state) {
    struct placement other = {.place = false};
    json_t *v;

    assert_null(placement_describe(&p));
    assert_int_equal(placement_numa(&p, "node=1,host-node=0,policy=preferred,distance=0:40", &err),
                     0);
    assert_int_equal(placement_resolve(&p, 2, 64 * MIB, 0, &err), 0);
    v = placement_describe(&p);
    assert_int_equal(placement_take(&other, v, &err), 0);
    assert_memory_equal(&other.numa, &p.numa, sizeof(p.numa));
    assert_int_equal(other.backing.node[1].host_nodes, 0);
    assert_int_equal(placement_resolve(&other, 2, 64 * MIB, 0, &err), 0);
    json_object_set_new(json_array_get(v, 0), "memory", json_integer(12345));
    BAD(placement_take(&other, v, &err), "not whole");
    json_array_clear(v);
    BAD(placement_take(&other, v, &err), "1 to 8");
    json_decref(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_has_pages_and_a_lock, setup),
        cmocka_unit_test_setup(pages_of_a_gibibyte_want_whole_gibibytes, setup),
        cmocka_unit_test_setup(nodes_have_what_they_say, setup),
        cmocka_unit_test_setup(nodes_that_say_nothing_share_evenly, setup),
        cmocka_unit_test_setup(nodes_that_do_not_add_up_are_refused, setup),
        cmocka_unit_test_setup(threads_are_pinned_by_name, setup),
        cmocka_unit_test_setup(priorities_are_within_what_there_is, setup),
        cmocka_unit_test_setup(a_snapshot_keeps_the_guests_topology_alone, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
