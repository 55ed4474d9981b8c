/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands and events of viv-net. A row here and a handler in switch/control.c make a command. */
#include "proto/network.h"

#include <stddef.h>

#define FORWARD                                                                                    \
    { "forward", COMMAND_STRING, true, 1, 95, NULL, "tcp:ADDRESS:PORT:GUESTPORT, or udp:" }

const struct command network_commands[] = {
    {.name = "status",
     .needs = COMMAND_READ,
     .help = "What the network is and what it is doing",
     .answer = "name, version, pid, state (running), subnet, isolated, mtu, connections_each, "
               "limited (frames that would have begun one more), how many ports are plugged in; "
               "open and failed: its forwards; capture, if there is one",
     .example = "status"},
    {.name = "ports",
     .needs = COMMAND_READ,
     .help = "List the ports that are plugged in, and the one that leads out",
     .answer = "ports: name, mac, address; frames and bytes in and out, dropped for want of room, "
               "refused by the rules; queued",
     .example = "ports"},
    {.name = "macs",
     .needs = COMMAND_READ,
     .help = "The switch's table: which addresses were seen where",
     .answer = "macs: mac, vlan, port, age in ms (-1: it is the port's own)",
     .example = "macs"},
    {.name = "members",
     .needs = COMMAND_READ,
     .help = "List the machines of the network, with the addresses that DHCP gives them",
     .answer = "members: name, mac, address, guest (it is not in the configuration)",
     .example = "members"},
    {.name = "reload",
     .needs = COMMAND_OPERATE,
     .help = "Read the configuration again: members and forwards",
     .answer = "as status",
     .example = "reload"},
    {.name = "forward-add",
     .needs = COMMAND_OPERATE,
     .help = "Let a port of the host lead to a machine, until it is removed or viv-net ends",
     .answer = "nothing",
     .example = "forward-add tcp:127.0.0.1:8080:80 web",
     .args = {FORWARD, {"to", COMMAND_STRING, true, 1, 63, NULL, "the machine's name or address"}}},
    {.name = "forward-remove",
     .needs = COMMAND_OPERATE,
     .help = "Close such a port. Connections that came through it live on",
     .answer = "nothing",
     .example = "forward-remove tcp:127.0.0.1:8080:80",
     .args = {FORWARD}},
    {.name = "capture",
     .needs = COMMAND_OPERATE,
     .help = "Write frames to a file for Wireshark or tcpdump, until capture-stop",
     .answer = "nothing",
     .example = "capture /tmp/lan.pcap --port web",
     .args = {{"file", COMMAND_PATH, true, 1, 4000, NULL, "to be made"},
              {"port", COMMAND_STRING, false, 1, 63, NULL,
               "only those from and to this machine; default all"},
              {"limit", COMMAND_INT, false, 1, 1ll << 40, NULL,
               "bytes at most; default 104857600"}}},
    {.name = "capture-stop",
     .needs = COMMAND_OPERATE,
     .help = "End the capture",
     .answer = "file, frames, and error if it had ended before",
     .example = "capture-stop"},
    {.name = "stats",
     .needs = COMMAND_READ,
     .help = "What it has cost so far, and counters",
     .answer = "cpu_seconds and resident_bytes of the process; counters: name, value and help of "
               "each that is not zero",
     .example = "stats"},
    {.name = "events",
     .needs = COMMAND_READ,
     .help = "Be told what happens from now on",
     .answer = "nothing",
     .example = "events",
     .stream = true},
    {.name = "quit",
     .needs = COMMAND_OPERATE,
     .help = "End viv-net at once with code 0",
     .answer = "nothing",
     .example = "quit"},
    {.name = NULL},
};

const struct event network_events[] = {
    {"port", "a machine was plugged in or went", "name, up"},
    {NULL, NULL, NULL},
};
