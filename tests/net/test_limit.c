/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The limit of connections, with a list of sockets that the test writes as libslirp does. */
#include "net/limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "net/guest.h"
#include "support/test.h"

enum { TOTAL = 20, EACH = 8 };

#define OUTSIDE 0x5db8d822u /* 93.184.216.34 */

static struct net_limit *limit;
static char list[4096];
static unsigned lists;
static int64_t now;

static char *tell(void *opaque) {
    lists++;
    return strdup(list);
}

static int setup(void **state) {
    limit = net_limit_new(TOTAL, EACH, GUEST_IP & 0xffffff00, 0xffffff00, tell, NULL);
    strcpy(list, "heading\n");
    lists = 0;
    now = 1000;
    return limit ? 0 : -1;
}

static int teardown(void **state) {
    net_limit_free(limit);
    return 0;
}

/* A frame of machine number n, 0 the first, from its address or another one. */
static bool send_from(unsigned n, uint32_t ip, uint8_t *frame, size_t len) {
    frame[6 + 5] = (uint8_t)n;
    store_be32(frame + 14 + 12, ip);
    return net_limit_allows(limit, frame, len, now);
}

/* What begins there is in the list at once, as in libslirp's. */
static void is_open(uint32_t ip) {
    char line[100];

    snprintf(line, sizeof(line), "  TCP[ESTABLISHED] 9 10.0.2.%u 1000 93.184.216.34 80 0 0\n",
             ip & 255);
    strcat(list, line);
}

static bool connect_from(unsigned n, uint32_t ip, uint16_t port) {
    struct tcp t = {.port = port, .peer_port = 80};
    uint8_t frame[200];
    bool passed = send_from(n, ip, frame, guest_tcp(frame, &t, TCP_SYN, NULL, 0));

    if (passed)
        is_open(ip);
    return passed;
}

static unsigned connect_many(unsigned n, uint32_t ip, uint16_t first, unsigned count) {
    unsigned passed = 0;

    for (unsigned i = 0; i < count; i++)
        passed += connect_from(n, ip, (uint16_t)(first + i));
    return passed;
}

static void a_machine_has_its_share_and_others_have_theirs(void **state) {
    assert_int_equal(connect_many(1, GUEST_IP, 1000, 30), EACH);
    assert_int_equal(connect_many(2, GUEST_IP + 1, 1000, 30), EACH);
    strcpy(list, "heading\n");                                /* all have ended */
    assert_int_equal(connect_many(1, GUEST_IP, 3000, 30), 0); /* which is not seen at once */
    now += 1000;
    assert_int_equal(connect_many(1, GUEST_IP, 3000, 30), EACH);
}

static void what_is_open_is_counted_by_libslirps_list(void **state) {
    assert_int_equal(connect_many(1, GUEST_IP, 1000, 30), EACH);
    strcpy(list,
           "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n"
           "  TCP[HOST_FORWARD]   7               *  8080       10.0.2.15    80     0     0\n"
           "  TCP[ESTABLISHED]    9       10.0.2.15  1000   93.184.216.34    80     0     0\n"
           "  TCP[SYN_SENT]      10       127.0.0.1  8080       10.0.2.15    80     0     0\n"
           "  UDP[236 sec]       11       10.0.2.15  1000        10.0.2.3    53     0     0\n"
           "  ICMP[1 sec]        12       10.0.2.16     -   93.184.216.34     -     0     0\n");
    now += 1000;
    assert_int_equal(connect_many(1, GUEST_IP, 2000, 30), EACH - 3);
}

static void the_list_is_not_counted_for_each_frame_that_is_refused(void **state) {
    connect_many(1, GUEST_IP, 1000, EACH);
    for (unsigned i = 0; i < 1000; i++)
        connect_from(1, GUEST_IP, (uint16_t)(3000 + i));
    assert_in_range(lists, 1, 2);
}

static void what_goes_on_is_not_counted_again(void **state) {
    struct tcp t = {.port = 1000, .peer_port = 80};
    uint8_t frame[200];
    size_t len;

    assert_int_equal(connect_many(1, GUEST_IP, 1000, EACH), EACH);
    assert_true(connect_from(1, GUEST_IP, 1000)); /* the SYN once more */
    len = guest_tcp(frame, &t, TCP_ACK, "x", 1);
    assert_true(send_from(1, GUEST_IP, frame, len));
    for (unsigned i = 0; i < 5; i++) {
        len = guest_udp(frame, OUTSIDE, 5000, 53, "?", 1);
        assert_int_equal(send_from(2, GUEST_IP + 1, frame, len), true);
    }
    is_open(GUEST_IP + 1);
    assert_int_equal(connect_many(2, GUEST_IP + 1, 1000, 30), EACH - 1);
}

static void other_addresses_are_of_no_use_to_a_machine(void **state) {
    unsigned passed = 0;

    for (unsigned i = 0; i < 30; i++) {
        passed += connect_from(1, GUEST_IP + i, 1000);
        now += 1000;
    }
    assert_int_equal(passed, EACH);
}

static void all_together_have_a_limit_as_well(void **state) {
    unsigned passed = 0;

    for (unsigned n = 1; n < 10; n++)
        passed += connect_many(n, GUEST_IP + n, 1000, 5);
    assert_int_equal(passed, TOTAL);
}

static void pings_and_fragments_and_rubbish(void **state) {
    uint8_t frame[200];
    unsigned passed = 0;
    size_t len;

    for (unsigned i = 0; i < 30; i++) {
        len = guest_ping(frame, OUTSIDE, (uint16_t)i);
        if (!send_from(1, GUEST_IP, frame, len))
            continue;
        strcat(list, "  ICMP[1 sec] 9 10.0.2.15 - 93.184.216.34 - 0 0\n");
        passed++;
    }
    assert_int_equal(passed, EACH);
    len = guest_ping(frame, OUTSIDE, 1);
    store_be16(frame + 14 + 6, 100); /* a later fragment begins nothing */
    assert_true(send_from(1, GUEST_IP, frame, len));
    for (size_t n = 0; n < 60; n++) {
        uint8_t *cut = malloc(n ? n : 1); /* of its own, so that reading beyond its end is seen */

        memcpy(cut, frame, n);
        net_limit_allows(limit, cut, n, now);
        free(cut);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_machine_has_its_share_and_others_have_theirs, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_open_is_counted_by_libslirps_list, setup, teardown),
        cmocka_unit_test_setup_teardown(the_list_is_not_counted_for_each_frame_that_is_refused,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_goes_on_is_not_counted_again, setup, teardown),
        cmocka_unit_test_setup_teardown(other_addresses_are_of_no_use_to_a_machine, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(all_together_have_a_limit_as_well, setup, teardown),
        cmocka_unit_test_setup_teardown(pings_and_fragments_and_rubbish, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
