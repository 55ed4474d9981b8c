/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VNC server: shows a screen to viewers and takes their keys and pointers.
 * Source: RFC 6143 (RFB 3.8), and the rfbproto community's extensions to it.
 *
 * Contract: the loop's thread, machine lock held. No viewer makes the loop wait: what one of them
 * does not read is kept up to a bound, beyond which nothing is drawn for it. Nothing is drawn
 * while no viewer asks for it.
 */
#ifndef DISPLAY_VNC_H
#define DISPLAY_VNC_H

#include "base/error.h"
#include "display/input.h"
#include "display/screen.h"

struct loop;
struct tls_module;
struct vnc;

struct vnc_options {
    bool on;
    char host[256], port[8]; /* TCP, or */
    char path[108];          /* a unix socket */
    char password_file[1024];
    char tls[1024]; /* folder of the certificate: nothing is offered without TLS; empty: no TLS */
    const struct tls_module *module; /* if so; not of the text */
};

/* "vnc=ADDRESS:PORT|vnc=unix:PATH[,password-file=PATH][,tls=FOLDER]" or "none". */
int vnc_options_parse(const char *text, struct vnc_options *ret, struct error *err);

/* Listens. `name` is that of the machine. */
struct vnc *vnc_open(struct loop *loop, const struct vnc_options *options, const char *name,
                     struct screen *screen, const struct input_sink *input, struct error *err);
/* A client that has come some other way; takes the descriptor, which does not block. */
void vnc_adopt(struct vnc *v, int fd);
void vnc_close(struct vnc *v);             /* accepts NULL; ends all connections */
unsigned vnc_clients(const struct vnc *v); /* that have got past the password */
void vnc_bell(struct vnc *v);

#endif
