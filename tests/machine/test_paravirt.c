/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the hypercalls between processors: the LAPICs are real, the processors notes. */
#include "machine/paravirt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "devices/lapic.h"
#include "machine/vcpu.h"
#include "support/test.h"

extern const struct device_class lapic_class;

enum { CPUS = 4, KICK = 5, SEND_IPI = 10, YIELD = 11 };

struct fake { /* a processor that only notes */
    struct cpu cpu;
    unsigned unhalted;
};

static struct fake *fake[CPUS];

static int create(const struct cpu_config *config, struct cpu **ret_cpu, struct error *err) {
    struct fake *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    fake[config->index] = f;
    *ret_cpu = &f->cpu;
    return 0;
}

static void destroy(struct cpu *cpu) { free(cpu); }

static void note(struct cpu *cpu, enum cpu_signal_kind kind, uint8_t vector) {
    if (kind == CPU_SIGNAL_UNHALT)
        ((struct fake *)cpu)->unhalted++;
}

static const struct cpu_ops ops = {
    .name = "fake", .create = create, .destroy = destroy, .signal = note};

struct rig {
    pthread_mutex_t lock;
    struct clock *clock;
    struct apic_bus *bus;
    struct device *lapic[CPUS];
    struct paravirt_cpus cpus;
    unsigned nmis[CPUS];
};

static void note_nmi(void *opaque) { ++*(unsigned *)opaque; }

static void set_up(struct rig *r) {
    struct vcpu_owner owner = {.lock = &r->lock};
    struct error err = {0};

    memset(r, 0, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    r->clock = clock_new_stepped();
    r->bus = apic_bus_new(NULL);
    r->cpus.lapic = r->lapic;
    r->cpus.count = CPUS;
    for (unsigned i = 0; i < CPUS; i++) {
        struct lapic_config lapic = {
            .bus = r->bus, .id = i, .bsp = !i, .cpu = {.nmi = note_nmi, .opaque = &r->nmis[i]}};
        struct device_env env = {.clock = r->clock, .config = &lapic};
        struct cpu_config config = {.index = i, .count = CPUS};

        r->lapic[i] = device_new(&lapic_class, "lapic", &env, &err);
        assert_non_null(r->lapic[i]);
        lapic_mmio_write(r->lapic[i], 0xf0, 0x1ff);
        r->cpus.vcpu[i] = vcpu_new(&ops, &config, &owner, &err);
        assert_non_null(r->cpus.vcpu[i]);
    }
}

static void tear_down(struct rig *r) {
    for (unsigned i = 0; i < CPUS; i++) {
        device_free(r->lapic[i]);
        vcpu_free(r->cpus.vcpu[i]);
    }
    apic_bus_free(r->bus);
    clock_free(r->clock);
    pthread_mutex_destroy(&r->lock);
}

static int64_t call(struct rig *r, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                    bool code64) {
    uint64_t arg[4] = {a, b, c, d};

    return paravirt_call(&r->cpus, 0, nr, arg, code64);
}

static void a_kick_goes_to_the_one_that_is_named(void **state) {
    struct rig r;

    set_up(&r);
    assert_int_equal(call(&r, KICK, 0, 2, 0, 0, true), 0);
    assert_int_equal(call(&r, KICK, 0, 77, 0, 0, true), 0);
    assert_int_equal(call(&r, KICK, 0, ~0ull, 0, 0, true), 0);
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(fake[i]->unhalted, i == 2);
    tear_down(&r);
}

static void interrupts_go_to_each_bit_of_the_map(void **state) {
    struct rig r;

    set_up(&r);
    assert_int_equal(call(&r, SEND_IPI, 5, 0, 1, 0x60, true), 2); /* processors 1 and 3 */
    assert_int_equal(lapic_ack(r.lapic[1]), 0x60);
    assert_int_equal(lapic_ack(r.lapic[2]), -1);
    assert_int_equal(lapic_ack(r.lapic[3]), 0x60);
    assert_int_equal(call(&r, SEND_IPI, 0xf, 0, 0, 4 << 8, true), 4); /* NMI */
    assert_true(r.nmis[0] == 1 && r.nmis[3] == 1);
    tear_down(&r);
}

static void the_second_word_begins_where_the_first_ends(void **state) {
    struct rig r;

    set_up(&r);
    assert_int_equal(call(&r, SEND_IPI, 0, 1, (uint32_t)-62, 0x61, true), 0);
    assert_int_equal(call(&r, SEND_IPI, ~0ull, ~0ull, 0, 0x61, true), CPUS);
    assert_int_equal(lapic_ack(r.lapic[2]), 0x61);
    /* In 32-bit code a word has 32 bits, whatever the registers' upper halves hold. */
    assert_int_equal(call(&r, SEND_IPI, 1ull << 33, 0, 0, 0x62, false), 0);
    tear_down(&r);
}

static void nonsense_is_an_error(void **state) {
    struct rig r;

    set_up(&r);
    assert_int_equal(call(&r, SEND_IPI, 1, 0, 0, 5 << 8, true), -EINVAL); /* INIT */
    assert_int_equal(call(&r, 0, 0, 0, 0, 0, true), -1000);
    assert_int_equal(call(&r, 12345, 1, 2, 3, 4, true), -1000);
    assert_int_equal(call(&r, 1, 0, 0, 0, 0, true), 0);
    assert_int_equal(call(&r, YIELD, 99, 0, 0, 0, true), 0);
    tear_down(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kick_goes_to_the_one_that_is_named),
        cmocka_unit_test(interrupts_go_to_each_bit_of_the_map),
        cmocka_unit_test(the_second_word_begins_where_the_first_ends),
        cmocka_unit_test(nonsense_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
