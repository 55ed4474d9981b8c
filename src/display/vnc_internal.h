/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the VNC server share. */
#ifndef DISPLAY_VNC_INTERNAL_H
#define DISPLAY_VNC_INTERNAL_H

#include <zlib.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "base/timer.h"
#include "display/keys.h"
#include "display/vnc.h"

// clang-format off
enum {
    VNC_MAX_CLIENTS = 16, VNC_IN = 4096, VNC_OUT_HIGH = 512 * 1024, /* nothing more is drawn */
    VNC_RECT_H = 64, VNC_CUT_MAX = 1 << 20, VNC_HANDSHAKE_MS = 20000, VNC_PASSWORD = 8, VNC_CHALLENGE = 16,
};
enum vnc_state { VNC_VERSION, VNC_SECURITY, VNC_AUTH, VNC_INIT, VNC_RUNNING };
enum vnc_security { VNC_SECURITY_NONE = 1, VNC_SECURITY_VNC = 2 };
enum vnc_encoding {
    VNC_RAW = 0, VNC_TIGHT = 7, VNC_ZRLE = 16,
    VNC_DESKTOP_SIZE = -223, VNC_LAST_RECT = -224, VNC_EXTENDED_KEY = -258, VNC_EXTENDED_SIZE = -308, VNC_LED_STATE = -261,
    VNC_COMPRESS_0 = -256, VNC_COMPRESS_9 = -247, VNC_QUALITY_0 = -32, VNC_QUALITY_9 = -23,
};
// clang-format on

struct vnc_format {
    uint8_t bpp, depth; /* bits */
    bool big_endian, true_colour;
    uint16_t max[3]; /* red, green, blue */
    uint8_t shift[3];
};

struct vnc_rect {
    uint16_t x, y, w, h;
};

struct vnc_client {
    struct vnc *vnc;
    struct vnc_client *next;
    int fd; /* -1: gone, to be freed */
    struct loop_watch *watch;
    struct timer deadline; /* of the handshake */
    enum vnc_state state;
    unsigned minor; /* of protocol 3 */
    uint8_t security;
    uint8_t challenge[VNC_CHALLENGE];
    uint8_t in[VNC_IN];
    size_t in_len;
    uint64_t skip; /* bytes of input that nobody wants */
    struct buf out;
    size_t sent;
    bool leaving; /* closed when all is sent */

    struct screen_watch look;
    struct vnc_format format;
    bool plain;            /* of the screen's own format: pixels need no conversion */
    int encoding, sending; /* as asked for last; of the update that is being sent */
    bool desktop_size, extended_size, last_rect, extended_key, tell_extended_key, tell_size;
    int level;              /* of compression */
    unsigned width, height; /* as the client believes */
    bool wants;             /* an update, of the area */
    struct vnc_rect area;
    struct vnc_rect *rect; /* of the update that is being sent */
    unsigned rects, at;
    struct timer more; /* goes on with it */
    z_stream zlib;
    bool zlib_on;
    z_stream tight[2];
    bool tight_on[2];

    bool down[KEY_CODE_MAX]; /* keys that it holds */
    bool caps_lock;          /* it has switched that on */
};

struct vnc {
    struct loop *loop;
    struct timers *timers;
    struct timer refresh;
    struct vnc_options options;
    char name[256];
    struct screen *screen;
    struct input_sink input;
    int listener;
    struct loop_watch *watch;
    struct vnc_client *clients;
    unsigned count;
    unsigned inside; /* callbacks that may hold a client */
    uint8_t password[VNC_PASSWORD];
    bool has_password;
    unsigned failures;     /* wrong passwords since the last right one */
    int64_t locked_until;  /* ms */
    int64_t changed, busy; /* ms: when the picture changed last, or somebody did something */
};

/* vnc.c */
void vnc_drop(struct vnc_client *c); /* hangs up; the struct stays for a while */
void vnc_put(struct vnc_client *c, const void *p, size_t n);
void vnc_flush(struct vnc_client *c);
void vnc_wake(struct vnc *v);        /* somebody does something: look at the picture soon */
void vnc_want(struct vnc_client *c); /* it asked for an update */

/* vnc_login.c: the handshake. Bytes used, 0: more are needed, -1: it was sent away. */
int vnc_login(struct vnc_client *c);
void vnc_greet(struct vnc_client *c);

/* vnc_messages.c: what clients say, the same. */
int vnc_message(struct vnc_client *c);
void vnc_release_keys(struct vnc_client *c);

/* vnc_update.c */
void vnc_begin_update(struct vnc_client *c); /* if there is something to send */
void vnc_pump(struct vnc_client *c);         /* goes on with the update */
void vnc_update_done(struct vnc_client *c);  /* frees what belongs to updates */
void vnc_set_format(struct vnc_client *c, const struct vnc_format *f);

/* vnc_encode.c */
void vnc_encode(struct vnc_client *c, const struct vnc_rect *r);
void vnc_encode_done(struct vnc_client *c);

/* des.c: the challenge as a client with this password answers it. */
void vnc_des(const uint8_t password[VNC_PASSWORD], const uint8_t challenge[VNC_CHALLENGE],
             uint8_t ret[VNC_CHALLENGE]);

#endif
