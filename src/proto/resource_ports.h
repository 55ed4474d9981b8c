/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * By what a machine is reached besides its networks: serial ports and a place for VNC viewers, as
 * declared to everybody: a part of resource_vm.c. host/vm_ports.c makes it true.
 */
#ifndef PROTO_RESOURCE_PORTS_H
#define PROTO_RESOURCE_PORTS_H

/* Not FIELD_ALWAYS: machines that an older manager made do not have them. */
#define PORTS_START (FIELD_CREATE | FIELD_UPDATE | FIELD_START)

#define RESOURCE_PORTS                                                                             \
    {.name = "serial_ports",                                                                       \
     .type = FIELD_INT,                                                                            \
     .place = FIELD_SPEC,                                                                          \
     .flags = PORTS_START,                                                                         \
     .min = 1,                                                                                     \
     .max = 4,                                                                                     \
     .standard = "1",                                                                              \
     .help = "how many serial ports it has, COM1 to COM4; the console is at each of them"},        \
        {.name = "vnc",                                                                            \
         .type = FIELD_STRING,                                                                     \
         .place = FIELD_SPEC,                                                                      \
         .flags = PORTS_START,                                                                     \
         .min = 1,                                                                                 \
         .max = 100,                                                                               \
         .pattern = "^(none|([0-9.]+|localhost|\\[[0-9a-fA-F:.]+\\]):[1-9][0-9]{0,4})$",           \
         .standard = "\"none\"",                                                                   \
         .help = "where VNC viewers reach its screen without the manager, ADDRESS:PORT of this "   \
                 "host; from elsewhere than this host only with a password"},                      \
        {.name = "vnc_tls",                                                                        \
         .type = FIELD_BOOL,                                                                       \
         .place = FIELD_SPEC,                                                                      \
         .flags = PORTS_START,                                                                     \
         .standard = "false",                                                                      \
         .help = "nothing but TLS there; the certificate is vnc-tls/cert.pem in the machine's "    \
                 "folder, made if there is none"},                                                 \
    {                                                                                              \
        .name = "vnc_password_file", .type = FIELD_STRING, .place = FIELD_SPEC,                    \
        .flags = PORTS_START | FIELD_FILE, .min = 1, .max = 1000, .pattern = "^(none|/[^,]*)$",    \
        .standard = "\"none\"",                                                                    \
        .help = "file of this host whose first line is the password that viewers there must know"  \
    }

#define CONSOLE_PORT                                                                               \
    {                                                                                              \
        .name = "port", .type = FIELD_INT, .min = 1, .max = 4, .standard = "1",                    \
        .help = "which of its serial ports"                                                        \
    }

#endif
