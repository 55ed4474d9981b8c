/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handshake: version, security, password, names and formats.
 * Source: RFC 6143, 7.1 to 7.3; 7.2.2 for the password, of which the protocol looks at 8 bytes.
 *
 * Somebody who guesses is answered after five wrong passwords only every ten seconds, whoever asks.
 */
#include <stdio.h>
#include <sys/random.h>

#include "display/vnc_internal.h"

enum { VERSION_LENGTH = 12, GUESSES = 5, LOCK_MS = 10000 };

void vnc_put_be32(struct vnc_client *c, uint32_t v) {
    uint8_t b[4];

    store_be32(b, v);
    vnc_put(c, b, sizeof(b));
}

static void put_text(struct vnc_client *c, const char *text) {
    vnc_put_be32(c, (uint32_t)strlen(text));
    vnc_put(c, text, strlen(text));
}

void vnc_greet(struct vnc_client *c) { vnc_put(c, "RFB 003.008\n", VERSION_LENGTH); }

void vnc_send_away(struct vnc_client *c, const char *why) {
    vnc_put_be32(c, 1);
    if (c->minor >= 8)
        put_text(c, why);
    c->leaving = true;
    vnc_flush(c);
}

int vnc_send_challenge(struct vnc_client *c) {
    if (getrandom(c->challenge, sizeof(c->challenge), 0) != sizeof(c->challenge)) {
        vnc_drop(c);
        return -1;
    }
    vnc_put(c, c->challenge, sizeof(c->challenge));
    c->state = VNC_AUTH;
    return 0;
}

void vnc_let_in(struct vnc_client *c) {
    if (c->minor >= 8)
        vnc_put_be32(c, 0);
    c->state = VNC_INIT;
}

static int take_version(struct vnc_client *c) {
    unsigned major, minor;
    char text[VERSION_LENGTH + 1] = "";
    uint8_t types[2] = {1};

    if (c->in_len < VERSION_LENGTH)
        return 0;
    memcpy(text, c->in, VERSION_LENGTH);
    if (sscanf(text, "RFB %3u.%3u", &major, &minor) != 2 || major < 3) {
        vnc_drop(c);
        return -1;
    }
    /* Some clients say 3.889 and mean 3.8; all other numbers mean 3.3 (7.1.1). */
    c->minor = major > 3 || minor >= 8 ? 8 : minor == 7 ? 7 : 3;
    c->security = c->vnc->tls            ? VNC_SECURITY_VENCRYPT
                  : c->vnc->has_password ? VNC_SECURITY_VNC
                                         : VNC_SECURITY_NONE;
    if (c->minor == 3 && c->vnc->tls) { /* it cannot choose, and nothing else is offered */
        vnc_put_be32(c, 0);
        put_text(c, "This server wants TLS (VeNCrypt), which RFB 3.3 does not know.");
        c->leaving = true;
        vnc_flush(c);
        return -1;
    }
    if (c->minor == 3) { /* the server chooses */
        vnc_put_be32(c, c->security);
        c->state = VNC_INIT;
        if (c->vnc->has_password && vnc_send_challenge(c) < 0)
            return -1;
    } else {
        types[1] = c->security;
        vnc_put(c, types, sizeof(types));
        c->state = VNC_SECURITY;
    }
    vnc_flush(c);
    return VERSION_LENGTH;
}

static int take_security(struct vnc_client *c) {
    if (c->in[0] != c->security) {
        vnc_send_away(c, "This security type was not offered.");
        return -1;
    }
    if (c->security == VNC_SECURITY_VENCRYPT) {
        static const uint8_t version[] = {0, 2};

        vnc_put(c, version, sizeof(version));
        c->state = VNC_VENCRYPT;
    } else if (c->security == VNC_SECURITY_VNC) {
        if (vnc_send_challenge(c) < 0)
            return -1;
    } else {
        vnc_let_in(c);
    }
    vnc_flush(c);
    return 1;
}

int vnc_judge(struct vnc_client *c, bool right) {
    struct vnc *v = c->vnc;

    if (timer_now_ms() < v->locked_until) {
        vnc_send_away(c, "Too many wrong passwords: wait ten seconds.");
        return -1;
    }
    if (!right) {
        if (++v->failures >= GUESSES)
            v->locked_until = timer_now_ms() + LOCK_MS;
        vnc_send_away(c, "The password is wrong.");
        return -1;
    }
    v->failures = 0;
    return 0;
}

static int take_password(struct vnc_client *c) {
    uint8_t wanted[VNC_CHALLENGE], differ = 0;

    if (c->in_len < VNC_CHALLENGE)
        return 0;
    vnc_des((const uint8_t *)c->vnc->password, c->challenge, wanted);
    for (unsigned i = 0; i < VNC_CHALLENGE; i++)
        differ |= wanted[i] ^ c->in[i];
    if (vnc_judge(c, !differ) < 0)
        return -1;
    vnc_put_be32(c, 0);
    c->state = VNC_INIT;
    vnc_flush(c);
    return VNC_CHALLENGE;
}

static void put_server_init(struct vnc_client *c) {
    uint8_t b[20] = {0};

    store_be16(b, (uint16_t)c->width);
    store_be16(b + 2, (uint16_t)c->height);
    b[4] = c->format.bpp;
    b[5] = c->format.depth;
    b[7] = 1; /* true colour */
    for (unsigned i = 0; i < 3; i++) {
        store_be16(b + 8 + 2 * i, c->format.max[i]);
        b[14 + i] = c->format.shift[i];
    }
    vnc_put(c, b, sizeof(b));
    put_text(c, c->vnc->name);
}

static int take_init(struct vnc_client *c) {
    static const struct vnc_format own = {32, 24, false, true, {255, 255, 255}, {16, 8, 0}};
    struct vnc *v = c->vnc;

    if (!c->in[0]) /* it wants to be alone */
        for (struct vnc_client *other = v->clients; other; other = other->next)
            if (other != c && other->state == VNC_RUNNING)
                vnc_drop(other);
    timer_stop(&c->deadline);
    screen_watch_add(v->screen, &c->look);
    screen_refresh(v->screen);
    c->look.resized = false;
    c->width = v->screen->width;
    c->height = v->screen->height;
    vnc_set_format(c, &own);
    put_server_init(c);
    c->state = VNC_RUNNING;
    vnc_flush(c);
    return 1;
}

int vnc_login(struct vnc_client *c) {
    switch (c->state) {
    case VNC_VERSION:
        return take_version(c);
    case VNC_SECURITY:
        return take_security(c);
    case VNC_VENCRYPT:
    case VNC_SUBTYPE:
    case VNC_PLAIN:
        return vnc_vencrypt(c);
    case VNC_TLS: /* its bytes are OpenSSL's */
        return 0;
    case VNC_AUTH:
        return take_password(c);
    default:
        return take_init(c);
    }
}
