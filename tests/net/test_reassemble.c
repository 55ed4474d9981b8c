/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of putting fragments together: whole datagrams or nothing, whatever order they come in. */
#include "net/reassemble.h"

#include <string.h>

#include "base/bytes.h"
#include "net/guest.h"
#include "support/test.h"

enum { ETH = 14, DATA = 65507 };

static struct reassemble r;
static uint8_t frame[GUEST_FRAME_MAX], data[DATA];
static size_t whole_len; /* of what add returned last */

static int make(void **state) {
    struct rng rng = rng_seed(3);

    r = (struct reassemble){0};
    for (size_t i = 0; i < DATA; i++)
        data[i] = (uint8_t)(rng_next(&rng) >> 16);
    return 0;
}

static int drop(void **state) {
    reassemble_done(&r);
    return 0;
}

static const uint8_t *add(uint16_t id, size_t at, size_t n, bool more) {
    size_t len = guest_ip(frame, PROTO_UDP, GATEWAY_IP, data + at, n);

    store_be16(frame + ETH + 4, id);
    store_be16(frame + ETH + 6, (uint16_t)(at / 8 | (more ? 0x2000 : 0)));
    store_be16(frame + ETH + 10, 0);
    store_be16(frame + ETH + 10, guest_checksum(0, frame + ETH, 20));
    return reassemble_add(&r, frame, len, &whole_len);
}

static void check_whole(const uint8_t *f, size_t n) {
    assert_non_null(f);
    assert_int_equal(whole_len, ETH + 20 + n);
    assert_int_equal(load_be16(f + ETH + 2), 20 + n);
    assert_int_equal(load_be16(f + ETH + 6), 0);
    assert_int_equal(guest_checksum(0, f + ETH, 20), 0);
    assert_memory_equal(f + ETH + 20, data, n);
}

static void what_is_no_fragment_passes_as_it_is(void **state) {
    size_t len = guest_ping(frame, GATEWAY_IP, 1), got;

    assert_ptr_equal(reassemble_add(&r, frame, len, &got), frame);
    assert_int_equal(got, len);
    store_be16(frame + ETH + 6, 0x4000); /* "don't fragment" is no fragment */
    assert_ptr_equal(reassemble_add(&r, frame, len, &got), frame);
    len = guest_arp(frame, GATEWAY_IP);
    assert_ptr_equal(reassemble_add(&r, frame, len, &got), frame);
    assert_ptr_equal(reassemble_add(&r, frame, 5, &got), frame);
}

static void fragments_in_order_become_a_datagram(void **state) {
    for (uint16_t id = 0; id < 20; id++) {
        assert_null(add(id, 0, 1480, true));
        assert_null(add(id, 1480, 1480, true));
        check_whole(add(id, 2960, 777, false), 3737);
    }
}

static void the_largest_datagram_fits_and_a_larger_one_does_not(void **state) {
    const uint8_t *f;
    size_t len, at;

    for (at = 0; at + 1480 < DATA; at += 1480)
        assert_null(add(1, at, 1480, true));
    check_whole(add(1, at, DATA - at, false), DATA);
    for (at = 0; at + 1480 <= 65520; at += 1480) {
        size_t n = guest_ip(frame, PROTO_UDP, GATEWAY_IP, data, 1480);

        store_be16(frame + ETH + 4, 2);
        store_be16(frame + ETH + 6, (uint16_t)(at / 8 | 0x2000));
        store_be16(frame + ETH + 10, 0);
        store_be16(frame + ETH + 10, guest_checksum(0, frame + ETH, 20));
        f = reassemble_add(&r, frame, n, &len);
        assert_null(f);
    }
    assert_true(at + 1480 > 65535 - 20); /* one more would be larger than IP allows */
    store_be16(frame + ETH + 6, (uint16_t)(at / 8));
    store_be16(frame + ETH + 10, 0);
    store_be16(frame + ETH + 10, guest_checksum(0, frame + ETH, 20));
    assert_null(reassemble_add(&r, frame, ETH + 20 + 1480, &len));
}

static void fragments_out_of_order_are_dropped(void **state) {
    assert_null(add(1, 1480, 100, false)); /* the last alone */
    assert_null(add(1, 0, 1480, true));
    assert_null(add(1, 2960, 100, false));  /* a gap */
    assert_null(add(1, 1480, 1480, false)); /* too late: the datagram is gone */
    assert_null(add(1, 0, 1480, true));
    assert_null(add(1, 8, 1480, false)); /* an overlap */
    assert_null(add(1, 0, 1480, true));
    assert_null(add(1, 0, 800, true)); /* begins anew */
    check_whole(add(1, 800, 8, false), 808);
}

static void several_datagrams_grow_side_by_side(void **state) {
    for (uint16_t id = 0; id < REASSEMBLE_SLOTS; id++)
        assert_null(add(id, 0, 800, true));
    for (uint16_t id = 0; id < REASSEMBLE_SLOTS; id++)
        check_whole(add(id, 800, 80, false), 880);
    for (uint16_t id = 0; id <= REASSEMBLE_SLOTS; id++)
        assert_null(add(id, 0, 800, true));
    assert_null(add(0, 800, 80, false)); /* the oldest had to go */
    for (uint16_t id = 1; id <= REASSEMBLE_SLOTS; id++)
        check_whole(add(id, 800, 80, false), 880);
}

static void damaged_fragments_are_dropped(void **state) {
    size_t len;

    for (int i = 0; i < 4; i++) {
        add(9, 0, 800, true);
        switch (i) {
        case 0:
            frame[ETH + 8] ^= 1; /* checksum */
            break;
        case 1:
            store_be16(frame + ETH + 2, 2000); /* longer than the frame */
            break;
        case 2:
            frame[ETH] = 0x44; /* a header of 16 bytes */
            break;
        default:
            store_be16(frame + ETH + 6, 0xa000); /* the bit that must be 0 */
        }
        if (i) {
            store_be16(frame + ETH + 10, 0);
            store_be16(frame + ETH + 10, guest_checksum(0, frame + ETH, 20));
        }
        r.slot[0].len = 0;
        assert_null(reassemble_add(&r, frame, ETH + 20 + 800, &len));
        assert_int_equal(r.slot[0].len, 0);
    }
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(what_is_no_fragment_passes_as_it_is),
        T(fragments_in_order_become_a_datagram),
        T(the_largest_datagram_fits_and_a_larger_one_does_not),
        T(fragments_out_of_order_are_dropped),
        T(several_datagrams_grow_side_by_side),
        T(damaged_fragments_are_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
