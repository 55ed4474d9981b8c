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
#include "proto/tls_module.h"

// clang-format off
enum {
    VNC_MAX_CLIENTS = 16, VNC_IN = 4096, VNC_OUT_HIGH = 512 * 1024, /* nothing more is drawn */
    VNC_RECT_H = 64, VNC_CUT_MAX = 1 << 20, VNC_HANDSHAKE_MS = 20000, VNC_PASSWORD = 8, VNC_CHALLENGE = 16,
    VNC_PASSWORD_MAX = 255, /* of those that are sent whole, under TLS */
};
enum vnc_state {
    VNC_VERSION, VNC_SECURITY, VNC_VENCRYPT, VNC_SUBTYPE, VNC_TLS, VNC_AUTH, VNC_PLAIN, VNC_INIT, VNC_RUNNING,
};
enum vnc_security { VNC_SECURITY_NONE = 1, VNC_SECURITY_VNC = 2, VNC_SECURITY_VENCRYPT = 19 };
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
    int fd;               /* -1: gone, to be freed */
    struct stream stream; /* of fd */
    bool secure;          /* under TLS, from its handshake on */
    struct loop_watch *watch;
    struct timer deadline; /* of the handshake */
    enum vnc_state state;
    unsigned minor; /* of protocol 3 */
    uint8_t security;
    uint32_t subtype; /* of VeNCrypt */
    bool wants_tls;   /* when all that was said in the clear is sent */
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
    unsigned inside;                     /* callbacks that may hold a client */
    char password[VNC_PASSWORD_MAX + 1]; /* padded with zeros */
    bool has_password;
    struct tls *tls;       /* NULL: none */
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
/* What follows a choice or a password: from 3.8 on with a reason. */
void vnc_send_away(struct vnc_client *c, const char *why);
int vnc_send_challenge(struct vnc_client *c);
void vnc_let_in(struct vnc_client *c); /* nothing is to be proved any more */
void vnc_put_be32(struct vnc_client *c, uint32_t v);
/* 0, or negative: it was sent away for this, or for too many like it. */
int vnc_judge(struct vnc_client *c, bool right);

/* vnc_tls.c: VeNCrypt. As of vnc_login, and what comes before it. */
int vnc_tls_open(struct vnc *v, struct error *err);
int vnc_vencrypt(struct vnc_client *c);
/* Bytes of a client, whichever way they go: as of proto/stream.h. */
ssize_t vnc_recv(struct vnc_client *c, void *p, size_t n);
ssize_t vnc_send(struct vnc_client *c, const void *p, size_t n);
bool vnc_pending(const struct vnc_client *c);
uint32_t vnc_events(const struct vnc_client *c, bool read, bool write);
void vnc_hang_up(struct vnc_client *c);
void vnc_tls_begin(struct vnc_client *c); /* all that was said in the clear is sent */
void vnc_tls_go_on(struct vnc_client *c); /* something has come during the handshake */

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
