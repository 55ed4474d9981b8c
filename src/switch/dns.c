/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DNS: one question, and its answer out of the directory. */
#include "switch/dns.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"

/* 0 id, 2 flags, 4 questions, 6 answers, 8 authorities, 10 additional */
enum { HEADER = 12, QR = 0x8000, OPCODE = 0x7800, AA = 0x0400, RD = 0x0100, RA = 0x0080 };
enum { NO_ERROR = 0, FORMAT = 1, NAME_ERROR = 3, NOT_IMPLEMENTED = 4, REFUSED = 5 };
enum { A = 1, PTR = 12, AAAA = 28, ANY = 255, IN = 1, CLASS_ANY = 255 };
enum { POINTER = 0xc000 };

struct question {
    char name[DNS_NAME_MAX + 1]; /* dotted, without the root's dot */
    uint16_t type, cls;
    size_t end; /* behind it in the message */
};

size_t dns_encode_name(const char *name, uint8_t *out) {
    size_t at = 0;

    while (*name) {
        size_t n = strcspn(name, ".");

        if (!n || n > 63 || at + n + 2 > DNS_NAME_MAX)
            return 0;
        out[at++] = (uint8_t)n;
        memcpy(out + at, name, n);
        at += n;
        name += n + (name[n] == '.');
    }
    out[at++] = 0;
    return at;
}

/* A question has no compressed names (there is nothing before it). Labels with bytes that no name
 * of ours has make a name that matches none: their dots are turned into question marks. */
static bool read_question(const uint8_t *data, size_t len, struct question *q) {
    size_t at = HEADER, n = 0;

    for (;;) {
        size_t label;

        if (at >= len || (label = data[at++]) > 63 || label > len - at)
            return false;
        if (!label)
            break;
        if (n + label + 1 > DNS_NAME_MAX)
            return false;
        if (n)
            q->name[n++] = '.';
        for (size_t i = 0; i < label; i++, at++)
            q->name[n++] =
                data[at] > 0x20 && data[at] < 0x7f && data[at] != '.' ? (char)data[at] : '?';
    }
    q->name[n] = 0;
    if (len - at < 4)
        return false;
    q->type = load_be16(data + at);
    q->cls = load_be16(data + at + 2);
    q->end = at + 4;
    return true;
}

/* ------------------------------------------------------------------ what is known */

/* Cuts the ending off; false: it is not there. */
static bool strip(char *name, const char *ending) {
    size_t n = strlen(name), m = strlen(ending);

    if (n < m || strcasecmp(name + n - m, ending) != 0 || (n > m && name[n - m - 1] != '.'))
        return false;
    name[n > m ? n - m - 1 : 0] = 0;
    return true;
}

/* The address that a name of the network has; 0: there is no such name. */
static uint32_t address_of(const struct directory *d, const char *name) {
    const struct member *m = directory_by_name(d, name);

    if (m)
        return m->address;
    return strcasecmp(name, "gateway") ? 0 : directory_gateway(d);
}

/* "10.0.77.10.in-addr.arpa" without its ending, of this subnet. */
static bool reverse_address(const struct directory *d, const char *name, uint32_t *ret) {
    unsigned b[4];
    char rest;

    if (strspn(name, "0123456789.") != strlen(name) ||
        sscanf(name, "%3u.%3u.%3u.%3u%c", &b[3], &b[2], &b[1], &b[0], &rest) != 4 || b[0] > 255 ||
        b[1] > 255 || b[2] > 255 || b[3] > 255)
        return false;
    *ret = b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
    return (*ret & subnet_mask(&d->subnet)) == d->subnet.network;
}

static const char *name_of(const struct directory *d, uint32_t address) {
    const struct member *m = directory_by_address(d, address);

    if (m && *m->name)
        return m->name;
    return address == directory_gateway(d) ? "gateway" : NULL;
}

/* ------------------------------------------------------------------ answers */

static void finish(uint8_t *out, unsigned code, unsigned answers) {
    uint16_t flags = load_be16(out + 2);

    flags = (uint16_t)((flags & (OPCODE | RD)) | QR | RA | (code == REFUSED ? 0 : AA) | code);
    store_be16(out + 2, flags);
    store_be16(out + 6, (uint16_t)answers);
    memset(out + 8, 0, 4);
}

static size_t put_record(uint8_t *out, size_t at, uint16_t type, const uint8_t *data, size_t n) {
    store_be16(out + at, POINTER | HEADER); /* the name of the question */
    store_be16(out + at + 2, type);
    store_be16(out + at + 4, IN);
    store_be32(out + at + 6, DNS_TTL);
    store_be16(out + at + 10, (uint16_t)n);
    memcpy(out + at + 12, data, n);
    return at + 12 + n;
}

static size_t answer_address(uint8_t *out, const struct question *q, uint32_t address) {
    bool wanted = address && (q->type == A || q->type == ANY);
    size_t end = q->end;
    uint8_t data[4];

    store_be32(data, address);
    if (wanted)
        end = put_record(out, end, A, data, sizeof(data));
    finish(out, address ? NO_ERROR : NAME_ERROR, wanted);
    return end;
}

static size_t answer_name(uint8_t *out, const struct question *q, const char *name) {
    bool wanted = name && (q->type == PTR || q->type == ANY);
    char full[DNS_NAME_MAX + 1];
    uint8_t data[DNS_NAME_MAX];
    size_t end = q->end, n;

    if (wanted) {
        snprintf(full, sizeof(full), "%s." DNS_DOMAIN, name);
        n = dns_encode_name(full, data);
        end = put_record(out, end, PTR, data, n);
    }
    finish(out, name ? NO_ERROR : NAME_ERROR, wanted);
    return end;
}

static size_t only(uint8_t *out, size_t len, unsigned code) {
    finish(out, code, 0);
    return len;
}

/* 0: it is not ours. */
static size_t answer_question(const struct directory *d, bool alone, const struct question *q,
                              uint8_t *out) {
    char name[DNS_NAME_MAX + 1];
    uint32_t address;

    memcpy(name, q->name, sizeof(name));
    if (q->cls != IN && q->cls != CLASS_ANY)
        return alone ? only(out, q->end, REFUSED) : 0;
    if (strip(name, DNS_DOMAIN)) {
        if (!*name) /* the domain itself is there, and has nothing */
            return only(out, q->end, NO_ERROR);
        return answer_address(out, q, address_of(d, name));
    }
    if (strip(name, "in-addr.arpa") && reverse_address(d, name, &address))
        return answer_name(out, q, name_of(d, address));
    /* The address of one word is of this network or of none; nobody outside needs to hear of it. */
    if (*q->name && !strchr(q->name, '.') && (q->type == A || q->type == AAAA || q->type == ANY))
        return answer_address(out, q, address_of(d, q->name));
    return alone ? only(out, q->end, REFUSED) : 0;
}

enum dns_result dns_answer(const struct directory *d, bool alone, const uint8_t *data, size_t len,
                           uint8_t *out, size_t *ret_len) {
    struct question q = {.end = HEADER};
    uint16_t flags;

    if (len < HEADER || ((flags = load_be16(data + 2)) & QR))
        return DNS_DROP;
    memcpy(out, data, HEADER);
    store_be16(out + 4, 0);
    if (flags & OPCODE)
        *ret_len = alone ? only(out, HEADER, NOT_IMPLEMENTED) : 0;
    else if (load_be16(data + 4) != 1 || !read_question(data, len, &q))
        *ret_len = only(out, HEADER, FORMAT);
    else {
        memcpy(out, data, q.end); /* at most HEADER + DNS_NAME_MAX + 4 bytes, so there is room */
        *ret_len = answer_question(d, alone, &q, out);
    }
    return *ret_len ? DNS_ANSWER : DNS_PASS;
}
