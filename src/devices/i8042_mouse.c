/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PS/2 mouse, with wheel and five buttons for drivers that ask for them.
 * Source: IBM PS/2 Hardware Interface Technical Reference (May 1988), "Mouse"; Microsoft
 * IntelliMouse extensions: the rates 200, 100, 80 in a row give it a wheel (id 3), then 200, 200,
 * 80 two more buttons (id 4).
 *
 * Movements add up while the guest does not read; a packet is made when the last one is gone.
 */
#include <string.h>

#include "base/trace.h"
#include "devices/i8042_internal.h"
#include "display/input.h"

enum { RATE_START = 100, RESOLUTION_START = 2, ID_WHEEL = 3, ID_BUTTONS = 4 };
enum { STATUS_REMOTE = 0x40, STATUS_ENABLED = 0x20, STATUS_DOUBLE = 0x10 };
enum { PACKET_ONE = 8, PACKET_X_SIGN = 0x10, PACKET_Y_SIGN = 0x20 };

static void send(struct i8042 *k, uint8_t byte) {
    if (k->auxs == I8042_AUX)
        return;
    k->aux[(k->aux_head + k->auxs++) % I8042_AUX] = byte;
    k->mouse_last = byte;
}

/* The protocol's order of buttons: left, right, middle. */
static uint8_t three_buttons(const struct i8042 *k) {
    uint8_t b = k->mouse_buttons;

    return (b & INPUT_LEFT ? 1 : 0) | (b & INPUT_RIGHT ? 2 : 0) | (b & INPUT_MIDDLE ? 4 : 0);
}

/* As much of a movement as fits, which is then gone. */
static int take(int16_t *from, int least, int most) {
    int n = *from < least ? least : *from > most ? most : *from;

    *from = (int16_t)(*from - n);
    return n;
}

static void send_packet(struct i8042 *k) {
    int dx = take(&k->mouse_dx, -255, 255), dy = take(&k->mouse_dy, -255, 255), dz = 0;

    send(k, (uint8_t)(three_buttons(k) | PACKET_ONE | (dx < 0 ? PACKET_X_SIGN : 0) |
                      (dy < 0 ? PACKET_Y_SIGN : 0)));
    send(k, (uint8_t)dx);
    send(k, (uint8_t)dy);
    k->mouse_sent_buttons = k->mouse_buttons;
    if (k->mouse_id < ID_WHEEL) {
        k->mouse_dz = 0;
        return;
    }
    dz = take(&k->mouse_dz, k->mouse_id == ID_BUTTONS ? -8 : -128,
              k->mouse_id == ID_BUTTONS ? 7 : 127);
    if (k->mouse_id == ID_BUTTONS)
        dz = (dz & 0xf) | (k->mouse_buttons & INPUT_SIDE ? 0x10 : 0) |
             (k->mouse_buttons & INPUT_EXTRA ? 0x20 : 0);
    send(k, (uint8_t)dz);
}

static bool moved(const struct i8042 *k) {
    return k->mouse_dx || k->mouse_dy || (k->mouse_dz && k->mouse_id >= ID_WHEEL) ||
           k->mouse_buttons != k->mouse_sent_buttons;
}

/* One packet at a time waits: what comes meanwhile goes into the next. */
static void report(struct i8042 *k) {
    if (k->mouse_enabled && !k->mouse_remote && !k->mouse_wrap && !k->auxs && moved(k))
        send_packet(k);
}

uint8_t i8042_take_aux(struct i8042 *k) {
    uint8_t byte = k->aux[k->aux_head];

    k->aux_head = (k->aux_head + 1) % I8042_AUX;
    k->auxs--;
    report(k);
    return byte;
}

static int16_t add(int16_t a, int b) {
    int sum = a + b;

    return (int16_t)(sum > 2000 ? 2000 : sum < -2000 ? -2000 : sum);
}

bool i8042_mouse_ready(const struct device *dev) {
    const struct i8042 *k = (const struct i8042 *)dev;

    return k->has_mouse && k->mouse_enabled;
}

void i8042_mouse(struct device *dev, int dx, int dy, int wheel, unsigned buttons) {
    struct i8042 *k = (struct i8042 *)dev;

    if (!i8042_mouse_ready(dev))
        return;
    k->mouse_dx = add(k->mouse_dx, dx);
    k->mouse_dy = add(k->mouse_dy, -dy);
    k->mouse_dz = add(k->mouse_dz, -wheel);
    /* A button that goes down and up before the guest has read either would be lost. */
    if (buttons != k->mouse_buttons && k->mouse_buttons != k->mouse_sent_buttons &&
        k->mouse_enabled && k->auxs <= I8042_AUX - 8)
        send_packet(k);
    k->mouse_buttons = buttons & 31;
    report(k);
    i8042_refill(k);
}

static void defaults(struct i8042 *k) {
    k->auxs = 0;
    k->mouse_command = 0;
    k->mouse_enabled = k->mouse_remote = k->mouse_wrap = k->mouse_double = false;
    k->mouse_rate = RATE_START;
    k->mouse_resolution = RESOLUTION_START;
    k->mouse_dx = k->mouse_dy = k->mouse_dz = 0;
}

void i8042_mouse_reset(struct i8042 *k) {
    defaults(k);
    k->aux_head = k->mouse_last = k->mouse_id = 0;
    k->mouse_buttons = k->mouse_sent_buttons = 0;
    memset(k->aux, 0, sizeof(k->aux));
    memset(k->mouse_knock, 0, sizeof(k->mouse_knock));
}

static void set_rate(struct i8042 *k, uint8_t rate) {
    const uint8_t *last = k->mouse_knock;

    if (last[0] == 200 && last[1] == 100 && rate == 80)
        k->mouse_id = ID_WHEEL;
    else if (last[0] == 200 && last[1] == 200 && rate == 80 && k->mouse_id == ID_WHEEL)
        k->mouse_id = ID_BUTTONS;
    k->mouse_knock[0] = k->mouse_knock[1];
    k->mouse_knock[1] = rate;
    k->mouse_rate = rate;
}

static void parameter(struct i8042 *k, uint8_t byte) {
    uint8_t command = k->mouse_command;

    k->mouse_command = 0;
    if (command == 0xf3)
        set_rate(k, byte);
    else
        k->mouse_resolution = byte & 3;
    send(k, PS2_ACK);
}

static void send_status(struct i8042 *k) {
    uint8_t b = k->mouse_buttons;

    send(k,
         (uint8_t)((k->mouse_remote ? STATUS_REMOTE : 0) | (k->mouse_enabled ? STATUS_ENABLED : 0) |
                   (k->mouse_double ? STATUS_DOUBLE : 0) | (b & INPUT_LEFT ? 4 : 0) |
                   (b & INPUT_MIDDLE ? 2 : 0) | (b & INPUT_RIGHT ? 1 : 0)));
    send(k, k->mouse_resolution);
    send(k, k->mouse_rate);
}

static void command(struct i8042 *k, uint8_t byte) {
    k->auxs = 0; /* a command cancels what is being sent */
    send(k, PS2_ACK);
    switch (byte) {
    case 0xe6:
    case 0xe7:
        k->mouse_double = byte == 0xe7;
        break;
    case 0xe8:
    case 0xf3:
        k->mouse_command = byte;
        break;
    case 0xe9:
        send_status(k);
        break;
    case 0xea:
    case 0xf0:
        k->mouse_remote = byte == 0xf0;
        break;
    case 0xeb:
        send_packet(k);
        break;
    case 0xec:
        break;
    case 0xee:
        k->mouse_wrap = true;
        break;
    case 0xf2:
        send(k, k->mouse_id);
        break;
    case 0xf4:
    case 0xf5:
        k->mouse_enabled = byte == 0xf4;
        k->mouse_dx = k->mouse_dy = k->mouse_dz = 0;
        k->mouse_sent_buttons = k->mouse_buttons;
        break;
    case 0xf6:
        defaults(k);
        send(k, PS2_ACK);
        break;
    case 0xff:
        defaults(k);
        k->mouse_id = 0;
        send(k, PS2_ACK);
        send(k, PS2_BAT_OK);
        send(k, 0);
        break;
    default:
        trace(i8042_unknown, byte);
        k->auxs = 0;
        send(k, PS2_RESEND);
        break;
    }
}

void i8042_mouse_receive(struct i8042 *k, uint8_t byte) {
    if (k->mouse_wrap && byte != 0xff && byte != 0xec) {
        send(k, byte);
        return;
    }
    k->mouse_wrap = false;
    if (k->mouse_command)
        parameter(k, byte);
    else if (byte == 0xfe)
        send(k, k->mouse_last);
    else
        command(k, byte);
}
