/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A capture of frames in a file that Wireshark and tcpdump read: libpcap's format with nanoseconds
 * (draft-ietf-opsawg-pcap), link type Ethernet.
 *
 * Contract: one thread. Frames are collected and written in larger pieces; a file that cannot be
 * written or has reached its limit ends the capture, and pcap_error says why.
 */
#ifndef SWITCH_PCAP_H
#define SWITCH_PCAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct pcap;

/* Makes the file; one that is there stays as it is. */
struct pcap *pcap_new(const char *path, uint64_t limit, struct error *err);
void pcap_put(struct pcap *p, const uint8_t *frame, size_t len);
void pcap_flush(struct pcap *p);
const char *pcap_path(const struct pcap *p);
const char *pcap_error(const struct pcap *p); /* "": it goes on */
uint64_t pcap_frames(const struct pcap *p);
void pcap_free(struct pcap *p); /* writes what is left; accepts NULL */

#endif
