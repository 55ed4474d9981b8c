/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VNC server as clients see it: the handshake, pictures in each encoding, keys, pointers, and
 * clients that are rude. The client here decodes by the standard, on its own. */
#include "display/vnc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "display/vnc_internal.h"
#include "support/test.h"

enum { RAW = 0, TIGHT = 7, ZRLE = 16 };

static struct loop *loop;
static struct screen *screen;
static struct vnc *vnc;
static int fd;
static z_stream zrle, tight[4];
static bool zrle_on, tight_on[4];
static uint32_t *picture;
static unsigned width, height;
static unsigned key_codes[64], key_count;
static struct input_pointer pointed;
static char password_path[64];

static void note_key(void *opaque, unsigned code, bool down) {
    if (key_count < 64)
        key_codes[key_count++] = code | (down ? 0x1000 : 0);
}

static void note_pointer(void *opaque, const struct input_pointer *p) { pointed = *p; }

/* ------------------------------------------------------------------ a guest's screen */

static uint32_t *drawn;
static unsigned drawn_w, drawn_h;

static void draw(void *opaque, struct screen *s, bool all) {
    screen_resize(s, drawn_w, drawn_h);
    for (unsigned y = 0; y < drawn_h; y++)
        screen_put(s, 0, y, drawn + (size_t)y * drawn_w, drawn_w);
}

/* Patches of the kinds that encoders tell apart: one colour, few, runs, noise. */
static void paint(struct rng *rng, unsigned w, unsigned h) {
    drawn = realloc(drawn, (size_t)w * h * 4);
    drawn_w = w;
    drawn_h = h;
    for (unsigned y = 0; y < h; y++)
        for (unsigned x = 0; x < w; x++) {
            unsigned kind = (x / 64 + 3 * (y / 64)) % 5;
            uint32_t c = kind == 0   ? 0x112233
                         : kind == 1 ? 0x400000 * (x / 3 % 2)
                         : kind == 2 ? 0x010203 * ((x + y) / 2 % 9)
                         : kind == 3 ? (uint32_t)rng_next(rng)
                                     : 0x10101 * (y % 64 * 4) + x / 64;

            drawn[(size_t)y * w + x] = c;
        }
}

/* ------------------------------------------------------------------ a client */

static void run(void) {
    for (unsigned i = 0; i < 4; i++)
        while (loop_step(loop, 1))
            ;
}

static void say(const void *p, size_t n) {
    const uint8_t *b = p;

    while (n) {
        ssize_t done = send(fd, b, n, MSG_DONTWAIT | MSG_NOSIGNAL);

        run();
        if (done < 0)
            continue;
        b += done;
        n -= (size_t)done;
    }
}

/* False: it has hung up. */
static bool hear(void *p, size_t n) {
    uint8_t *b = p;

    for (unsigned tries = 0; n && tries < 2000; tries++) {
        ssize_t got = recv(fd, b, n, MSG_DONTWAIT);

        if (got == 0)
            return false;
        if (got < 0) {
            loop_step(loop, 5);
            continue;
        }
        b += got;
        n -= (size_t)got;
    }
    if (n)
        fail_msg("%zu bytes do not come", n);
    return true;
}

static uint8_t hear8(void) {
    uint8_t v = 0;

    assert_true(hear(&v, 1));
    return v;
}
static uint16_t hear16(void) {
    uint8_t b[2];

    assert_true(hear(b, 2));
    return load_be16(b);
}
static uint32_t hear32(void) {
    uint8_t b[4];

    assert_true(hear(b, 4));
    return load_be32(b);
}

static void connect_client(void) {
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    vnc_adopt(vnc, pair[0]);
    fd = pair[1];
    run();
}

static void open_server(const char *password) {
    struct vnc_options o = {.on = true, .path = "/tmp/viv-test-vnc"};
    struct input_sink sink = {note_key, note_pointer, NULL};
    struct error err = {0};
    FILE *f;

    snprintf(o.path, sizeof(o.path), "/tmp/viv-test-vnc-%d", (int)getpid());
    if (password) {
        snprintf(password_path, sizeof(password_path), "/tmp/viv-test-vnc-%d.pw", (int)getpid());
        f = fopen(password_path, "w");
        fprintf(f, "%s\n", password);
        fclose(f);
        snprintf(o.password_file, sizeof(o.password_file), "%s", password_path);
    }
    loop = loop_new(NULL, &err);
    screen = screen_new();
    screen_set_source(screen, 0, &(struct screen_source){.draw = draw});
    vnc = vnc_open(loop, &o, "box", screen, &sink, &err);
    if (!vnc)
        fail_msg("%s", err.text);
    key_count = 0;
    zrle_on = tight_on[0] = tight_on[1] = false;
}

static void close_server(void) {
    if (fd >= 0)
        close(fd);
    fd = -1;
    vnc_close(vnc);
    screen_free(screen);
    loop_free(loop);
    if (zrle_on)
        inflateEnd(&zrle);
    for (unsigned i = 0; i < 2; i++)
        if (tight_on[i])
            inflateEnd(&tight[i]);
    free(picture);
    picture = NULL;
    if (*password_path)
        unlink(password_path);
    *password_path = 0;
}

/* The handshake of 3.8 up to the security result. */
static uint32_t log_in(uint8_t type, const char *password) {
    uint8_t types[2], challenge[16], answer[16], padded[8] = {0};
    char version[13] = "";

    assert_true(hear(version, 12));
    assert_string_equal(version, "RFB 003.008\n");
    say("RFB 003.008\n", 12);
    assert_true(hear(types, 2));
    assert_int_equal(types[0], 1);
    assert_int_equal(types[1], type);
    say(&types[1], 1);
    if (type == 2) {
        assert_true(hear(challenge, 16));
        memcpy(padded, password, strlen(password));
        vnc_des(padded, challenge, answer);
        say(answer, 16);
    }
    return hear32();
}

static void start(void) {
    uint8_t init[20];
    char name[4] = "";

    say("\1", 1);
    assert_true(hear(init, 20));
    width = load_be16(init);
    height = load_be16(init + 2);
    assert_int_equal(init[4], 32);
    assert_int_equal(hear32(), 3);
    assert_true(hear(name, 3));
    assert_string_equal(name, "box");
    picture = calloc((size_t)width * height, 4);
}

static void encodings(const int32_t *list, unsigned n) {
    uint8_t b[4 + 4 * 8] = {2};

    store_be16(b + 2, (uint16_t)n);
    for (unsigned i = 0; i < n; i++)
        store_be32(b + 4 + 4 * i, (uint32_t)list[i]);
    say(b, 4 + 4 * n);
}

static void request(bool incremental) {
    uint8_t b[10] = {3, incremental};

    store_be16(b + 6, (uint16_t)width);
    store_be16(b + 8, (uint16_t)height);
    say(b, 10);
}

/* ------------------------------------------------------------------ decoders */

static void dot(unsigned x, unsigned y, uint32_t rgb) {
    assert_true(x < width && y < height);
    picture[(size_t)y * width + x] = rgb;
}

static uint32_t take3(const uint8_t **p) {
    uint32_t v = (*p)[0] | (uint32_t)(*p)[1] << 8 | (uint32_t)(*p)[2] << 16;

    *p += 3;
    return v;
}

static unsigned take_length(const uint8_t **p) {
    unsigned n = 1;

    for (; **p == 255; (*p)++)
        n += 255;
    return n + *(*p)++;
}

static const uint8_t *zrle_tile(const uint8_t *p, unsigned x, unsigned y, unsigned w, unsigned h) {
    unsigned kind = *p++, n = kind & 127, bits = n <= 2 ? 1 : n <= 4 ? 2 : 4;
    uint32_t palette[128];

    if (kind == 0) {
        for (unsigned i = 0; i < w * h; i++)
            dot(x + i % w, y + i / w, take3(&p));
        return p;
    }
    if (kind != 128)
        for (unsigned i = 0; i < n; i++)
            palette[i] = take3(&p);
    if (kind == 1) {
        for (unsigned i = 0; i < w * h; i++)
            dot(x + i % w, y + i / w, palette[0]);
    } else if (kind <= 16) {
        for (unsigned j = 0; j < h; j++, p += (w * bits + 7) / 8)
            for (unsigned i = 0; i < w; i++)
                dot(x + i, y + j,
                    palette[p[i * bits / 8] >> (8 - bits - i * bits % 8) & ((1u << bits) - 1)]);
    } else {
        for (unsigned i = 0, len; i < w * h; i += len) {
            uint32_t c;

            if (kind == 128) {
                c = take3(&p);
                len = take_length(&p);
            } else {
                unsigned index = *p++;

                c = palette[index & 127];
                len = index & 128 ? take_length(&p) : 1;
            }
            assert_true(i + len <= w * h);
            for (unsigned k = i; k < i + len; k++)
                dot(x + k % w, y + k / w, c);
        }
    }
    return p;
}

static size_t inflate_all(z_stream *z, bool *on, size_t n, uint8_t *out, size_t room) {
    uint8_t *bytes = malloc(n);

    assert_true(hear(bytes, n));
    if (!*on) {
        memset(z, 0, sizeof(*z));
        assert_int_equal(inflateInit(z), Z_OK);
        *on = true;
    }
    z->next_in = bytes;
    z->avail_in = (uInt)n;
    z->next_out = out;
    z->avail_out = (uInt)room;
    assert_true(inflate(z, Z_SYNC_FLUSH) >= 0);
    assert_int_equal(z->avail_in, 0);
    free(bytes);
    return room - z->avail_out;
}

static void take_zrle(unsigned x, unsigned y, unsigned w, unsigned h) {
    size_t room = (size_t)w * h * 5 + 4096;
    uint8_t *out = malloc(room);
    const uint8_t *p = out;
    size_t n = inflate_all(&zrle, &zrle_on, hear32(), out, room);

    for (unsigned j = 0; j < h; j += 64)
        for (unsigned i = 0; i < w; i += 64)
            p = zrle_tile(p, x + i, y + j, w - i < 64 ? w - i : 64, h - j < 64 ? h - j : 64);
    assert_int_equal(p - out, n);
    free(out);
}

static uint32_t hear_tpixel(void) {
    uint8_t b[3];

    assert_true(hear(b, 3));
    return (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
}

static void take_tight(unsigned x, unsigned y, unsigned w, unsigned h) {
    unsigned control = hear8(), stream = control >> 4 & 3, n = 0;
    uint32_t palette[256];
    size_t bytes, len = 0;
    uint8_t *out = malloc((size_t)w * h * 3 + 16), b;

    if (control == 0x80) {
        palette[0] = hear_tpixel();
        for (unsigned i = 0; i < w * h; i++)
            dot(x + i % w, y + i / w, palette[0]);
        free(out);
        return;
    }
    if (control & 0x40) {
        assert_int_equal(hear8(), 1);
        n = hear8() + 1u;
        for (unsigned i = 0; i < n; i++)
            palette[i] = hear_tpixel();
    }
    bytes = n == 2 ? (size_t)(w + 7) / 8 * h : n ? (size_t)w * h : (size_t)w * h * 3;
    if (bytes < 12) {
        assert_true(hear(out, bytes));
    } else {
        for (unsigned shift = 0; shift < 21; shift += 7) {
            b = hear8();
            len |= (size_t)(b & (shift < 14 ? 127 : 255)) << shift;
            if (!(b & 128))
                break;
        }
        assert_int_equal(inflate_all(&tight[stream], &tight_on[stream], len, out, bytes), bytes);
    }
    for (unsigned i = 0; i < w * h; i++) {
        unsigned px = i % w, py = i / w;

        dot(x + px, y + py,
            n == 2 ? palette[out[py * ((w + 7) / 8) + px / 8] >> (7 - px % 8) & 1]
            : n    ? palette[out[i]]
                   : (uint32_t)out[3 * i] << 16 | (uint32_t)out[3 * i + 1] << 8 | out[3 * i + 2]);
    }
    free(out);
}

static void take_raw(unsigned x, unsigned y, unsigned w, unsigned h) {
    uint8_t b[4];

    for (unsigned i = 0; i < w * h; i++) {
        assert_true(hear(b, 4));
        dot(x + i % w, y + i / w, load_le32(b));
    }
}

/* One update; returns how many pixels came. */
static unsigned take_update(void) {
    unsigned pixels = 0;

    assert_int_equal(hear8(), 0);
    hear8();
    for (unsigned n = hear16(); n; n--) {
        unsigned x = hear16(), y = hear16(), w = hear16(), h = hear16();
        int32_t kind = (int32_t)hear32();

        pixels += kind >= 0 ? w * h : 0;
        if (kind == ZRLE)
            take_zrle(x, y, w, h);
        else if (kind == TIGHT)
            take_tight(x, y, w, h);
        else if (kind == RAW)
            take_raw(x, y, w, h);
        else if (kind == -223 || kind == -308) {
            for (unsigned i = kind == -308 ? 5 : 0; i; i--)
                hear32();
            width = w;
            height = h;
            picture = realloc(picture, (size_t)w * h * 4);
        } else if (kind != -258) {
            fail_msg("encoding %d", kind);
        }
    }
    return pixels;
}

static void same_picture(void) {
    assert_int_equal(width, drawn_w);
    assert_int_equal(height, drawn_h);
    for (size_t i = 0; i < (size_t)width * height; i++)
        if (picture[i] != (drawn[i] & 0xffffff))
            fail_msg("pixel %zu,%zu is %06x, not %06x", i % width, i / width, picture[i],
                     drawn[i] & 0xffffff);
}

/* ------------------------------------------------------------------ tests */

static void des_is_that_of_the_standard(void **state) {
    /* FIPS 81's example, its key with the bits of each byte turned round. */
    static const uint8_t key[8] = {0x80, 0xc4, 0xa2, 0xe6, 0x91, 0xd5, 0xb3, 0xf7};
    static const uint8_t clear[16] = "Now is the time ";
    static const uint8_t secret[16] = {0x3f, 0xa4, 0x0e, 0x8a, 0x98, 0x4d, 0x48, 0x15,
                                       0x6a, 0x27, 0x17, 0x87, 0xab, 0x88, 0x83, 0xf9};
    uint8_t out[16];

    vnc_des(key, clear, out);
    assert_memory_equal(out, secret, 16);
}

static void pictures_arrive_in_every_encoding(void **state) {
    static const int32_t kinds[] = {RAW, ZRLE, TIGHT};
    struct rng rng = rng_seed(1);

    for (unsigned k = 0; k < 3; k++) {
        paint(&rng, 333, 210);
        open_server(NULL);
        connect_client();
        assert_int_equal(log_in(1, NULL), 0);
        start();
        encodings(&kinds[k], 1);
        request(false);
        assert_int_equal(take_update(), 333 * 210);
        same_picture();
        for (unsigned i = 0; i < 5; i++) { /* only what changes comes */
            drawn[rng_below(&rng, 333 * 210)] ^= 0x808080;
            request(true);
            assert_in_range(take_update(), 1, 64 * 16);
            same_picture();
        }
        request(true); /* nothing changes: nothing comes */
        run();
        assert_int_equal(recv(fd, &rng, 1, MSG_DONTWAIT), -1);
        close_server();
    }
}

static void a_new_size_is_told_to_those_who_understand(void **state) {
    static const int32_t kinds[] = {ZRLE, -223}, extended[] = {TIGHT, -308};
    struct rng rng = rng_seed(2);

    for (unsigned k = 0; k < 2; k++) {
        paint(&rng, 640, 480);
        open_server(NULL);
        connect_client();
        log_in(1, NULL);
        start();
        encodings(k ? extended : kinds, 2);
        request(false);
        while (take_update() < 640 * 480)
            request(true);
        paint(&rng, 800, 600);
        request(true);
        while (width != 800 || take_update() < 800 * 600)
            if (width != 800)
                take_update(), request(false);
        same_picture();
        close_server();
    }
}

static void who_knows_the_password_comes_in(void **state) {
    struct rng rng = rng_seed(3);

    paint(&rng, 100, 100);
    open_server("secret");
    connect_client();
    assert_int_equal(log_in(2, "secret"), 0);
    start();
    close_server();
}

static void who_guesses_is_sent_away_and_has_to_wait(void **state) {
    char why[100] = "";
    uint8_t byte;

    open_server("secret");
    for (unsigned i = 0; i < 6; i++) {
        connect_client();
        assert_int_equal(log_in(2, "geheim"), 1);
        memset(why, 0, sizeof(why));
        assert_true(hear(why, hear32()));
        assert_false(hear(&byte, 1));
        close(fd);
    }
    assert_non_null(strstr(why, "wait"));
    connect_client(); /* also who knows it */
    assert_int_equal(log_in(2, "secret"), 1);
    close_server();
}

static void keys_reach_the_guest_by_symbol_and_by_scan_code(void **state) {
    static const uint8_t at_sign[] = {4, 1, 0, 0, 0, 0, 0, '@', 4, 0, 0, 0, 0, 0, 0, '@'};
    static const uint8_t capital[] = {4, 1, 0, 0, 0, 0, 0, 'V', 4, 0, 0, 0, 0, 0, 0, 'V'};
    static const uint8_t by_code[] = {255, 0, 0, 1, 0, 0, 0, 'z', 0, 0, 0, 0x15};
    static const unsigned wanted[] = {0x1000 | 42, 0x1000 | 3, 42, 3,           0x1000 | 42,
                                      0x1000 | 47, 42,         47, 0x1000 | 21, 21};

    struct rng rng = rng_seed(4);

    paint(&rng, 100, 100);
    open_server(NULL);
    connect_client();
    log_in(1, NULL);
    start();
    say(at_sign, sizeof(at_sign));
    say(capital, sizeof(capital)); /* without its Shift, as programs do */
    say(by_code, sizeof(by_code)); /* a German Z is where the Y is */
    run();
    close(fd); /* what it holds is let go */
    fd = -1;
    run();
    assert_int_equal(key_count, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(key_codes[i], wanted[i]);
    close_server();
}

static void the_pointer_is_where_it_points(void **state) {
    static const uint8_t message[] = {5, 1 | 8, 0, 50, 0, 99};
    struct rng rng = rng_seed(5);

    paint(&rng, 101, 100);
    open_server(NULL);
    connect_client();
    log_in(1, NULL);
    start();
    say(message, sizeof(message));
    run();
    assert_in_range(pointed.x, INPUT_AXIS_MAX / 2 - 1, INPUT_AXIS_MAX / 2 + 1);
    assert_int_equal(pointed.y, INPUT_AXIS_MAX);
    assert_int_equal(pointed.buttons, INPUT_LEFT);
    assert_int_equal(pointed.wheel, 1);
    close_server();
}

/* Who never reads costs no more than its bound, and keeps nobody else waiting. */
static void who_does_not_read_is_not_drawn_for(void **state) {
    static const int32_t raw = RAW;
    struct rng rng = rng_seed(6);
    int lazy;

    paint(&rng, 1600, 1200);
    open_server(NULL);
    connect_client();
    log_in(1, NULL);
    start();
    encodings(&raw, 1);
    for (unsigned i = 0; i < 50; i++)
        request(false);
    for (unsigned i = 0; i < 100; i++)
        loop_step(loop, 1);
    for (struct vnc_client *c = vnc->clients; c; c = c->next)
        assert_true(c->out.len - c->sent < VNC_OUT_HIGH + 1600 * 64 * 4 + 1024);
    lazy = fd;
    free(picture);
    connect_client();
    log_in(1, NULL);
    start();
    encodings((const int32_t[]){ZRLE}, 1);
    request(false);
    assert_int_equal(take_update(), 1600 * 1200);
    same_picture();
    close(lazy);
    close_server();
}

static void random_rude_clients_harm_nobody(void **state) {
    struct rng rng = rng_seed(7);

    for (unsigned i = 0; i < 200; i++) {
        paint(&rng, 64 + (unsigned)rng_below(&rng, 200), 64);
        open_server(NULL);
        connect_client();
        if (i % 4) {
            log_in(1, NULL);
            start();
        }
        for (unsigned n = (unsigned)rng_below(&rng, 60); n; n--) {
            uint8_t b[64];

            for (unsigned k = 0; k < sizeof(b); k++)
                b[k] = (uint8_t)(rng_below(&rng, 3) ? rng_below(&rng, 8) : rng_next(&rng));
            send(fd, b, 1 + rng_below(&rng, sizeof(b)), MSG_DONTWAIT | MSG_NOSIGNAL);
            loop_step(loop, 0);
        }
        paint(&rng, 32, 100);
        run();
        close_server();
    }
}

static void options_are_understood(void **state) {
    struct vnc_options o;
    struct error err;

    assert_int_equal(vnc_options_parse("vnc=127.0.0.1:5901", &o, &err), 0);
    assert_string_equal(o.host, "127.0.0.1");
    assert_string_equal(o.port, "5901");
    assert_int_equal(vnc_options_parse("vnc=[::1]:1,password-file=/p", &o, &err), 0);
    assert_string_equal(o.host, "::1");
    assert_string_equal(o.password_file, "/p");
    assert_int_equal(vnc_options_parse("vnc=a:1,tls=/d,password-file=/p", &o, &err), 0);
    assert_string_equal(o.tls, "/d");
    assert_string_equal(o.password_file, "/p");
    assert_int_equal(vnc_options_parse("vnc=unix:/a b:c", &o, &err), 0);
    assert_string_equal(o.path, "/a b:c");
    assert_int_equal(vnc_options_parse("none", &o, &err), 0);
    assert_false(o.on);
    for (const char *const *bad =
             (const char *const[]){"vnc", "vnc=", "vnc=:1", "vnc=a:", "vnc=a:0", "vnc=a:70000",
                                   "vnc=a:1x", "vnc=unix:", "vnc=a:1,",
                                   "vnc=a:1,tls=", "vnc=a:1,x=y", "spice", NULL};
         *bad; bad++)
        if (vnc_options_parse(*bad, &o, &err) == 0)
            fail_msg("'%s' is taken", *bad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(des_is_that_of_the_standard),
        cmocka_unit_test(options_are_understood),
        cmocka_unit_test(pictures_arrive_in_every_encoding),
        cmocka_unit_test(a_new_size_is_told_to_those_who_understand),
        cmocka_unit_test(who_knows_the_password_comes_in),
        cmocka_unit_test(who_guesses_is_sent_away_and_has_to_wait),
        cmocka_unit_test(keys_reach_the_guest_by_symbol_and_by_scan_code),
        cmocka_unit_test(the_pointer_is_where_it_points),
        cmocka_unit_test(who_does_not_read_is_not_drawn_for),
        cmocka_unit_test(random_rude_clients_harm_nobody),
    };
    int r;

    fd = -1;
    r = cmocka_run_group_tests(tests, NULL, NULL);
    free(drawn);
    return r;
}
