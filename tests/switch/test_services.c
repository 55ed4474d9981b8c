/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of what a network answers and what it lets through: DHCP, DNS, the guard. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "support/test.h"
#include "switch/dhcp.h"
#include "switch/dns.h"
#include "switch/guard.h"
#include "switch/packet.h"

enum { NETWORK = 0x0a4d0000, GATEWAY = NETWORK + 1, SERVER = NETWORK + 2, WEB = NETWORK + 10 };
enum { DB = NETWORK + 11 };

static const uint8_t web_mac[6] = {2, 0, 0, 0, 0, 1}, db_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t stranger[6] = {2, 0, 0, 0, 0, 9};
static struct directory d;

static void add(const char *name, const uint8_t mac[6], uint32_t address) {
    struct member m = {.address = address};
    struct error e = {0};

    strcpy(m.name, name);
    memcpy(m.mac, mac, 6);
    if (directory_add(&d, &m, &e) < 0)
        fail_msg("%s", e.text);
}

static int make(void **state) {
    d = (struct directory){.subnet = {NETWORK, 24}};
    add("web", web_mac, WEB);
    add("db.east", db_mac, DB);
    return 0;
}

static int unmake(void **state) {
    directory_done(&d);
    return 0;
}

/* ------------------------------------------------------------------ the directory */

static int add_error(const char *name, uint8_t mac, uint32_t address) {
    struct member m = {.mac = {2, 0, 0, 0, 0, mac}, .address = address};

    strcpy(m.name, name);
    return directory_add(&d, &m, NULL);
}

static void nobody_is_two(void **state) {
    assert_true(add_error("other", 1, NETWORK + 20) < 0);
    assert_true(add_error("WEB", 5, NETWORK + 20) < 0);
    assert_true(add_error("other", 5, WEB) < 0);
    assert_true(add_error("other", 5, GATEWAY) < 0);
    assert_true(add_error("other", 5, NETWORK + 255) < 0);
    assert_true(add_error("other", 5, NETWORK + 256) < 0);
    assert_int_equal(add_error("other", 5, NETWORK + 254), 0);
}

static void guests_have_addresses_that_are_free_and_mostly_the_same(void **state) {
    struct directory other = {.subnet = {NETWORK, 28}};
    const struct member *m = directory_add_guest(&d, "g", stranger);
    uint32_t first = m->address;
    uint8_t mac[6] = {2, 1, 0, 0, 0, 0};

    assert_true(subnet_usable(&d.subnet, first) && first >= NETWORK + SUBNET_FIRST);
    unmake(NULL);
    make(NULL);
    assert_int_equal(directory_add_guest(&d, "web", stranger)->address, first);
    assert_string_equal(directory_by_mac(&d, stranger)->name, ""); /* that name is taken */
    for (unsigned i = 0; i < 5; i++, mac[5]++)
        assert_non_null(directory_add_guest(&other, "", mac));
    assert_null(directory_add_guest(&other, "", mac)); /* .10 to .14 are all there are */
    directory_done(&other);
}

/* ------------------------------------------------------------------ DHCP */

static uint8_t message[600];
static size_t length;
static struct dhcp_reply answer;

static void begin(uint8_t type, const uint8_t mac[6]) {
    memset(message, 0, sizeof(message));
    message[0] = 1;
    message[1] = 1;
    message[2] = 6;
    store_be32(message + 4, 0x12345678);
    memcpy(message + 28, mac, 6);
    store_be32(message + 236, 0x63825363);
    message[240] = 53;
    message[241] = 1;
    message[242] = type;
    length = 243;
}

static void option(uint8_t code, uint32_t address) {
    message[length] = code;
    message[length + 1] = 4;
    store_be32(message + length + 2, address);
    length += 6;
}

static void ask(const uint8_t mac[6], bool route) {
    uint8_t *exact; /* so that the sanitizer sees the end */

    message[length++] = 255;
    exact = malloc(length);
    memcpy(exact, message, length);
    dhcp_answer(&d, route, mac, exact, length, &answer);
    free(exact);
}

static const uint8_t *find(uint8_t code, uint8_t *ret_n) {
    for (size_t i = 240; i < answer.len && answer.data[i] != 255; i += 2u + answer.data[i + 1])
        if (answer.data[i] == code) {
            *ret_n = answer.data[i + 1];
            return answer.data + i + 2;
        }
    return NULL;
}

static uint32_t number(uint8_t code) {
    uint8_t n = 0;
    const uint8_t *p = find(code, &n);

    return p && n == 4 ? load_be32(p) : p && n == 1 ? *p : 0;
}

static void a_machine_is_offered_its_address_and_told_about_the_network(void **state) {
    uint8_t n = 0;
    const uint8_t *p;

    begin(1, web_mac);
    ask(web_mac, true);
    assert_int_equal(number(53), 2); /* offer */
    assert_int_equal(answer.data[0], 2);
    assert_int_equal(load_be32(answer.data + 4), 0x12345678);
    assert_int_equal(load_be32(answer.data + 16), WEB);
    assert_memory_equal(answer.data + 28, web_mac, 6);
    assert_int_equal(number(54), GATEWAY);
    assert_int_equal(number(1), 0xffffff00);
    assert_int_equal(number(3), GATEWAY);
    assert_int_equal(number(6), SERVER);
    assert_int_equal(number(51), DHCP_LEASE);
    p = find(12, &n);
    assert_memory_equal(p, "web", n);
    p = find(15, &n);
    assert_memory_equal(p, "viv.internal", n);
    p = find(119, &n);
    assert_memory_equal(p, "\3viv\10internal", n); /* with the root's 0 */
    assert_int_equal(n, 14);
    assert_int_equal(answer.to, WEB);
    assert_true(answer.len >= 300);
}

static void an_isolated_network_names_no_way_out(void **state) {
    uint8_t n;

    begin(1, web_mac);
    ask(web_mac, false);
    assert_null(find(3, &n));
    assert_int_equal(number(6), SERVER);
}

static void a_request_is_acknowledged_or_refused(void **state) {
    begin(3, web_mac);
    option(50, WEB);
    option(54, GATEWAY);
    ask(web_mac, true);
    assert_int_equal(number(53), 5);
    assert_int_equal(load_be32(answer.data + 16), WEB);

    begin(3, web_mac); /* renewal */
    store_be32(message + 12, WEB);
    ask(web_mac, true);
    assert_int_equal(number(53), 5);
    assert_int_equal(load_be32(answer.data + 12), WEB);

    begin(3, web_mac);
    option(50, DB);
    ask(web_mac, true);
    assert_int_equal(number(53), 6);
    assert_int_equal(load_be32(answer.data + 16), 0);
    assert_int_equal(answer.to, UINT32_MAX);

    begin(3, web_mac);
    option(50, WEB);
    option(54, DB); /* of another server */
    ask(web_mac, true);
    assert_int_equal(number(53), 6);
}

static void who_wants_a_broadcast_or_only_information_gets_that(void **state) {
    begin(1, web_mac);
    store_be16(message + 10, 0x8000);
    ask(web_mac, true);
    assert_int_equal(answer.to, UINT32_MAX);
    begin(8, web_mac);
    store_be32(message + 12, WEB);
    ask(web_mac, true);
    assert_int_equal(number(53), 5);
    assert_int_equal(load_be32(answer.data + 16), 0);
    assert_int_equal(number(51), 0);
    assert_int_equal(answer.to, WEB);
}

static void strangers_and_rubbish_get_no_answer(void **state) {
    begin(1, stranger);
    ask(stranger, true);
    assert_int_equal(answer.len, 0);
    begin(1, db_mac); /* for another machine */
    ask(web_mac, true);
    assert_int_equal(answer.len, 0);
    for (uint8_t type = 0; type < 20; type++) {
        begin(type, web_mac);
        ask(web_mac, true);
        assert_int_equal(answer.len != 0, type == 1 || type == 3 || type == 8);
    }
    begin(1, web_mac);
    message[236] = 0;
    ask(web_mac, true);
    assert_int_equal(answer.len, 0);
    begin(1, web_mac);
    message[length] = 50; /* longer than what follows */
    message[length + 1] = 200;
    length += 2;
    ask(web_mac, true);
    assert_int_equal(answer.len, 0);
    for (size_t n = 0; n < 243; n++) {
        uint8_t *exact = malloc(n + 1);

        begin(1, web_mac);
        memcpy(exact, message, n);
        dhcp_answer(&d, true, web_mac, exact, n, &answer);
        assert_int_equal(answer.len, 0);
        free(exact);
    }
}

/* ------------------------------------------------------------------ DNS */

static uint8_t out[DNS_MAX];
static size_t out_len;

static enum dns_result query(const char *name, uint16_t type, bool alone) {
    enum dns_result r;
    uint8_t *exact;
    size_t n;

    memset(message, 0, sizeof(message));
    store_be16(message, 0x4242);
    store_be16(message + 2, 0x0100); /* recursion desired */
    store_be16(message + 4, 1);
    n = dns_encode_name(name, message + 12);
    assert_true(n > 0);
    store_be16(message + 12 + n, type);
    store_be16(message + 14 + n, 1);
    length = 16 + n;
    exact = malloc(length);
    memcpy(exact, message, length);
    r = dns_answer(&d, alone, exact, length, out, &out_len);
    free(exact);
    return r;
}

static unsigned code(void) { return load_be16(out + 2) & 15; }
static unsigned answers(void) { return load_be16(out + 6); }

static void assert_address(const char *name, uint32_t address) {
    assert_int_equal(query(name, 1, false), DNS_ANSWER);
    assert_int_equal(code(), 0);
    assert_int_equal(answers(), 1);
    assert_int_equal(load_be16(out), 0x4242);
    assert_int_equal(load_be16(out + 2) & 0x8500, 0x8500); /* answer, authoritative, RD as asked */
    assert_memory_equal(out + 12, message + 12, length - 12);
    assert_int_equal(out_len, length + 16);
    assert_int_equal(load_be32(out + out_len - 4), address);
}

static void machines_are_found_by_name(void **state) {
    assert_address("web", WEB);
    assert_address("WeB.Viv.Internal", WEB);
    assert_address("db.east.viv.internal", DB);
    assert_address("gateway", GATEWAY);
    assert_address("gateway.viv.internal", GATEWAY);
}

static void names_that_are_not_there_are_said_not_to_be(void **state) {
    assert_int_equal(query("nobody", 1, false), DNS_ANSWER);
    assert_int_equal(code(), 3);
    assert_int_equal(query("nobody.viv.internal", 1, false), DNS_ANSWER);
    assert_int_equal(code(), 3);
    assert_int_equal(out_len, length);
    assert_int_equal(query("web.viv.internal", 28, false), DNS_ANSWER); /* no IPv6 here */
    assert_int_equal(code(), 0);
    assert_int_equal(answers(), 0);
    assert_int_equal(query("viv.internal", 6, false), DNS_ANSWER);
    assert_int_equal(code(), 0);
}

static void addresses_lead_back_to_names(void **state) {
    assert_int_equal(query("10.0.77.10.in-addr.arpa", 12, false), DNS_ANSWER);
    assert_int_equal(answers(), 1);
    assert_memory_equal(out + out_len - 18, "\3web\3viv\10internal", 18);
    assert_int_equal(query("99.0.77.10.in-addr.arpa", 12, false), DNS_ANSWER);
    assert_int_equal(code(), 3);
    assert_int_equal(query("8.8.8.8.in-addr.arpa", 12, false), DNS_PASS);
}

static void other_names_are_for_others(void **state) {
    assert_int_equal(query("deb.debian.org", 1, false), DNS_PASS);
    assert_int_equal(query("db.east", 1, false), DNS_PASS); /* a machine is no domain */
    assert_int_equal(query("xviv.internal", 1, false), DNS_PASS);
    assert_int_equal(query("org", 43, false), DNS_PASS);
    assert_int_equal(query("deb.debian.org", 1, true), DNS_ANSWER);
    assert_int_equal(code(), 5);
}

static void rubbish_is_dropped_or_called_that(void **state) {
    uint8_t *exact;

    query("web", 1, false);
    for (size_t n = 0; n < length; n++) {
        exact = malloc(n + 1);
        memcpy(exact, message, n);
        assert_int_equal(dns_answer(&d, false, exact, n, out, &out_len),
                         n < 12 ? DNS_DROP : DNS_ANSWER);
        assert_true(n < 12 || code() == 1);
        free(exact);
    }
    message[2] |= 0x80; /* an answer */
    assert_int_equal(dns_answer(&d, false, message, length, out, &out_len), DNS_DROP);
    query("web", 1, false);
    message[12] = 0xc0; /* a pointer in the question */
    assert_int_equal(dns_answer(&d, false, message, length, out, &out_len), DNS_ANSWER);
    assert_int_equal(code(), 1);
    query("w.b", 1, false);
    message[12] = 3; /* the dot becomes a byte of the label: that is not the name "w.b" */
    message[14] = '.';
    assert_int_equal(dns_answer(&d, false, message, length, out, &out_len), DNS_ANSWER);
}

static void names_become_labels(void **state) {
    char longest[300];
    uint8_t name[DNS_NAME_MAX];

    assert_int_equal(dns_encode_name("a.bc", name), 6);
    assert_memory_equal(name, "\1a\2bc", 6);
    assert_int_equal(dns_encode_name("a..b", name), 0);
    memset(longest, 'a', sizeof(longest));
    longest[64] = 0;
    assert_int_equal(dns_encode_name(longest, name), 0);
    for (unsigned i = 0; i < 299; i++)
        longest[i] = i % 2 ? '.' : 'a';
    longest[299] = 0;
    assert_int_equal(dns_encode_name(longest, name), 0);
}

/* ------------------------------------------------------------------ the guard */

static uint8_t frame[200];

static bool allows(const uint8_t mac[6], size_t len) {
    uint8_t *exact = malloc(len);
    bool r;

    memcpy(exact, frame, len);
    r = guard_allows(&d, directory_by_mac(&d, mac), mac, exact, len);
    free(exact);
    return r;
}

static bool arp(const uint8_t mac[6], const uint8_t sender[6], uint32_t address) {
    memset(frame, 0, sizeof(frame));
    store_be16(frame + 12, PACKET_ARP);
    store_be16(frame + 14, 1);
    store_be16(frame + 16, PACKET_IPV4);
    frame[18] = 6;
    frame[19] = 4;
    memcpy(frame + 22, sender, 6);
    store_be32(frame + 28, address);
    return allows(mac, 60);
}

static bool udp(const uint8_t mac[6], uint32_t src, uint16_t port) {
    struct packet_udp p = {.src = src, .dst = DB, .src_port = port, .dst_port = 68, .len = 10};

    memset(frame, 0, sizeof(frame));
    return allows(mac, packet_make_udp(frame, db_mac, mac, &p));
}

static bool icmpv6(uint8_t type, bool behind_options) {
    size_t at = 54;

    memset(frame, 0, sizeof(frame));
    store_be16(frame + 12, PACKET_IPV6);
    frame[14] = 0x60;
    frame[20] = behind_options ? 0 : 58;
    if (behind_options) {
        frame[at] = 58;
        at += 8;
    }
    frame[at] = type;
    return allows(web_mac, at + 20);
}

static void nobody_speaks_for_another_address(void **state) {
    assert_true(arp(web_mac, web_mac, WEB));
    assert_true(arp(web_mac, web_mac, 0));            /* a probe */
    assert_true(arp(web_mac, web_mac, NETWORK + 77)); /* nobody's */
    assert_false(arp(web_mac, web_mac, GATEWAY));
    assert_false(arp(web_mac, web_mac, SERVER));
    assert_false(arp(web_mac, web_mac, DB));
    assert_false(arp(web_mac, db_mac, WEB));
    assert_true(arp(stranger, stranger, NETWORK + 77));
    assert_false(arp(stranger, stranger, WEB));
    assert_true(udp(web_mac, WEB, 1000));
    assert_true(udp(web_mac, 0, 68)); /* a DHCP client */
    assert_true(udp(web_mac, 0xc0000201, 1000));
    assert_false(udp(web_mac, DB, 1000));
    assert_false(udp(web_mac, GATEWAY, 1000));
}

static void nobody_else_gives_addresses_or_is_a_router(void **state) {
    assert_false(udp(web_mac, WEB, 67));
    assert_false(icmpv6(134, false));
    assert_false(icmpv6(134, true));
    assert_false(icmpv6(137, false));
    assert_true(icmpv6(135, false));
    assert_true(icmpv6(128, true));
}

static void what_is_cut_short_is_looked_at_with_care(void **state) {
    for (size_t n = 1; n < 60; n++) {
        arp(web_mac, web_mac, DB);
        allows(web_mac, n);
        udp(web_mac, DB, 67);
        allows(web_mac, n);
        icmpv6(134, true);
        allows(web_mac, n);
    }
}

static void datagrams_that_are_made_can_be_read(void **state) {
    struct packet_udp p = {.src = GATEWAY, .dst = WEB, .src_port = 67, .dst_port = 68, .len = 11};
    struct packet_udp q;
    size_t len;

    memcpy(frame + PACKET_UDP_HEADERS, "hello world", 11);
    len = packet_make_udp(frame, web_mac, db_mac, &p);
    assert_int_equal(len, PACKET_UDP_HEADERS + 11);
    assert_true(packet_udp(frame, len, &q));
    assert_int_equal(q.src, GATEWAY);
    assert_int_equal(q.dst, WEB);
    assert_int_equal(q.src_port, 67);
    assert_int_equal(q.dst_port, 68);
    assert_int_equal(q.len, 11);
    assert_memory_equal(q.data, "hello world", 11);
    assert_false(packet_udp(frame, len - 1, &q));
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)
        T(nobody_is_two),
        T(guests_have_addresses_that_are_free_and_mostly_the_same),
        T(a_machine_is_offered_its_address_and_told_about_the_network),
        T(an_isolated_network_names_no_way_out),
        T(a_request_is_acknowledged_or_refused),
        T(who_wants_a_broadcast_or_only_information_gets_that),
        T(strangers_and_rubbish_get_no_answer),
        T(machines_are_found_by_name),
        T(names_that_are_not_there_are_said_not_to_be),
        T(addresses_lead_back_to_names),
        T(other_names_are_for_others),
        T(rubbish_is_dropped_or_called_that),
        T(names_become_labels),
        T(nobody_speaks_for_another_address),
        T(nobody_else_gives_addresses_or_is_a_router),
        T(what_is_cut_short_is_looked_at_with_care),
        T(datagrams_that_are_made_can_be_read),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
