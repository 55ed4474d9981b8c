/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the switch: what it does with single frames, and a long random run beside a slow model
 * that knows the rules as sentences and keeps everything in one list.
 */
#include <stdlib.h>
#include <string.h>

#include "support/test.h"
#include "switch/switch.h"

enum { PORTS = 6, FRAME = 60, MACS = 40, STEPS = 200000 };

struct end {                 /* a port, and what it got */
    struct switch_port port; /* first */
    unsigned got;
    bool full;
    uint8_t last[FRAME];
};

static struct switch_core *sw;
static struct end end[PORTS];
static int64_t now;

static bool deliver(struct switch_port *p, const uint8_t *frame, size_t len) {
    struct end *e = (struct end *)p;

    if (e->full)
        return false;
    e->got++;
    memcpy(e->last, frame, len < FRAME ? len : FRAME);
    return true;
}

static void mac_of(uint8_t mac[6], unsigned n) {
    memset(mac, 0, 6);
    mac[0] = 2;
    mac[4] = (uint8_t)(n >> 8);
    mac[5] = (uint8_t)n;
}

static int make(void **state) {
    now = 0;
    memset(end, 0, sizeof(end));
    sw = switch_new();
    for (unsigned i = 0; i < PORTS; i++)
        end[i].port.deliver = deliver;
    return sw ? 0 : -1;
}

static int unmake(void **state) {
    switch_free(sw);
    return 0;
}

static void plug(unsigned i) { assert_int_equal(switch_add(sw, &end[i].port), 0); }

static void plug_owned(unsigned i, unsigned mac) {
    end[i].port.owned = true;
    mac_of(end[i].port.mac, mac);
    plug(i);
}

static void send_bytes(unsigned from, const uint8_t *dst, const uint8_t *src) {
    uint8_t frame[FRAME] = {0};

    for (unsigned i = 0; i < PORTS; i++)
        end[i].got = 0;
    memcpy(frame, dst, 6);
    memcpy(frame + 6, src, 6);
    switch_input(&end[from].port, frame, FRAME, now);
}

static void send_to(unsigned from, unsigned dst, unsigned src) {
    uint8_t d[6], s[6];

    mac_of(d, dst);
    mac_of(s, src);
    send_bytes(from, d, s);
}

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void send_all(unsigned from, unsigned src) {
    uint8_t s[6];

    mac_of(s, src);
    send_bytes(from, everybody, s);
}

/* A bit for each port that got the frame. */
static unsigned got(void) {
    unsigned bits = 0;

    for (unsigned i = 0; i < PORTS; i++) {
        assert_true(end[i].got <= 1);
        bits |= end[i].got << i;
    }
    return bits;
}

/* ------------------------------------------------------------------ single rules */

static void frames_go_where_their_destination_was_seen(void **state) {
    for (unsigned i = 0; i < 4; i++)
        plug(i);
    send_to(0, 2, 1);
    assert_int_equal(got(), 0xe); /* nobody knows 2: all others */
    send_to(1, 1, 2);
    assert_int_equal(got(), 0x1);
    send_to(0, 2, 1);
    assert_int_equal(got(), 0x2);
    send_to(1, 2, 3); /* it is behind the port that it comes from */
    assert_int_equal(got(), 0);
    send_all(3, 4);
    assert_int_equal(got(), 0x7);
    assert_int_equal(end[3].port.counters.frames_in, 1);
    assert_int_equal(end[1].port.counters.frames_out, 3);
    assert_int_equal(end[1].port.counters.bytes_out, 3 * FRAME);
}

static void an_address_that_moves_is_found_at_its_new_place(void **state) {
    for (unsigned i = 0; i < 3; i++)
        plug(i);
    send_all(0, 1);
    send_all(1, 1);
    send_to(2, 1, 9);
    assert_int_equal(got(), 0x2);
}

static void what_was_not_seen_for_a_while_is_forgotten(void **state) {
    for (unsigned i = 0; i < 3; i++)
        plug(i);
    send_all(0, 1);
    now += SWITCH_AGE_MS - 1;
    send_to(1, 1, 2);
    assert_int_equal(got(), 0x1);
    now += 1;
    send_to(1, 1, 2);
    assert_int_equal(got(), 0x5);
}

static void a_port_with_an_address_of_its_own_sends_from_that_one_alone(void **state) {
    plug_owned(0, 1);
    plug_owned(1, 2);
    plug(2);
    send_all(0, 1);
    assert_int_equal(got(), 0x6);
    send_all(0, 2); /* another one's */
    assert_int_equal(got(), 0);
    send_all(0, 77); /* nobody's */
    assert_int_equal(got(), 0);
    assert_int_equal(end[0].port.counters.refused, 2);
    send_to(1, 1, 2);
    assert_int_equal(got(), 0x1);
}

static void nobody_learns_away_what_another_port_owns(void **state) {
    plug_owned(0, 1);
    plug(1);
    plug(2);
    send_all(1, 1);
    assert_int_equal(got(), 0);
    assert_int_equal(end[1].port.counters.refused, 1);
    send_to(2, 1, 9);
    assert_int_equal(got(), 0x1);
    end[3].port.owned = true;
    mac_of(end[3].port.mac, 1);
    assert_true(switch_add(sw, &end[3].port) < 0);
    assert_int_equal(switch_reserve(&end[1].port, (uint8_t[6]){2, 0, 0, 0, 0, 50}), 0);
    send_all(2, 50);
    assert_int_equal(got(), 0);
    send_all(1, 51); /* a reservation binds the others, not the port */
    assert_int_equal(got(), 0x5);
}

static void a_port_with_an_address_hears_nothing_for_strangers(void **state) {
    plug_owned(0, 1);
    plug_owned(1, 2);
    plug(2);
    send_to(0, 99, 1);
    assert_int_equal(got(), 0x4);
}

static void a_port_with_reserved_addresses_gets_frames_for_those_alone(void **state) {
    plug(0);
    plug(1);
    end[2].port.reserved = true;
    plug(2);
    assert_int_equal(switch_reserve(&end[2].port, (uint8_t[6]){2, 0, 0, 0, 0, 50}), 0);
    send_to(0, 99, 1);
    assert_int_equal(got(), 0x2);
    send_to(0, 50, 1);
    assert_int_equal(got(), 0x4);
    send_all(0, 1);
    assert_int_equal(got(), 0x6);
}

static void an_owned_address_does_not_age(void **state) {
    plug_owned(0, 1);
    plug(1);
    plug(2);
    now += 10ll * SWITCH_AGE_MS;
    send_to(1, 1, 5);
    assert_int_equal(got(), 0x1);
}

static void vlans_do_not_meet(void **state) {
    for (unsigned i = 0; i < 4; i++) {
        end[i].port.vlan = i / 2 ? 20 : 10;
        plug(i);
    }
    send_all(0, 1);
    assert_int_equal(got(), 0x2);
    send_all(2, 1); /* the same address in another one */
    assert_int_equal(got(), 0x8);
    send_to(1, 1, 2);
    assert_int_equal(got(), 0x1);
    send_to(3, 1, 2);
    assert_int_equal(got(), 0x4);
}

static void what_is_no_frame_is_refused(void **state) {
    static const uint8_t group[6] = {1, 0, 0, 0, 0, 1}, none[6];
    uint8_t frame[SWITCH_FRAME_MAX + 1] = {2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8};

    plug(0);
    plug(1);
    send_bytes(0, everybody, group);
    assert_int_equal(got(), 0);
    send_bytes(0, everybody, none);
    assert_int_equal(got(), 0);
    for (size_t n = 0; n < SWITCH_FRAME_MIN; n++)
        switch_input(&end[0].port, frame, n, now);
    switch_input(&end[0].port, frame, sizeof(frame), now);
    assert_int_equal(got(), 0);
    assert_int_equal(end[0].port.counters.refused, 3 + SWITCH_FRAME_MIN);
}

static void what_is_for_the_switch_itself_stays_here(void **state) {
    plug(0);
    plug(1);
    for (unsigned i = 0; i < 16; i++) {
        uint8_t to[6] = {0x01, 0x80, 0xc2, 0, 0, (uint8_t)i}, from[6] = {2, 0, 0, 0, 0, 1};

        send_bytes(0, to, from);
        assert_int_equal(got(), 0);
    }
    send_bytes(0, (uint8_t[6]){0x01, 0x80, 0xc2, 0, 0, 0x10}, (uint8_t[6]){2, 0, 0, 0, 0, 1});
    assert_int_equal(got(), 0x2);
}

static void what_a_port_does_not_take_is_dropped_for_it_alone(void **state) {
    for (unsigned i = 0; i < 3; i++)
        plug(i);
    end[1].full = true;
    send_all(0, 1);
    assert_int_equal(got(), 0x4);
    assert_int_equal(end[1].port.counters.dropped, 1);
    assert_int_equal(end[1].port.counters.frames_out, 0);
}

static void a_port_that_invents_addresses_takes_none_from_the_others(void **state) {
    for (unsigned i = 0; i < 3; i++)
        plug(i);
    send_all(1, 1);
    for (unsigned i = 0; i < 3 * SWITCH_MACS; i++)
        send_all(0, 1000 + i);
    send_to(2, 1, 2);
    assert_int_equal(got(), 0x2); /* still known */
    assert_int_equal(end[0].port.learned, SWITCH_PORT_MACS);
    send_to(2, 1000 + 3 * SWITCH_MACS - 1, 2);
    assert_int_equal(got(), 0x3); /* not learned: to all */
    now += SWITCH_AGE_MS;
    send_all(0, 77);
    assert_int_equal(end[0].port.learned, 1); /* the others have aged */
}

static void a_port_that_goes_is_forgotten(void **state) {
    for (unsigned i = 0; i < 3; i++)
        plug(i);
    plug_owned(3, 7);
    send_all(0, 1);
    switch_remove(&end[0].port);
    switch_remove(&end[3].port);
    send_to(1, 1, 2);
    assert_int_equal(got(), 0x4);
    send_all(1, 7); /* free again */
    assert_int_equal(got(), 0x4);
}

static unsigned tapped_in, tapped_out;

static void tap(void *opaque, const struct switch_port *from, const struct switch_port *to,
                const uint8_t *frame, size_t len) {
    assert_true(opaque == sw && from == &end[0].port && len == FRAME);
    *(to ? &tapped_out : &tapped_in) += 1;
}

static void a_tap_sees_each_frame_that_was_let_in(void **state) {
    tapped_in = tapped_out = 0;
    plug_owned(0, 1);
    plug(1);
    plug(2);
    switch_set_tap(sw, tap, sw);
    send_all(0, 1);
    send_all(0, 2); /* refused */
    assert_int_equal(tapped_in, 1);
    assert_int_equal(tapped_out, 2);
    switch_set_tap(sw, NULL, NULL);
    send_all(0, 1);
    assert_int_equal(tapped_in, 1);
}

/* ------------------------------------------------------------------ the model */

struct seen { /* one line of the list: the port where an address was last */
    bool known;
    unsigned port;
    int64_t at;
};

static struct seen seen[2][MACS]; /* by VLAN and number of the address */
static bool plugged[PORTS];
static int own[PORTS]; /* the address that it owns, -1 none */

static int owner_of(unsigned vlan, unsigned mac) {
    for (unsigned i = 0; i < PORTS; i++)
        if (plugged[i] && own[i] == (int)mac && end[i].port.vlan == vlan)
            return (int)i;
    return -1;
}

static unsigned model(unsigned from, unsigned dst, bool group, unsigned src) {
    unsigned vlan = end[from].port.vlan, bits = 0;
    int owner = owner_of(vlan, src), to = owner_of(vlan, dst);
    struct seen *s = &seen[vlan][src], *d = &seen[vlan][dst];

    if ((own[from] >= 0 && own[from] != (int)src) || (owner >= 0 && owner != (int)from))
        return 0;
    if (owner < 0)
        *s = (struct seen){true, from, now};
    if (!group && to < 0 && d->known && now - d->at < SWITCH_AGE_MS)
        to = (int)d->port;
    if (!group && to >= 0)
        return to == (int)from ? 0 : 1u << to;
    for (unsigned i = 0; i < PORTS; i++)
        if (plugged[i] && i != from && end[i].port.vlan == vlan && (group || own[i] < 0))
            bits |= 1u << i;
    return bits;
}

static void change_plug(struct rng *r, unsigned i) {
    if (plugged[i]) {
        switch_remove(&end[i].port);
        plugged[i] = false;
        for (unsigned m = 0; m < MACS; m++)
            for (unsigned v = 0; v < 2; v++)
                seen[v][m].known &= seen[v][m].port != i;
        return;
    }
    end[i].port.vlan = (uint16_t)rng_below(r, 2);
    own[i] = rng_below(r, 2) ? (int)rng_below(r, MACS) : -1;
    if (own[i] >= 0 && owner_of(end[i].port.vlan, (unsigned)own[i]) >= 0)
        own[i] = -1;
    end[i].port.owned = own[i] >= 0;
    if (own[i] >= 0) {
        mac_of(end[i].port.mac, (unsigned)own[i]);
        seen[end[i].port.vlan][own[i]].known = false;
    }
    plug(i);
    plugged[i] = true;
}

static void the_switch_does_what_a_slow_model_does(void **state) {
    struct rng r = rng_seed(7);

    memset(seen, 0, sizeof(seen));
    memset(plugged, 0, sizeof(plugged));
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned from = (unsigned)rng_below(&r, PORTS), src = (unsigned)rng_below(&r, MACS);
        unsigned dst = (unsigned)rng_below(&r, MACS), wanted;
        bool group = rng_below(&r, 8) == 0;

        if (!plugged[from] || rng_below(&r, 500) == 0) {
            change_plug(&r, from);
            continue;
        }
        if (own[from] >= 0 && rng_below(&r, 4))
            src = (unsigned)own[from];
        now += (int64_t)rng_below(&r, rng_below(&r, 200) ? 2000 : SWITCH_AGE_MS);
        wanted = model(from, dst, group, src);
        if (group)
            send_all(from, src);
        else
            send_to(from, dst, src);
        if (got() != wanted)
            fail_msg("step %u: from %u, %u to %u: ports %x, the model says %x", step, from, src,
                     dst, got(), wanted);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)
        T(frames_go_where_their_destination_was_seen),
        T(an_address_that_moves_is_found_at_its_new_place),
        T(what_was_not_seen_for_a_while_is_forgotten),
        T(a_port_with_an_address_of_its_own_sends_from_that_one_alone),
        T(nobody_learns_away_what_another_port_owns),
        T(a_port_with_an_address_hears_nothing_for_strangers),
        T(a_port_with_reserved_addresses_gets_frames_for_those_alone),
        T(an_owned_address_does_not_age),
        T(vlans_do_not_meet),
        T(what_is_no_frame_is_refused),
        T(what_is_for_the_switch_itself_stays_here),
        T(what_a_port_does_not_take_is_dropped_for_it_alone),
        T(a_port_that_invents_addresses_takes_none_from_the_others),
        T(a_port_that_goes_is_forgotten),
        T(a_tap_sees_each_frame_that_was_let_in),
        T(the_switch_does_what_a_slow_model_does),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
