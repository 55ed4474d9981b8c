/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the virtio transport and queues, driven from guest memory as a driver would. */
#include "devices/virtio/virtio.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

/* ---- a device type: queue 0 answers with the bytes it got, queue 1 keeps chains until told ----
 */

enum { DEVFN = 0x18, ECHO = 0, KEEP = 1, KEPT_MAX = 300, F_TOY = 1 << 5, F_OTHER = 1 << 6 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4, NEEDS_RESET = 0x40 };

struct toy {
    struct virtio virtio;
    uint8_t config[10], beyond[8];
    struct virtio_chain kept[4], scratch;
    unsigned kept_count, notified[2], taken, statuses;
    uint8_t last_old, last_now;
    bool elsewhere;     /* another thread serves KEEP */
    bool quiet, refill; /* refill: the driver puts the chain back as fast as we take it */
    struct driver *driver;
};

/* For the test with two threads. */
static struct {
    pthread_mutex_t lock; /* the machine lock */
    sem_t kicked, interrupted;
    bool stop;
} duo = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void echo(struct toy *t) {
    struct virtio_chain *c = &t->scratch;
    uint8_t bytes[512];

    do {
        if (t->quiet)
            virtio_want_kick(&t->virtio, ECHO, false);
        while (virtio_pop(&t->virtio, ECHO, c) > 0) {
            size_t n = iov_read(c->iov, c->out_count, 0, bytes, sizeof(bytes));

            t->taken++;
            n = iov_write(c->iov + c->out_count, c->in_count, 0, bytes, n);
            virtio_push(&t->virtio, c, (uint32_t)n);
            if (t->refill)
                driver_avail(t->driver, ECHO, c->head);
        }
    } while (t->quiet && virtio_want_kick(&t->virtio, ECHO, true));
    virtio_interrupt(&t->virtio, ECHO);
}

static void notify(struct virtio *v, unsigned queue) {
    struct toy *t = (struct toy *)v;

    t->notified[queue]++;
    if (queue == ECHO)
        echo(t);
    else if (t->elsewhere)
        sem_post(&duo.kicked);
    else
        while (t->kept_count < 4 && virtio_pop(v, KEEP, &t->kept[t->kept_count]) > 0)
            t->kept_count++;
}

static void status(struct virtio *v, uint8_t old, uint8_t now) {
    struct toy *t = (struct toy *)v;

    t->statuses++;
    t->last_old = old;
    t->last_now = now;
}

static void config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    memcpy(buf, ((struct toy *)v)->config + offset, len);
}

static void config_write(struct virtio *v, unsigned offset, const void *buf, unsigned len) {
    memcpy(((struct toy *)v)->config + offset, buf, len);
}

static const struct virtio_type type = {
    .id = 42,
    .features = F_TOY | F_OTHER,
    .queues = 2,
    .queue_size = 16,
    .config_size = 10,
    .pci_class = 0x00ff0000,
    .notify = notify,
    .status = status,
    .config_read = config_read,
    .config_write = config_write,
};

static int toy_init(struct device *dev, struct error *err) {
    struct toy *t = (struct toy *)dev;

    for (unsigned i = 0; i < sizeof(t->config); i++)
        t->config[i] = (uint8_t)(0xa0 + i);
    memset(t->beyond, 0xee, sizeof(t->beyond));
    return virtio_init(&t->virtio, &type, F_TOY, err);
}

static void toy_reset(struct device *dev) { virtio_reset((struct virtio *)dev); }
static void toy_done(struct device *dev) { virtio_done((struct virtio *)dev); }
static void toy_post_load(void *obj) { virtio_post_load(obj); }

static const struct state_desc toy_state = {
    .name = "toy",
    .version = 1,
    .struct_size = sizeof(struct toy),
    .post_load = toy_post_load,
    .fields = (const struct state_field[]){STATE_SUB(struct toy, virtio, &virtio_state), STATE_END},
};

static const struct device_class toy_class = {
    .name = "toy",
    .size = sizeof(struct toy),
    .state = &toy_state,
    .init = toy_init,
    .reset = toy_reset,
    .done = toy_done,
    .pci = true,
};

static struct board b;
static struct toy *t;
static struct driver d;

static struct toy *toy_new(unsigned devfn) {
    struct device_env env = board_env(&b, NULL);
    struct toy *toy = (struct toy *)device_new(&toy_class, "toy", &env, NULL);

    assert_non_null(toy);
    assert_int_equal(pci_bus_attach(b.bus, &toy->virtio.pci, devfn, NULL), 0);
    return toy;
}

static int make(void **state) {
    test_board_init(&b, 4 << 20);
    t = toy_new(DEVFN);
    return 0;
}

static int drop(void **state) {
    test_board_done(&b);
    device_free(&t->virtio.pci.dev);
    return 0;
}

static void start(uint64_t features, bool msix) {
    driver_start(&d, &b, DEVFN, features, 2, msix);
    t->driver = &d;
}

static uint32_t cfg(unsigned offset, unsigned size) {
    return pci_config_read(b.bus, DEVFN, offset, size);
}

static void cfg_write(unsigned offset, unsigned size, uint32_t value) {
    pci_config_write(b.bus, DEVFN, offset, size, value);
}

/* One echo of `text`, whole: returns the length that came back. */
static uint32_t echo_once(const char *text) {
    uint32_t n = (uint32_t)strlen(text), len = 0;
    gpa out = board_alloc(&b, n, 1), in = board_alloc(&b, n, 1);
    const struct driver_buf bufs[] = {{out, n, false}, {in, n, true}};
    uint16_t head, got;
    char back[64] = {0};

    mem_write(&b.mem, out, text, n);
    head = driver_add(&d, ECHO, bufs, 2);
    driver_kick(&d, ECHO);
    if (!driver_used(&d, ECHO, &got, &len))
        return 0;
    assert_int_equal(head, got);
    mem_read(&b.mem, in, back, n);
    assert_string_equal(back, text);
    return len;
}

/* ---- what the guest finds ---- */

static void the_function_is_a_modern_virtio_device(void **state) {
    driver_find(&d, &b, DEVFN);
    assert_int_equal(cfg(PCI_VENDOR, 4), (0x1040u + 42) << 16 | 0x1af4);
    assert_int_equal(cfg(PCI_CLASS_REV, 4), 0x00ff0001);
    assert_int_not_equal(cfg(PCI_SUBSYS_VENDOR, 2), 0);
    assert_true(cfg(PCI_SUBSYS, 2) >= 0x40);
    assert_int_equal(cfg(PCI_INT_PIN, 1), 1);
    assert_int_equal(d.device_len, 10);
    assert_int_equal(driver_read(&d, 0x12, 2), 2);
    assert_int_equal(driver_status(&d), 0);
    assert_true(driver_offered(&d) ==
                (F_TOY | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1));
    driver_write(&d, 0, 4, 2); /* features 64 and up: none */
    assert_int_equal(driver_read(&d, 4, 4), 0);
}

static void common_registers_take_all_widths(void **state) {
    driver_find(&d, &b, DEVFN);
    driver_write(&d, 0x16, 2, 1);
    driver_write(&d, 0x20, 8, 0x1122334455667788);
    assert_true(driver_read(&d, 0x20, 8) == 0x1122334455667788);
    driver_write(&d, 0x24, 4, 0xaabbccdd);
    assert_true(driver_read(&d, 0x20, 8) == 0xaabbccdd55667788);
    driver_write(&d, 0x22, 1, 0x99);
    assert_int_equal(driver_read(&d, 0x20, 4), 0x55997788);
    assert_int_equal(driver_read(&d, 0x23, 1), 0x55);
    assert_int_equal(driver_read(&d, 0x26, 2), 0xaabb);
    driver_write(&d, 0x16, 4, 8 << 16 | 1); /* queue select and size at once */
    assert_int_equal(driver_read(&d, 0x18, 2), 8);
    assert_int_equal(driver_read(&d, 0x16, 4), 8 << 16 | 1);
    assert_true(driver_read(&d, 0x34, 8) == 0); /* over the end */
    driver_write(&d, 0x34, 8, ~0ull);
    assert_int_equal(driver_read(&d, 0x34, 4), 0xffffffff);
    driver_write(&d, 0x800, 4, 1); /* beyond */
    assert_int_equal(driver_read(&d, 0x800, 4), 0);
}

static void an_absent_queue_has_size_0_and_takes_nothing(void **state) {
    driver_find(&d, &b, DEVFN);
    for (unsigned i = 2; i < 0x10000; i = i * 2 + 1) {
        driver_write(&d, 0x16, 2, i);
        assert_int_equal(driver_read(&d, 0x18, 2), 0);
        driver_write(&d, 0x18, 2, 8);
        driver_write(&d, 0x20, 4, 0x1000);
        driver_write(&d, 0x1c, 2, 1);
        assert_int_equal(driver_read(&d, 0x18, 2), 0);
        assert_int_equal(driver_read(&d, 0x1c, 2), 0);
    }
    io_write(&b.mmio, d.notify + 4 * 2, 2, 2);
    io_write(&b.mmio, d.notify + 0xffc, 4, 2);
    assert_int_equal(t->notified[0] + t->notified[1], 0);
}

static void only_offered_queue_sizes_are_taken(void **state) {
    const uint16_t bad[] = {0, 3, 12, 32, 0x8000, 0xffff};

    driver_find(&d, &b, DEVFN);
    driver_write(&d, 0x16, 2, 0);
    assert_int_equal(driver_read(&d, 0x18, 2), 16);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        driver_write(&d, 0x18, 2, bad[i]);
        assert_int_equal(driver_read(&d, 0x18, 2), 16);
    }
    driver_write(&d, 0x18, 2, 4);
    assert_int_equal(driver_read(&d, 0x18, 2), 4);
}

static void device_configuration_is_read_and_written_in_bounds(void **state) {
    driver_find(&d, &b, DEVFN);
    assert_int_equal(driver_config(&d, 0, 4), 0xa3a2a1a0);
    assert_int_equal(driver_config(&d, 9, 1), 0xa9);
    assert_int_equal(driver_config(&d, 8, 4), 0x0000a9a8);
    assert_true(driver_config(&d, 8, 8) == 0xa9a8);
    assert_int_equal(driver_config(&d, 10, 1), 0);
    assert_int_equal(driver_config(&d, 0xffc, 4), 0);
    driver_config_write(&d, 2, 2, 0x1234);
    assert_int_equal(driver_config(&d, 0, 4), 0x1234a1a0);
    driver_config_write(&d, 8, 4, 0); /* over the end: not taken at all */
    driver_config_write(&d, 64, 4, 0);
    assert_int_equal(driver_config(&d, 8, 2), 0xa9a8);
}

/* ---- negotiation ---- */

static void features_that_were_not_offered_are_refused(void **state) {
    driver_find(&d, &b, DEVFN);
    assert_false(driver_negotiate(&d, VIRTIO_F_VERSION_1 | F_OTHER));
    driver_ready(&d);
    assert_int_equal(driver_status(&d) & 12, 0); /* neither FEATURES_OK nor DRIVER_OK */
    assert_false(driver_negotiate(&d, F_TOY));   /* the legacy interface is not offered */
    assert_true(driver_negotiate(&d, VIRTIO_F_VERSION_1 | F_TOY));
    assert_true(virtio_has(&t->virtio, F_TOY));
    assert_false(virtio_has(&t->virtio, VIRTIO_F_EVENT_IDX));
}

static void features_are_fixed_after_features_ok(void **state) {
    driver_find(&d, &b, DEVFN);
    assert_true(driver_negotiate(&d, VIRTIO_F_VERSION_1));
    driver_write(&d, 8, 4, 0);
    driver_write(&d, 12, 4, F_TOY);
    assert_false(virtio_has(&t->virtio, F_TOY));
    assert_int_equal(driver_read(&d, 12, 4), 0);
}

static void status_bits_stay_until_reset(void **state) {
    start(0, false);
    driver_write(&d, 0x14, 1, 1);
    assert_int_equal(driver_status(&d), 15);
    driver_write(&d, 0x14, 1, NEEDS_RESET); /* the device's bit, not the driver's */
    assert_int_equal(driver_status(&d), 15);
    driver_write(&d, 0x14, 1, 0);
    assert_int_equal(driver_status(&d), 0);
    assert_int_equal(t->last_old, 15);
    assert_int_equal(t->last_now, 0);
    driver_write(&d, 0x16, 2, 0);
    assert_int_equal(driver_read(&d, 0x1c, 2), 0);
    assert_true(driver_read(&d, 0x20, 8) == 0);
}

static void a_reset_by_status_leaves_pci_alone(void **state) {
    start(0, true);
    driver_write(&d, 0x14, 1, 0);
    assert_int_equal(cfg(PCI_COMMAND, 2), PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
    assert_int_equal(cfg(d.msix_cap + 2, 2) & 0x8000, 0x8000);
    assert_int_equal(io_read(&b.mmio, d.msix_table + 8, 4), DRIVER_VECTOR_BASE);
    assert_int_equal(driver_read(&d, 0x10, 2), 0xffff);
    device_reset(&t->virtio.pci.dev);
    assert_int_equal(cfg(PCI_COMMAND, 2), 0);
    assert_int_equal(cfg(d.msix_cap + 2, 2) & 0x8000, 0);
}

static void a_queue_is_fixed_once_it_is_enabled(void **state) {
    start(0, false);
    driver_write(&d, 0x16, 2, 0);
    driver_write(&d, 0x18, 2, 4);
    driver_write(&d, 0x20, 4, 0);
    driver_write(&d, 0x1c, 2, 0);
    assert_int_equal(driver_read(&d, 0x18, 2), 16);
    assert_int_equal(driver_read(&d, 0x20, 4), d.q[0].desc);
    assert_int_equal(driver_read(&d, 0x1c, 2), 1);
    assert_int_equal(echo_once("still there"), 11);
}

/* ---- requests ---- */

static void a_chain_comes_back_with_its_answer(void **state) {
    start(0, false);
    for (unsigned i = 0; i < 40; i++) /* more than twice around the ring */
        assert_int_equal(echo_once("hello"), 5);
    assert_int_equal(t->taken, 40);
}

static void indexes_wrap_at_65536(void **state) {
    uint16_t head;
    uint32_t len;

    start(VIRTIO_F_EVENT_IDX, true);
    for (unsigned i = 0; i < 70000; i++) {
        const struct driver_buf buf = {0x8000, 4, true};

        driver_add(&d, ECHO, &buf, 1);
        driver_kick(&d, ECHO);
        assert_true(driver_used(&d, ECHO, &head, &len));
    }
    assert_int_equal(t->taken, 70000);
    assert_int_equal(driver_status(&d), 15);
}

static void scattered_buffers_are_joined(void **state) {
    const struct driver_buf bufs[] = {
        {0x8000, 3, false}, {0x9000, 5, false}, {0xa000, 1, true}, {0xb000, 6, true}};
    char back[8] = {0};
    uint16_t head;
    uint32_t len;

    start(VIRTIO_F_INDIRECT_DESC, false);
    mem_write(&b.mem, 0x8000, "abc", 3);
    mem_write(&b.mem, 0x9000, "defgh", 5);
    for (unsigned i = 0; i < 2; i++) {
        if (i)
            driver_add_indirect(&d, ECHO, bufs, 4);
        else
            driver_add(&d, ECHO, bufs, 4);
        driver_kick(&d, ECHO);
        assert_true(driver_used(&d, ECHO, &head, &len));
        assert_int_equal(len, 7);
        mem_read(&b.mem, 0xa000, back, 1);
        mem_read(&b.mem, 0xb000, back + 1, 6);
        assert_string_equal(back, "abcdefg");
        mem_write(&b.mem, 0xb000, "xxxxxx", 6);
    }
}

static void an_indirect_table_may_end_a_direct_chain(void **state) {
    gpa inner = board_alloc(&b, 32, 16);
    char back[6] = {0};
    uint16_t head;
    uint32_t len;

    start(VIRTIO_F_INDIRECT_DESC, false);
    mem_write(&b.mem, 0x8000, "ab", 2);
    mem_write(&b.mem, 0x9000, "cde", 3);
    driver_desc(&d, inner, 0, 0x9000, 3, NEXT, 1);
    driver_desc(&d, inner, 1, 0xa000, 5, WRITE, 0);
    driver_desc(&d, d.q[0].desc, 7, 0x8000, 2, NEXT, 3);
    driver_desc(&d, d.q[0].desc, 3, inner, 32, INDIRECT | WRITE, 0); /* WRITE is to be ignored */
    driver_avail(&d, ECHO, 7);
    driver_kick(&d, ECHO);
    assert_true(driver_used(&d, ECHO, &head, &len));
    assert_int_equal(head, 7);
    mem_read(&b.mem, 0xa000, back, 5);
    assert_string_equal(back, "abcde");
}

static void a_buffer_may_span_two_ranges_of_memory(void **state) {
    const gpa edge = 4 << 20;
    const struct driver_buf bufs[] = {{edge - 4, 8, false}, {edge - 2, 8, true}};
    char back[9] = {0};
    uint16_t head;
    uint32_t len;

    assert_int_equal(mem_add(&b.mem, edge, 0x10000, false, NULL), 0);
    start(0, false);
    mem_write(&b.mem, edge - 4, "12345678", 8);
    driver_add(&d, ECHO, bufs, 2);
    driver_kick(&d, ECHO);
    assert_true(driver_used(&d, ECHO, &head, &len));
    mem_read(&b.mem, edge - 2, back, 8);
    assert_string_equal(back, "12345678");
}

static void nothing_is_taken_before_driver_ok_or_without_bus_mastering(void **state) {
    const struct driver_buf buf = {0x8000, 4, true};

    driver_find(&d, &b, DEVFN);
    assert_true(driver_negotiate(&d, VIRTIO_F_VERSION_1));
    driver_queue(&d, ECHO, 0);
    driver_add(&d, ECHO, &buf, 1);
    driver_kick(&d, ECHO);
    assert_int_equal(t->notified[ECHO], 0);
    driver_ready(&d);
    cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEM);
    driver_kick(&d, ECHO);
    assert_int_equal(t->taken, 0);
    cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
    clock_step(b.clock, 1000000); /* the kick is made up for */
    assert_int_equal(t->taken, 1);
    driver_kick(&d, KEEP); /* not enabled */
    assert_int_equal(t->notified[KEEP], 0);
}

static void an_unpopped_chain_comes_again(void **state) {
    const struct driver_buf buf = {0x8000, 4, true};
    struct virtio_chain *c = &t->scratch;
    uint16_t head, first, second;
    uint32_t len;

    start(0, false);
    first = driver_add(&d, KEEP, &buf, 1);
    second = driver_add(&d, KEEP, &buf, 1);
    assert_int_equal(virtio_pop(&t->virtio, KEEP, c), 1);
    assert_int_equal(c->head, first);
    virtio_unpop(&t->virtio, c);
    driver_kick(&d, KEEP);
    assert_int_equal(t->kept_count, 2);
    assert_int_equal(t->kept[0].head, first);
    assert_int_equal(t->kept[1].head, second);
    virtio_push(&t->virtio, &t->kept[1], 0); /* any order */
    virtio_push_later(&t->virtio, &t->kept[0], 0);
    assert_true(driver_used(&d, KEEP, &head, &len));
    assert_int_equal(head, second);
    assert_false(driver_used(&d, KEEP, &head, &len));
}

/* ---- interrupts ---- */

static void without_msix_the_isr_and_the_wire_tell(void **state) {
    start(0, false);
    echo_once("x");
    assert_true(b.intx[3]);
    assert_int_equal(driver_isr(&d), 1);
    assert_false(b.intx[3]);
    assert_int_equal(driver_isr(&d), 0);
    virtio_config_changed(&t->virtio);
    echo_once("x");
    assert_int_equal(driver_isr(&d), 3);
    assert_int_equal(b.msi_count, 0);
}

static void with_msix_each_queue_has_its_vector(void **state) {
    start(0, true);
    echo_once("x");
    assert_int_equal(b.msi_count, 1);
    assert_int_equal(b.msi[0].data, DRIVER_VECTOR_BASE + 1);
    virtio_config_changed(&t->virtio);
    assert_int_equal(b.msi_count, 2);
    assert_int_equal(b.msi[1].data, DRIVER_VECTOR_BASE);
    assert_false(b.intx[3]);
    assert_int_equal(driver_isr(&d), 2); /* the configuration bit is set all the same */
    assert_int_equal(driver_read(&d, 0x15, 1), 1);
}

static void a_vector_that_does_not_exist_reads_back_as_none(void **state) {
    start(0, true);
    driver_write(&d, 0x10, 2, 3); /* two queues: 3 vectors */
    assert_int_equal(driver_read(&d, 0x10, 2), 0xffff);
    driver_write(&d, 0x16, 2, 0);
    driver_write(&d, 0x1a, 2, 77);
    assert_int_equal(driver_read(&d, 0x1a, 2), 0xffff);
    echo_once("x");
    virtio_config_changed(&t->virtio);
    assert_int_equal(b.msi_count, 0);
    driver_write(&d, 0x1a, 2, 2); /* vectors may change while the queue runs */
    echo_once("x");
    assert_int_equal(b.msi[0].data, DRIVER_VECTOR_BASE + 2);
}

static void the_no_interrupt_flag_is_obeyed(void **state) {
    start(0, true);
    board_store16(&b, d.q[0].avail, 1);
    echo_once("x");
    assert_int_equal(b.msi_count, 0);
    board_store16(&b, d.q[0].avail, 0);
    virtio_interrupt(&t->virtio, ECHO); /* nothing new since */
    assert_int_equal(b.msi_count, 0);
    echo_once("x");
    assert_int_equal(b.msi_count, 1);
    driver_kick(&d, ECHO); /* an empty kick answers nothing */
    assert_int_equal(b.msi_count, 1);
}

/* Against a plain model: an interrupt is due when the index the driver waits for was passed. */
static void event_indexes_suppress_interrupts_exactly(void **state) {
    const struct driver_buf buf = {0x8000, 4, true};
    struct rng rng = rng_seed(1);
    uint16_t used = 0;

    start(VIRTIO_F_EVENT_IDX, true);
    for (unsigned round = 0; round < 20000; round++) {
        unsigned n = 1 + (unsigned)rng_below(&rng, 15), before = b.msi_count;
        uint16_t event = (uint16_t)(used + rng_below(&rng, 24) - 4), head;
        bool due = false;
        uint32_t len;

        board_store16(&b, d.q[0].avail + 4 + 2 * 16, event);
        for (unsigned i = 0; i < n; i++)
            driver_add(&d, ECHO, &buf, 1);
        driver_kick(&d, ECHO);
        for (unsigned i = 0; i < n; i++)
            due |= used++ == event;
        assert_int_equal(b.msi_count - before, due);
        while (driver_used(&d, ECHO, &head, &len))
            ;
    }
}

static void kicks_are_asked_for_when_a_queue_runs_empty(void **state) {
    start(VIRTIO_F_EVENT_IDX, true);
    for (unsigned i = 1; i < 20; i++) {
        echo_once("x");
        assert_int_equal(board_load16(&b, d.q[0].used + 4 + 8 * 16), i);
    }
}

static void kicks_can_be_switched_off_and_on(void **state) {
    start(0, true);
    t->quiet = true;
    echo_once("x");
    assert_int_equal(board_load16(&b, d.q[0].used), 0); /* on again at the end */
    assert_false(virtio_want_kick(&t->virtio, ECHO, false));
    assert_int_equal(board_load16(&b, d.q[0].used), 1);
    driver_avail(&d, ECHO, 0);
    assert_true(virtio_want_kick(&t->virtio, ECHO, true)); /* came meanwhile */
    assert_int_equal(board_load16(&b, d.q[0].used), 0);
}

static void kicks_can_be_switched_off_with_event_indexes_too(void **state) {
    const struct driver_buf buf = {0x8000, 4, true};
    gpa event;

    start(VIRTIO_F_EVENT_IDX, true);
    event = d.q[KEEP].used + 4 + 8 * 16;
    virtio_want_kick(&t->virtio, KEEP, false);
    for (unsigned i = 0; i < 3; i++)
        driver_add(&d, KEEP, &buf, 1);
    driver_kick(&d, KEEP);
    assert_int_equal(t->kept_count, 3);
    assert_int_equal(board_load16(&b, event), 0); /* empty, but we said that we do not want them */
    assert_false(virtio_want_kick(&t->virtio, KEEP, true));
    assert_int_equal(board_load16(&b, event), 3);
}

/* ---- bounded work, resets ---- */

static void a_driver_that_refills_cannot_hold_the_lock(void **state) {
    const struct driver_buf buf = {0x8000, 4, true};

    start(0, false);
    t->refill = t->quiet = true;
    driver_add(&d, ECHO, &buf, 1);
    driver_kick(&d, ECHO);
    assert_int_equal(t->taken, 16); /* the queue's size, not for ever */
    assert_int_equal(t->notified[ECHO], 1);
    clock_step(b.clock, 10000);
    assert_int_equal(t->notified[ECHO], 2);
    assert_int_equal(t->taken, 32);
    t->refill = false;
    clock_step(b.clock, 1000000);
    assert_int_equal(t->taken, 33); /* the last refill, and then quiet */
    assert_int_equal(t->notified[ECHO], 3);
}

static void completions_of_an_earlier_life_are_dropped(void **state) {
    const struct driver_buf buf = {0x8000, 4, true};
    uint16_t head;
    uint32_t len;

    start(0, true);
    driver_add(&d, KEEP, &buf, 1);
    driver_kick(&d, KEEP);
    assert_int_equal(t->kept_count, 1);
    start(0, true); /* resets on the way */
    virtio_push(&t->virtio, &t->kept[0], 4);
    virtio_interrupt(&t->virtio, KEEP);
    virtio_unpop(&t->virtio, &t->kept[0]);
    assert_false(driver_used(&d, KEEP, &head, &len));
    assert_int_equal(b.msi_count, 0);
    t->kept_count = 0;
    driver_add(&d, KEEP, &buf, 1);
    driver_kick(&d, KEEP);
    assert_int_equal(t->kept_count, 1);
    device_reset(&t->virtio.pci.dev);
    virtio_push(&t->virtio, &t->kept[0], 4);
    assert_int_equal(t->last_now, 0);
}

static void pending_work_ends_with_a_reset(void **state) {
    start(0, false);
    virtio_again(&t->virtio, ECHO);
    driver_write(&d, 0x14, 1, 0);
    clock_step(b.clock, 1000000);
    assert_int_equal(t->notified[ECHO], 0);
}

/* ---- broken rings ---- */

static void put_desc(unsigned i, gpa addr, uint32_t len, uint16_t flags, uint16_t next) {
    driver_desc(&d, d.q[0].desc, i, addr, len, flags, next);
}

/* What lies where a bad ring points is good, so that only the pointing itself is wrong. */
static void put_good(void) {
    for (unsigned i = 0; i <= 16; i++)
        put_desc(i, 0x8000, 4, 0, 0);
}

static void bad_index(void) { driver_avail(&d, ECHO, 16); }

static void bad_next(void) {
    put_desc(0, 0x8000, 4, NEXT, 16);
    driver_avail(&d, ECHO, 0);
}

static void bad_loop(void) {
    put_desc(0, 0x8000, 4, NEXT, 1);
    put_desc(1, 0x8000, 4, NEXT, 0);
    driver_avail(&d, ECHO, 0);
}

static void bad_zero_length(void) {
    put_desc(0, 0x8000, 0, 0, 0);
    driver_avail(&d, ECHO, 0);
}

static void bad_order(void) {
    put_desc(0, 0x8000, 4, NEXT | WRITE, 1);
    put_desc(1, 0x8000, 4, 0, 0);
    driver_avail(&d, ECHO, 0);
}

static void bad_address(void) {
    put_desc(0, 0x80000000, 4, 0, 0);
    driver_avail(&d, ECHO, 0);
}

static void bad_end(void) {
    put_desc(0, (4 << 20) - 4, 5, 0, 0);
    driver_avail(&d, ECHO, 0);
}

static void bad_wrap(void) {
    put_desc(0, 0xfffffffffffffff0, 0x20, 0, 0);
    driver_avail(&d, ECHO, 0);
}

static void bad_long(void) {
    put_desc(0, 0x1000, 0xffffffff, WRITE, 0);
    driver_avail(&d, ECHO, 0);
}

static void bad_jump(void) { board_store16(&b, d.q[0].avail + 2, 17); }

static void bad_backwards(void) { board_store16(&b, d.q[0].avail + 2, 0xffff); }

static void put_indirect(gpa table, uint32_t len, uint16_t flags) {
    put_desc(0, table, len, INDIRECT | flags, 0);
    driver_avail(&d, ECHO, 0);
}

static gpa inner(gpa addr, uint32_t len, uint16_t flags, uint16_t next) {
    gpa at = board_alloc(&b, 48, 16);

    driver_desc(&d, at, 0, addr, len, flags, next);
    driver_desc(&d, at, 1, 0x8000, 4, 0, 0);
    driver_desc(&d, at, 2, 0x8000, 4, 0, 0);
    driver_desc(&d, 0x9000, 0, 0x8000, 4, 0, 0);
    return at;
}

static void bad_nested(void) { put_indirect(inner(0x9000, 16, INDIRECT, 0), 16, 0); }
static void bad_indirect_next(void) { put_indirect(inner(0x9000, 4, 0, 0), 16, NEXT); }
static void bad_indirect_empty(void) { put_indirect(inner(0x9000, 4, 0, 0), 0, 0); }
static void bad_indirect_odd(void) { put_indirect(inner(0x9000, 4, 0, 0), 24, 0); }
static void bad_indirect_place(void) { put_indirect(0x7fff0000, 32, 0); }
static void bad_indirect_end(void) { put_indirect((4 << 20) - 16, 32, 0); }
static void bad_indirect_index(void) { put_indirect(inner(0x9000, 4, NEXT, 2), 32, 0); }
static void bad_indirect_loop(void) { put_indirect(inner(0x9000, 4, NEXT, 0), 32, 0); }

static void bad_too_long(void) {
    gpa table = board_alloc(&b, 16 * (VIRTIO_CHAIN_MAX + 1), 16);

    for (unsigned i = 0; i <= VIRTIO_CHAIN_MAX; i++)
        driver_desc(&d, table, i, 0x8000, 1, i < VIRTIO_CHAIN_MAX ? NEXT : 0, (uint16_t)(i + 1));
    put_indirect(table, 16 * (VIRTIO_CHAIN_MAX + 1), 0);
}

static const struct {
    void (*put)(void);
    const char *what;
} bad_rings[] = {
    {bad_index, "head out of range"},
    {bad_next, "next out of range"},
    {bad_loop, "loop"},
    {bad_zero_length, "length 0"},
    {bad_order, "readable after writable"},
    {bad_address, "address outside of RAM"},
    {bad_end, "end outside of RAM"},
    {bad_wrap, "address wraps"},
    {bad_long, "4 GiB buffer"},
    {bad_jump, "available index too far on"},
    {bad_backwards, "available index goes back"},
    {bad_nested, "indirect in indirect"},
    {bad_indirect_next, "indirect with next"},
    {bad_indirect_empty, "indirect of length 0"},
    {bad_indirect_odd, "indirect length not a multiple of 16"},
    {bad_indirect_place, "indirect table outside of RAM"},
    {bad_indirect_end, "indirect table ends outside of RAM"},
    {bad_indirect_index, "indirect next out of range"},
    {bad_indirect_loop, "loop in indirect table"},
    {bad_too_long, "chain too long"},
};

static void a_broken_ring_asks_for_a_reset_and_nothing_worse(void **state) {
    for (unsigned i = 0; i < sizeof(bad_rings) / sizeof(bad_rings[0]); i++) {
        unsigned before;

        start(VIRTIO_F_INDIRECT_DESC, true);
        before = b.msi_count;
        put_good();
        bad_rings[i].put();
        t->taken = 0;
        driver_kick(&d, ECHO);
        if (t->taken || driver_status(&d) != (15 | NEEDS_RESET))
            fail_msg("%s is not noticed", bad_rings[i].what);
        assert_int_equal(b.msi_count, before + 1); /* a configuration change, once */
        assert_int_equal(b.msi[before].data, DRIVER_VECTOR_BASE);
        driver_kick(&d, ECHO);
        assert_int_equal(b.msi_count, before + 1);
        start(0, true); /* and a reset heals it */
        assert_int_equal(echo_once("well again"), 10);
        driver_write(&d, 0x14, 1, 0);
    }
}

static void the_longest_chain_is_taken(void **state) {
    gpa table = board_alloc(&b, 16 * VIRTIO_CHAIN_MAX, 16);
    uint16_t head;
    uint32_t len;

    start(VIRTIO_F_INDIRECT_DESC, true);
    for (unsigned i = 0; i < VIRTIO_CHAIN_MAX; i++)
        driver_desc(&d, table, i, 0x8000 + i, 1, i + 1 < VIRTIO_CHAIN_MAX ? NEXT : 0,
                    (uint16_t)(i + 1));
    put_indirect(table, 16 * VIRTIO_CHAIN_MAX, 0);
    driver_kick(&d, ECHO);
    assert_true(driver_used(&d, ECHO, &head, &len));
}

static void indirect_descriptors_need_their_feature(void **state) {
    start(0, true);
    put_indirect(inner(0x9000, 4, 0, 0), 16, 0);
    driver_kick(&d, ECHO);
    assert_int_equal(driver_status(&d), 15 | NEEDS_RESET);
}

static void try_ring_addresses(gpa desc, gpa avail, gpa used) {
    driver_find(&d, &b, DEVFN);
    assert_true(driver_negotiate(&d, VIRTIO_F_VERSION_1));
    driver_write(&d, 0x16, 2, 0);
    driver_write(&d, 0x20, 8, desc);
    driver_write(&d, 0x28, 8, avail);
    driver_write(&d, 0x30, 8, used);
    driver_write(&d, 0x1c, 2, 1);
    driver_ready(&d);
    io_write(&b.mmio, d.notify, 2, 0);
    if (driver_status(&d) != (15 | NEEDS_RESET))
        fail_msg("rings at %lx %lx %lx are not refused", desc, avail, used);
}

static void rings_outside_of_ram_or_misaligned_are_refused(void **state) {
    const gpa end = 4 << 20;

    try_ring_addresses(end, 0x8000, 0x9000);
    try_ring_addresses(end - 240, 0x8000, 0x9000);
    try_ring_addresses(0xfffffffffffffff0, 0x8000, 0x9000);
    try_ring_addresses(0x7000, end - 36, 0x9000);
    try_ring_addresses(0x7000, ~1ull, 0x9000);
    try_ring_addresses(0x7000, 0x8000, end - 132);
    try_ring_addresses(0x7000, 0x8000, 1ull << 40);
    try_ring_addresses(0x7008, 0x8000, 0x9000);
    try_ring_addresses(0x7000, 0x8001, 0x9000);
    try_ring_addresses(0x7000, 0x8000, 0x9002);
}

static void the_device_does_not_write_to_rom(void **state) {
    const gpa rom = 8 << 20;

    assert_int_equal(mem_add(&b.mem, rom, 0x1000, true, NULL), 0);
    try_ring_addresses(0x7000, 0x8000, rom);
    start(0, true);
    put_desc(0, rom, 4, WRITE, 0);
    driver_avail(&d, ECHO, 0);
    driver_kick(&d, ECHO);
    assert_int_equal(driver_status(&d), 15 | NEEDS_RESET);
    start(0, true);
    put_desc(0, rom, 4, NEXT, 1); /* reading it is fine */
    put_desc(1, 0x8000, 4, WRITE, 0);
    driver_avail(&d, ECHO, 0);
    driver_kick(&d, ECHO);
    assert_int_equal(driver_status(&d), 15);
}

static gpa written_page;

static void note_written(void *opaque, gpa page) { written_page = page; }

static void cpus_hear_of_code_that_was_overwritten(void **state) {
    const struct driver_buf bufs[] = {{0x8000, 4, false}, {0x200ffe, 4, true}};

    b.mem.code_written = note_written;
    start(0, false);
    for (unsigned page = 0x201; page <= 0x202; page++)
        b.mem.range[0].page_flags[page] |= MEM_PAGE_CODE(0);
    written_page = 0;
    driver_add(&d, ECHO, bufs, 2);
    driver_kick(&d, ECHO);
    assert_int_equal(written_page, 0x201000);
}

/* ---- access through configuration space ---- */

static unsigned find_window(void) {
    for (unsigned at = cfg(PCI_CAP_PTR, 1); at; at = cfg(at + 1, 1))
        if (cfg(at, 1) == PCI_CAP_VENDOR && cfg(at + 3, 1) == 5)
            return at;
    fail_msg("no PCI configuration access capability");
    return 0;
}

static void point_window(unsigned at, unsigned bar, uint32_t offset, uint32_t len) {
    cfg_write(at + 4, 1, bar);
    cfg_write(at + 8, 4, offset);
    cfg_write(at + 12, 4, len);
}

static void registers_can_be_reached_through_configuration_space(void **state) {
    unsigned at = find_window();

    assert_int_equal(cfg(at + 2, 1), 20);
    point_window(at, 0, 0x12, 2); /* number of queues; the BAR needs no address for it */
    assert_int_equal(cfg(at + 16, 2), 2);
    point_window(at, 0, 0x14, 1);
    cfg_write(at + 16, 1, 3);
    assert_int_equal(cfg(at + 16, 1), 3);
    assert_int_equal(t->virtio.status, 3);
    point_window(at, 0, 0x2000, 4);
    assert_int_equal(cfg(at + 16, 4), 0xa3a2a1a0);
    point_window(at, 0, 0x4000, 4); /* the MSI-X table */
    cfg_write(at + 16, 4, 0xfee00000);
    assert_int_equal(t->virtio.pci.msix[0].addr_lo, 0xfee00000);
}

static void a_window_that_makes_no_sense_does_nothing(void **state) {
    const uint32_t bad[][3] = {{1, 0, 4}, {255, 0, 4},        {0, 0x8000, 4}, {0, 0xfffffffc, 4},
                               {0, 0, 0}, {0, 0, 3},          {0, 0, 8},      {0, 1, 2},
                               {0, 2, 4}, {0, 0, 0xffffffff}, {0, 0x7fff, 4}, {5, 0, 1}};
    unsigned at = find_window();

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        point_window(at, bad[i][0], bad[i][1], bad[i][2]);
        cfg_write(at + 16, 4, 0x12345678);
        assert_int_equal(cfg(at + 16, 4), 0x12345678);
    }
}

/* ---- state ---- */

static void a_loaded_device_goes_on_where_the_saved_one_was(void **state) {
    struct buf saved = {0};
    struct error err = {0};
    struct toy *from = t;

    start(VIRTIO_F_EVENT_IDX | F_TOY, true);
    for (unsigned i = 0; i < 21; i++)
        echo_once("before");
    virtio_config_changed(&t->virtio);
    state_save(&toy_state, t, &saved);
    pci_bus_detach(&from->virtio.pci);
    t = toy_new(DEVFN);
    assert_int_equal(state_load(&toy_state, t, saved.data, saved.len, &err), 0);
    t->driver = &d;
    assert_int_equal(driver_status(&d), 15);
    assert_int_equal(driver_read(&d, 0x15, 1), 1);
    assert_true(virtio_has(&t->virtio, F_TOY));
    assert_int_equal(echo_once("after"), 5);
    assert_int_equal(b.msi[b.msi_count - 1].data, DRIVER_VECTOR_BASE + 1);
    t->notified[0] = t->notified[1] = 0;
    clock_step(b.clock, 1000000);
    assert_int_equal(t->notified[0], 1); /* a kick may have been in flight */
    assert_int_equal(t->notified[1], 1);
    device_free(&from->virtio.pci.dev);
    buf_done(&saved);
}

static void expect_refused(struct toy *hostile, const char *why) {
    struct buf saved = {0};

    state_save(&toy_state, hostile, &saved);
    if (state_load(&toy_state, t, saved.data, saved.len, NULL) >= 0)
        fail_msg("a snapshot with %s is accepted", why);
    assert_int_equal(driver_status(&d), 15);
    buf_done(&saved);
    *hostile = *t;
}

static void hostile_snapshots_are_refused(void **state) {
    struct toy *hostile = malloc(sizeof(*hostile));

    start(0, true);
    *hostile = *t;
    hostile->virtio.driver_features |= F_OTHER;
    expect_refused(hostile, "features that are not offered");
    hostile->virtio.driver_features = 0;
    expect_refused(hostile, "the legacy interface");
    hostile->virtio.queue[0].size = 12;
    expect_refused(hostile, "a queue size that is no power of two");
    hostile->virtio.queue[0].size = 0;
    expect_refused(hostile, "a queue of size 0");
    hostile->virtio.queue[1].size = 256;
    expect_refused(hostile, "a queue bigger than offered");
    hostile->virtio.queue[1].size = 0x4000;
    expect_refused(hostile, "a queue bigger than possible");
    hostile->virtio.queue[2].enabled = true;
    expect_refused(hostile, "a queue that does not exist");
    store_le16(hostile->virtio.pci.config + PCI_DEVICE, 0x1041);
    expect_refused(hostile, "another device");
    free(hostile);
}

/* ---- two threads ---- */

/*
 * The driver here, the device's backend on another thread, as with a vCPU and the event loop: kicks
 * and interrupts only where event indexes ask for them. If either side's wish and the other side's
 * progress could miss each other, both would wait for ever.
 */
enum { CHAINS = 40000, WAIT_S = 20 };

static void duo_interrupt(void *opaque, uint64_t addr, uint32_t data) {
    sem_post(&duo.interrupted);
}

static void *duo_backend(void *opaque) {
    while (!sem_wait(&duo.kicked) && !duo.stop) {
        pthread_mutex_lock(&duo.lock);
        while (virtio_pop(&t->virtio, KEEP, &t->scratch) > 0) {
            virtio_push(&t->virtio, &t->scratch, 0);
            virtio_interrupt(&t->virtio, KEEP);
        }
        pthread_mutex_unlock(&duo.lock);
    }
    return NULL;
}

static uint16_t *ring_word(gpa addr) { return mem_ptr(&b.mem, addr, 2, true); }

/* False if none comes. */
static bool duo_wait(void) {
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    return sem_timedwait(&duo.interrupted, &until) == 0;
}

static void no_kick_and_no_interrupt_is_lost_between_threads(void **state) {
    uint16_t *avail, *avail_event, *used, *used_event, idx = 0;
    unsigned kicks = 0;
    bool answered = true;
    pthread_t backend;

    start(VIRTIO_F_EVENT_IDX, true);
    t->elsewhere = true;
    t->virtio.pci.dev.env.msi = (struct msi_sink){duo_interrupt, NULL};
    avail = ring_word(d.q[KEEP].avail + 2);
    used_event = ring_word(d.q[KEEP].avail + 4 + 2 * 16);
    used = ring_word(d.q[KEEP].used + 2);
    avail_event = ring_word(d.q[KEEP].used + 4 + 8 * 16);
    driver_desc(&d, d.q[KEEP].desc, 0, 0x8000, 4, WRITE, 0);
    sem_init(&duo.kicked, 0, 0);
    sem_init(&duo.interrupted, 0, 0);
    assert_int_equal(pthread_create(&backend, NULL, duo_backend, NULL), 0);
    while (answered && idx < CHAINS) {
        uint16_t n = (uint16_t)(1 + idx % 3), old = idx, event;

        idx = (uint16_t)(idx + n); /* every entry of the ring is descriptor 0 */
        __atomic_store_n(used_event, (uint16_t)(idx - 1), __ATOMIC_RELAXED);
        __atomic_store_n(avail, idx, __ATOMIC_RELEASE);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        event = __atomic_load_n(avail_event, __ATOMIC_RELAXED);
        if ((uint16_t)(idx - event - 1) < (uint16_t)(idx - old)) {
            kicks++;
            pthread_mutex_lock(&duo.lock);
            driver_kick(&d, KEEP);
            pthread_mutex_unlock(&duo.lock);
        }
        while (answered && __atomic_load_n(used, __ATOMIC_ACQUIRE) != idx)
            answered = duo_wait();
    }
    duo.stop = true;
    sem_post(&duo.kicked);
    pthread_join(backend, NULL);
    assert_true(answered);
    assert_true(kicks > 0);
}

/* ---- scattered buffers ---- */

static void copies_skip_and_stop_where_they_are_told(void **state) {
    char a[] = "abc", m[] = "defg", z[] = "hi", out[10] = {0};
    const struct iovec iov[] = {{a, 3}, {m, 0}, {m, 4}, {z, 2}};

    assert_int_equal(iov_read(iov, 4, 0, out, 10), 9);
    assert_memory_equal(out, "abcdefghi", 9);
    assert_int_equal(iov_read(iov, 4, 2, out, 3), 3);
    assert_memory_equal(out, "cdefgh", 3);
    assert_int_equal(iov_read(iov, 4, 3, out, 1), 1);
    assert_int_equal(out[0], 'd');
    assert_int_equal(iov_read(iov, 4, 9, out, 1), 0);
    assert_int_equal(iov_read(iov, 4, 100, out, 1), 0);
    assert_int_equal(iov_read(iov, 0, 0, out, 1), 0);
    assert_int_equal(iov_write(iov, 4, 2, "WXYZ", 4), 4);
    assert_string_equal(a, "abW");
    assert_string_equal(m, "XYZg");
    assert_int_equal(iov_write(iov, 4, 8, "12", 2), 1);
    assert_string_equal(z, "h1");
    assert_int_equal(iov_write(iov, 4, 0, NULL, 0), 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(the_function_is_a_modern_virtio_device),
        T(common_registers_take_all_widths),
        T(an_absent_queue_has_size_0_and_takes_nothing),
        T(only_offered_queue_sizes_are_taken),
        T(device_configuration_is_read_and_written_in_bounds),
        T(features_that_were_not_offered_are_refused),
        T(features_are_fixed_after_features_ok),
        T(status_bits_stay_until_reset),
        T(a_reset_by_status_leaves_pci_alone),
        T(a_queue_is_fixed_once_it_is_enabled),
        T(a_chain_comes_back_with_its_answer),
        T(indexes_wrap_at_65536),
        T(scattered_buffers_are_joined),
        T(an_indirect_table_may_end_a_direct_chain),
        T(a_buffer_may_span_two_ranges_of_memory),
        T(nothing_is_taken_before_driver_ok_or_without_bus_mastering),
        T(an_unpopped_chain_comes_again),
        T(without_msix_the_isr_and_the_wire_tell),
        T(with_msix_each_queue_has_its_vector),
        T(a_vector_that_does_not_exist_reads_back_as_none),
        T(the_no_interrupt_flag_is_obeyed),
        T(event_indexes_suppress_interrupts_exactly),
        T(kicks_are_asked_for_when_a_queue_runs_empty),
        T(kicks_can_be_switched_off_and_on),
        T(kicks_can_be_switched_off_with_event_indexes_too),
        T(a_driver_that_refills_cannot_hold_the_lock),
        T(completions_of_an_earlier_life_are_dropped),
        T(pending_work_ends_with_a_reset),
        T(a_broken_ring_asks_for_a_reset_and_nothing_worse),
        T(the_longest_chain_is_taken),
        T(indirect_descriptors_need_their_feature),
        T(rings_outside_of_ram_or_misaligned_are_refused),
        T(the_device_does_not_write_to_rom),
        T(cpus_hear_of_code_that_was_overwritten),
        T(registers_can_be_reached_through_configuration_space),
        T(a_window_that_makes_no_sense_does_nothing),
        T(a_loaded_device_goes_on_where_the_saved_one_was),
        T(hostile_snapshots_are_refused),
        T(no_kick_and_no_interrupt_is_lost_between_threads),
        T(copies_skip_and_stop_where_they_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
