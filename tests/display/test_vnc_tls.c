/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VNC under TLS, by a client of its own: who comes in, who does not, and who is rude. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "display/vnc_internal.h"
#include "support/test.h"

enum { NONE = 260, VNC = 261, PLAIN = 262 };

static char base[64], folder[80], password_path[80], socket_path[80];
static struct loop *loop;
static struct screen *screen;
static struct vnc *vnc;
static struct stream client;
static struct tls *trust;

static void note_key(void *opaque, unsigned code, bool down) {}
static void note_pointer(void *opaque, const struct input_pointer *p) {}

/* ---- the server ---- */

static void serve(const char *password) {
    struct vnc_options o = {.on = true, .module = &tls_module};
    struct input_sink sink = {note_key, note_pointer, NULL};
    struct error err = {0};
    struct certificate c;
    struct trust who = {0};

    snprintf(o.path, sizeof(o.path), "%s", socket_path);
    snprintf(o.tls, sizeof(o.tls), "%s", folder);
    if (password) {
        FILE *f = fopen(password_path, "w");

        fprintf(f, "%s\n", password);
        fclose(f);
        snprintf(o.password_file, sizeof(o.password_file), "%s", password_path);
    }
    vnc = vnc_open(loop, &o, "guest", screen, &sink, &err);
    if (!vnc)
        fail_msg("%s", err.text);
    assert_int_equal(certificate_own(&c, folder, &err), 0); /* the server has made it */
    who.fingerprint = c.fingerprint;
    trust = tls_new_client(&who, &err);
    assert_non_null(trust);
}

static int make(void **state) {
    snprintf(base, sizeof(base), "/tmp/viv-vnctls-XXXXXX");
    assert_non_null(mkdtemp(base));
    snprintf(folder, sizeof(folder), "%s/tls", base);
    snprintf(password_path, sizeof(password_path), "%s/password", base);
    snprintf(socket_path, sizeof(socket_path), "%s/vnc", base);
    loop = loop_new(NULL, NULL);
    screen = screen_new();
    screen_resize(screen, 64, 48);
    client = (struct stream){.fd = -1};
    return 0;
}

static int drop(void **state) {
    char path[100];

    stream_done(&client);
    tls_free(trust);
    trust = NULL;
    vnc_close(vnc);
    vnc = NULL;
    screen_free(screen);
    loop_free(loop);
    snprintf(path, sizeof(path), "%s/cert.pem", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/key.pem", folder);
    unlink(path);
    unlink(password_path);
    rmdir(folder);
    return rmdir(base);
}

/* ---- the client ---- */

static void come(void) {
    int pair[2];

    stream_done(&client);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    client = (struct stream){.fd = pair[0]};
    vnc_adopt(vnc, pair[1]);
}

static void say(const void *p, size_t n) {
    const uint8_t *b = p;

    while (n) {
        ssize_t done = stream_send(&client, b, n);

        loop_step(loop, 0);
        if (done == -EAGAIN)
            continue;
        if (done < 0)
            return;
        b += done;
        n -= (size_t)done;
    }
}

/* False: it has hung up. */
static bool hear(void *p, size_t n) {
    uint8_t *b = p;

    for (unsigned tries = 0; n && tries < 5000; tries++) {
        ssize_t got = stream_recv(&client, b, n);

        if (got == -EAGAIN) {
            loop_step(loop, 5);
            continue;
        }
        if (got <= 0)
            return false;
        b += got;
        n -= (size_t)got;
    }
    if (n)
        fail_msg("%zu bytes do not come", n);
    return true;
}

static uint32_t hear32(void) {
    uint8_t b[4] = {0};

    assert_true(hear(b, 4));
    return load_be32(b);
}

static void say32(uint32_t v) {
    uint8_t b[4];

    store_be32(b, v);
    say(b, 4);
}

/* Up to the list of subtypes. */
static unsigned ask_for_vencrypt(uint32_t subtypes[4]) {
    uint8_t b[12];

    come();
    assert_true(hear(b, 12));
    say("RFB 003.008\n", 12);
    assert_true(hear(b, 2));
    assert_int_equal(b[0], 1); /* nothing in the clear is offered beside it */
    assert_int_equal(b[1], 19);
    say("\x13", 1);
    assert_true(hear(b, 2));
    assert_memory_equal(b, "\0\2", 2);
    say("\0\2", 2);
    assert_true(hear(b, 2));
    assert_int_equal(b[0], 0);
    assert_in_range(b[1], 1, 4);
    for (unsigned i = 0; i < b[1]; i++)
        subtypes[i] = hear32();
    return b[1];
}

static void secure(uint32_t subtype) {
    uint8_t b;
    int r = -EAGAIN;

    say32(subtype);
    assert_true(hear(&b, 1));
    assert_int_equal(b, 1);
    assert_int_equal(stream_be_secure(&client, trust, NULL), 0);
    for (unsigned tries = 0; r == -EAGAIN && tries < 1000; tries++) {
        r = stream_handshake(&client);
        loop_step(loop, 5);
    }
    assert_int_equal(r, 0);
}

/* The server's name and size, and a picture in one piece. */
static void look(void) {
    static const uint8_t ask[] = {3, 0, 0, 0, 0, 0, 0, 64, 0, 48};
    uint8_t b[24], *pixels = malloc(64 * 48 * 4);

    say("\1", 1);
    assert_true(hear(b, 24));
    assert_int_equal(load_be16(b), 64);
    assert_int_equal(load_be32(b + 20), 5);
    assert_true(hear(b, 5));
    assert_memory_equal(b, "guest", 5);
    say(ask, sizeof(ask));
    assert_true(hear(b, 4));
    assert_int_equal(load_be16(b + 2), 1);
    assert_true(hear(b, 12));
    assert_int_equal(load_be32(b + 8), 0); /* raw */
    assert_true(hear(pixels, 64 * 48 * 4));
    free(pixels);
    assert_int_equal(vnc_clients(vnc), 1);
}

/* ---- tests ---- */

static void without_a_password_the_certificate_is_enough(void **state) {
    uint32_t subtypes[4];

    serve(NULL);
    assert_int_equal(ask_for_vencrypt(subtypes), 1);
    assert_int_equal(subtypes[0], NONE);
    secure(NONE);
    assert_int_equal(hear32(), 0);
    look();
}

static void a_password_is_proved_by_the_challenge(void **state) {
    uint8_t challenge[16], answer[16], password[8] = "sesame";
    uint32_t subtypes[4];

    serve("sesame");
    assert_int_equal(ask_for_vencrypt(subtypes), 2);
    assert_int_equal(subtypes[0], VNC);
    assert_int_equal(subtypes[1], PLAIN);
    secure(VNC);
    assert_true(hear(challenge, 16));
    vnc_des(password, challenge, answer);
    say(answer, 16);
    assert_int_equal(hear32(), 0);
    look();
}

static uint32_t log_in(const char *name, const char *password) {
    say32((uint32_t)strlen(name));
    say32((uint32_t)strlen(password));
    say(name, strlen(name));
    say(password, strlen(password));
    return hear32();
}

static void a_long_password_is_said_under_tls(void **state) {
    static const char password[] = "correct horse battery staple";
    uint32_t subtypes[4];

    serve(password);
    assert_int_equal(ask_for_vencrypt(subtypes), 1); /* the challenge would look at 8 bytes of it */
    assert_int_equal(subtypes[0], PLAIN);
    secure(PLAIN);
    assert_int_equal(log_in("anybody", password), 0);
    look();
    for (int i = 0; i < 6; i++) {
        static const char *const wrong[] = {
            "correct ", "", "correct horse battery stapl", "x", "correct horse battery staples",
            "y"};

        ask_for_vencrypt(subtypes);
        secure(PLAIN);
        assert_int_equal(log_in("", wrong[i]), 1);
    }
    ask_for_vencrypt(subtypes); /* five wrong ones: nobody for a while */
    secure(PLAIN);
    assert_int_equal(log_in("anybody", password), 1);
}

static void nothing_goes_without_tls(void **state) {
    uint32_t subtypes[4];
    uint8_t b[12];

    serve(NULL);
    come();
    hear(b, 12);
    say("RFB 003.003\n", 12);
    assert_int_equal(hear32(), 0); /* refused, with a reason */
    assert_true(hear32() > 20);
    come();
    hear(b, 12);
    say("RFB 003.008\n", 12);
    hear(b, 2);
    say("\1", 1); /* None */
    assert_int_equal(hear32(), 1);
    for (int i = 0; i < 3; i++) {
        static const uint32_t wrong[] = {256, 257, VNC};

        ask_for_vencrypt(subtypes);
        say32(wrong[i]);
        assert_true(hear(b, 1));
        assert_int_equal(b[0], 0);
        assert_false(hear(b, 1));
    }
    come();
    hear(b, 12);
    say("RFB 003.008\n\x13\0\1", 15); /* VeNCrypt 0.1 */
    hear(b, 2);
    hear(b, 2);
    assert_true(hear(b, 1));
    assert_int_equal(b[0], 255);
}

/* What came in the clear is not taken for what came under TLS. */
static void who_speaks_too_early_is_sent_away(void **state) {
    uint32_t subtypes[4];
    uint8_t b[8] = {0, 0, 1, 4, 1}; /* the subtype, and what would be ClientInit */

    serve(NULL);
    ask_for_vencrypt(subtypes);
    say(b, 5);
    assert_true(hear(b, 1));
    assert_int_equal(b[0], 0);
    assert_false(hear(b, 1));
}

static void a_slow_handshake_harms_nobody(void **state) {
    uint32_t subtypes[4];
    struct stream slow;
    uint8_t b;

    serve(NULL);
    ask_for_vencrypt(subtypes);
    say32(NONE);
    assert_true(hear(&b, 1));
    say("\x16\3\1", 3); /* the beginning of a record, and no more */
    slow = client;
    client = (struct stream){.fd = -1};
    ask_for_vencrypt(subtypes);
    secure(NONE);
    assert_int_equal(hear32(), 0);
    look();
    stream_done(&slow);
}

static void random_bytes_in_the_handshake_end_it(void **state) {
    struct rng rng = rng_seed(5);
    uint32_t subtypes[4];
    uint8_t b[200];

    serve(NULL);
    for (int i = 0; i < 60; i++) {
        ask_for_vencrypt(subtypes);
        say32(NONE);
        assert_true(hear(b, 1));
        for (unsigned k = 0; k < sizeof(b); k++)
            b[k] = (uint8_t)rng_next(&rng);
        if (i % 2) {
            b[0] = 0x16;
            b[1] = 3;
            b[2] = 1;
            b[3] = 0;
        }
        say(b, 1 + rng_below(&rng, sizeof(b)));
        for (int k = 0; k < 4; k++)
            loop_step(loop, 0);
    }
    ask_for_vencrypt(subtypes);
    secure(NONE);
    assert_int_equal(hear32(), 0);
    look();
}

/* A record holds more than the server reads at once. */
static void many_messages_in_one_record_are_all_taken(void **state) {
    uint8_t *many = calloc(1, 16000), bell[2];
    uint32_t subtypes[4];

    serve(NULL);
    ask_for_vencrypt(subtypes);
    secure(NONE);
    assert_int_equal(hear32(), 0);
    look();
    for (unsigned i = 0; i < 2000; i++) /* keys */
        many[i * 8] = 4;
    say(many, 16000);
    for (int i = 0; i < 20; i++)
        loop_step(loop, 0);
    assert_int_equal(vnc->clients->in_len, 0);
    assert_int_equal(vnc_clients(vnc), 1);
    vnc_bell(vnc);
    assert_true(hear(bell, 1));
    assert_int_equal(bell[0], 2);
    free(many);
}

static void a_folder_that_cannot_be_made_is_named(void **state) {
    struct vnc_options o = {.on = true, .tls = "/nowhere/at/all", .module = &tls_module};
    struct input_sink sink = {note_key, note_pointer, NULL};
    struct error err = {0};

    snprintf(o.path, sizeof(o.path), "%s", socket_path);
    assert_null(vnc_open(loop, &o, "guest", screen, &sink, &err));
    assert_non_null(strstr(err.text, "'/nowhere/at/all' cannot be made"));
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(without_a_password_the_certificate_is_enough),
        T(a_password_is_proved_by_the_challenge),
        T(a_long_password_is_said_under_tls),
        T(nothing_goes_without_tls),
        T(who_speaks_too_early_is_sent_away),
        T(a_slow_handshake_harms_nobody),
        T(random_bytes_in_the_handshake_end_it),
        T(many_messages_in_one_record_are_all_taken),
        T(a_folder_that_cannot_be_made_is_named),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
