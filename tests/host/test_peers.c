/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Buckets that leak, the table of addresses, and what roles may do. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "host/peers.h"
#include "proto/resource.h"
#include "proto/role.h"
#include "support/test.h"

static void a_bucket_gives_its_burst_and_then_its_rate(void **state) {
    const struct bucket_limit l = {2, 5};
    struct bucket b = {0};
    unsigned wait = 0;

    for (int i = 0; i < 5; i++)
        assert_true(bucket_take(&b, &l, 1000, &wait));
    assert_false(bucket_take(&b, &l, 1000, &wait));
    assert_int_equal(wait, 1);
    assert_false(bucket_take(&b, &l, 1400, &wait));
    assert_true(bucket_take(&b, &l, 1500, &wait));
    assert_false(bucket_take(&b, &l, 1500, &wait));
    assert_true(bucket_has(&b, &l, 9000000, &wait));
    for (int i = 0; i < 5; i++)
        assert_true(bucket_take(&b, &l, 9000000, &wait));
    assert_false(bucket_take(&b, &l, 9000000, &wait)); /* it holds no more than the burst */
}

static struct peer *get4(struct peers *p, uint32_t address, int64_t now) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};

    return peers_get(p, (struct sockaddr *)&a, now);
}

static struct peer *get6(struct peers *p, const char *text) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};

    assert_int_equal(inet_pton(AF_INET6, text, &a.sin6_addr), 1);
    return peers_get(p, (struct sockaddr *)&a, 1);
}

static void addresses_are_told_apart_as_their_owners_are(void **state) {
    struct peers *p = peers_new();
    struct peer *a = get6(p, "2001:db8::1"), *v4 = get4(p, 0xc0000201, 1);

    assert_string_equal(a->text, "2001:db8::/64");
    assert_ptr_equal(get6(p, "2001:db8::ffff:2"), a);
    assert_ptr_not_equal(get6(p, "2001:db8:0:1::1"), a);
    assert_string_equal(v4->text, "192.0.2.1");
    assert_ptr_equal(get6(p, "::ffff:192.0.2.1"), v4);
    assert_int_equal(v4->connections, 2);
    peer_put(v4);
    assert_int_equal(v4->connections, 1);
    peers_free(p);
}

static void the_table_is_bounded_and_forgets_who_is_gone(void **state) {
    struct peers *p = peers_new();
    struct peer *stays = get4(p, 1, 0), *last;

    for (uint32_t i = 2; i <= PEERS_MAX; i++)
        peer_put(get4(p, i, i));
    for (uint32_t i = 0; i < 100; i++) /* each takes the place of the oldest one */
        assert_non_null(last = get4(p, 1u << 30 | i, 100000 + i));
    assert_ptr_equal(get4(p, 1, 200000), stays);
    peers_free(p);
    p = peers_new();
    for (uint32_t i = 0; i < PEERS_MAX; i++)
        assert_non_null(get4(p, i, i));
    assert_null(get4(p, PEERS_MAX, 1)); /* all have connections */
    peers_free(p);
}

/* Every operation that there is, and not the table of roles said twice. */
static void a_viewer_changes_nothing_and_an_operator_lets_nobody_in(void **state) {
    for (const struct resource *const *r = resources; *r; r++)
        for (const struct operation *o = (*r)->ops; o->shape != OP_END; o++) {
            bool looks = o->shape == OP_LIST || o->shape == OP_GET;
            bool lets_in = !strcmp((*r)->name, "token") || !strcmp((*r)->name, "portal") ||
                           !strcmp(o->permission, "vm.lend"); /* the host's devices */

            assert_true(role_may(ROLE_ADMIN, o->permission));
            assert_false(role_may(ROLE_NONE, o->permission));
            assert_int_equal(role_may(ROLE_OPERATOR, o->permission), !lets_in);
            if (looks)
                assert_int_equal(role_may(ROLE_VIEWER, o->permission), !lets_in);
            else if (o->shape != OP_LOOK || o->answer == ANSWER_BYTES)
                assert_false(role_may(ROLE_VIEWER, o->permission));
        }
    assert_int_equal(role_find("admin"), ROLE_ADMIN);
    assert_int_equal(role_find("root"), ROLE_NONE);
    assert_int_equal(role_find(""), ROLE_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_gives_its_burst_and_then_its_rate),
        cmocka_unit_test(addresses_are_told_apart_as_their_owners_are),
        cmocka_unit_test(the_table_is_bounded_and_forgets_who_is_gone),
        cmocka_unit_test(a_viewer_changes_nothing_and_an_operator_lets_nobody_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
