/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the cable to a switch: the test is the switch. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/unix_socket.h"
#include "net/guest.h"
#include "net/link.h"
#include "support/test.h"

enum { FRAME = 1000, MANY = 6000 };

static struct loop *loop;
static struct net_port *port;
static char path[64];
static int listener, sw; /* the switch's ends */
static uint8_t frame[NET_FRAME_MAX];

static struct {
    bool full;
    unsigned frames, bursts;
    size_t last_len, longest;
    uint8_t last[NET_FRAME_MAX];
} guest;

static bool receive(void *opaque, const uint8_t *data, size_t len) {
    if (guest.full)
        return false;
    guest.frames++;
    guest.last_len = len;
    guest.longest = len > guest.longest ? len : guest.longest;
    memcpy(guest.last, data, len);
    return true;
}

static void received(void *opaque) { guest.bursts++; }

static void run(void) {
    for (int i = 0; i < 5000 && loop_step(loop, 0); i++)
        ;
}

static void listen_there(void) {
    struct error err = {0};

    listener = unix_socket_listen_packets(path, 0600, "the switch", &err);
    if (listener < 0)
        fail_msg("%s", err.text);
}

/* Takes the next connection; up to ten seconds. */
static void take_connection(void) {
    for (int i = 0; i < 1000; i++) {
        loop_step(loop, 10);
        sw = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (sw >= 0)
            return;
    }
    fail_msg("nobody connected");
}

static void say(const char *text) {
    assert_int_equal(send(sw, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static json_t *hello(void) {
    char text[LINK_HELLO_MAX];
    ssize_t n = recv(sw, text, sizeof(text), 0);
    json_t *v = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;

    assert_non_null(v);
    return v;
}

static void greet(void) {
    take_connection();
    json_decref(hello());
    say("{\"protocol\": 1}");
    run();
}

static int make(void **state) {
    const struct net_link_config c = {
        .path = path, .name = "web", .mac = {2, 0, 0, 0, 0, 7}, .mtu = 9000};
    struct error err = {0};
    static unsigned number;

    snprintf(path, sizeof(path), "/tmp/viv-link-%d-%u", (int)getpid(), number++);
    memset(&guest, 0, sizeof(guest));
    sw = -1;
    loop = loop_new(NULL, &err);
    port = net_link_open(loop, &c, &err); /* the switch is not there yet */
    if (!port)
        return -1;
    port->receive = receive;
    port->received = received;
    port->guest_mtu = port->mtu;
    listen_there();
    return 0;
}

static int unmake(void **state) {
    net_close(port);
    loop_free(loop);
    if (sw >= 0)
        close(sw);
    close(listener);
    unlink(path);
    return 0;
}

static void send_frame(uint8_t mark, size_t len) {
    struct iovec iov = {frame, len};

    frame[0] = mark;
    net_send(port, &iov, 1);
    net_flush(port);
}

static bool switch_reads(uint8_t mark, ssize_t len) {
    static uint8_t got[NET_FRAME_MAX];
    ssize_t n = recv(sw, got, sizeof(got), MSG_DONTWAIT);

    return n == len && got[0] == mark;
}

/* ------------------------------------------------------------------ tests */

static void a_port_says_who_it_is_and_is_up_when_it_is_welcome(void **state) {
    const char *why;
    json_t *v;

    take_connection();
    v = hello();
    assert_string_equal(json_string_value(json_object_get(v, "port")), "web");
    assert_string_equal(json_string_value(json_object_get(v, "mac")), "02:00:00:00:00:07");
    assert_int_equal(json_integer_value(json_object_get(v, "protocol")), LINK_PROTOCOL);
    json_decref(v);
    assert_false(net_link_up(port, &why));
    say("{\"protocol\": 1}");
    run();
    assert_true(net_link_up(port, &why));
}

static void frames_go_both_ways_whole(void **state) {
    greet();
    send_frame(1, 60);
    send_frame(2, 9014);
    assert_true(switch_reads(1, 60));
    assert_true(switch_reads(2, 9014));
    memset(frame, 0xff, 6);
    frame[FRAME - 1] = 42;
    send(sw, frame, FRAME, 0);
    run();
    assert_int_equal(guest.frames, 1);
    assert_int_equal(guest.last_len, FRAME);
    assert_int_equal(guest.last[FRAME - 1], 42);
    assert_int_equal(guest.bursts, 1);
}

static void what_is_sent_while_there_is_no_switch_goes_out_when_there_is_one(void **state) {
    send_frame(1, 100);
    send_frame(2, 200);
    greet();
    assert_true(switch_reads(1, 100));
    assert_true(switch_reads(2, 200));
}

static void a_switch_that_went_and_came_again_is_found(void **state) {
    const char *why;

    greet();
    close(sw);
    close(listener);
    run();
    assert_false(net_link_up(port, &why));
    assert_non_null(strstr(why, "ended"));
    send_frame(3, 300);
    unlink(path);
    listen_there();
    greet();
    assert_true(net_link_up(port, &why));
    assert_true(switch_reads(3, 300));
}

static void a_refusal_is_told_and_tried_again(void **state) {
    const char *why;

    take_connection();
    json_decref(hello());
    say("{\"error\": \"you are not on the list\"}");
    run();
    assert_false(net_link_up(port, &why));
    assert_string_equal(why, "you are not on the list");
    close(sw);
    greet();
    assert_true(net_link_up(port, &why));
}

static void what_is_no_answer_ends_the_connection(void **state) {
    static const char *const words[] = {"x", "{}", "[1]", "{\"protocol\": 2}",
                                        "{\"protocol\": \"1\"}"};
    const char *why;

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        take_connection();
        json_decref(hello());
        say(words[i]);
        run();
        assert_false(net_link_up(port, &why));
        close(sw);
    }
    greet();
    assert_true(net_link_up(port, &why));
}

static void a_guest_that_takes_nothing_holds_the_switch_up_and_misses_nothing(void **state) {
    unsigned sent = 0;

    greet();
    guest.full = true;
    while (sent < MANY && send(sw, frame, FRAME, MSG_DONTWAIT) == FRAME)
        sent++;
    run();
    while (sent < MANY && send(sw, frame, FRAME, MSG_DONTWAIT) == FRAME)
        sent++;
    assert_true(sent < MANY); /* the socket is full: nothing of this is ours to keep */
    assert_int_equal(guest.frames, 0);
    guest.full = false;
    net_resume(port);
    run();
    assert_int_equal(guest.frames, sent);
}

static void a_switch_that_takes_nothing_costs_frames_beyond_a_bound(void **state) {
    unsigned arrived = 0;

    greet();
    for (unsigned i = 0; i < MANY; i++)
        send_frame(9, FRAME);
    for (unsigned i = 0; i < MANY; i++) {
        arrived += switch_reads(9, FRAME);
        run();
    }
    assert_in_range(arrived, 1000, MANY - 1);
}

static void large_segments_are_cut_to_what_the_guest_takes(void **state) {
    struct tcp t = {.port = 1000, .peer_port = 80, .mss = 1460};
    static uint8_t data[20000];
    size_t len;

    greet();
    port->guest_mtu = 0; /* a driver that does not say: 1500 */
    len = guest_tcp(frame, &t, TCP_ACK, data, sizeof(data));
    assert_int_equal(send(sw, frame, len, 0), (ssize_t)len);
    run();
    assert_in_range(guest.frames, 14, 15);
    assert_in_range(guest.longest, 1000, 1514);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)
        T(a_port_says_who_it_is_and_is_up_when_it_is_welcome),
        T(frames_go_both_ways_whole),
        T(what_is_sent_while_there_is_no_switch_goes_out_when_there_is_one),
        T(a_switch_that_went_and_came_again_is_found),
        T(a_refusal_is_told_and_tried_again),
        T(what_is_no_answer_ends_the_connection),
        T(a_guest_that_takes_nothing_holds_the_switch_up_and_misses_nothing),
        T(a_switch_that_takes_nothing_costs_frames_beyond_a_bound),
        T(large_segments_are_cut_to_what_the_guest_takes),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
