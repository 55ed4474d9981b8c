/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A viewer that says whatever the fuzzer likes, while the picture changes its size. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "display/vnc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned round_number;

static void key(void *opaque, unsigned code, bool down) {
    if (code >= 256)
        abort();
}

static void pointer(void *opaque, const struct input_pointer *p) {
    if (p->x > INPUT_AXIS_MAX || p->y > INPUT_AXIS_MAX)
        abort();
}

static void draw(void *opaque, struct screen *s, bool all) {
    uint32_t row[300];

    screen_resize(s, 100 + round_number % 3 * 100, 70 + round_number % 5 * 16);
    for (unsigned y = 0; y < s->height; y++) {
        for (unsigned x = 0; x < 300; x++)
            row[x] = (x * (round_number & 1) + y) * 0x01030507u;
        screen_put(s, 0, y, row, 300);
    }
    round_number++;
}

static void read_all(int fd) {
    char bytes[65536];

    while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct vnc_options o = {.on = true, .path = "/tmp/viv-fuzz-vnc"};
    struct input_sink sink = {key, pointer, NULL};
    struct screen *s = screen_new();
    struct error err = {0};
    struct loop *loop = loop_new(NULL, &err);
    struct vnc *v;
    int pair[2];

    round_number = 0;
    snprintf(o.path, sizeof(o.path), "/tmp/viv-fuzz-vnc-%d", (int)getpid());
    screen_set_source(s, 0, &(struct screen_source){.draw = draw});
    v = vnc_open(loop, &o, "fuzz", s, &sink, &err);
    if (!v || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        abort();
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    vnc_adopt(v, pair[0]);
    if (size && data[0] & 1) { /* most inputs begin behind the handshake */
        send(pair[1], "RFB 003.008\n\1\1", 14, MSG_NOSIGNAL);
        loop_step(loop, 0);
    }
    for (size_t at = 1, n; at < size; at += n) {
        n = 1 + data[at] % 64;
        n = n < size - at ? n : size - at;
        send(pair[1], data + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        loop_step(loop, 0);
        read_all(pair[1]);
    }
    loop_step(loop, 0);
    close(pair[1]);
    loop_step(loop, 0);
    vnc_close(v);
    screen_free(s);
    loop_free(loop);
    return 0;
}
