/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host that a machine has, as declared to everybody: a part of resource_vm.c.
 * host/vm_devices.c makes it true (docs/vfio.md).
 */
#ifndef PROTO_RESOURCE_DEVICES_H
#define PROTO_RESOURCE_DEVICES_H

/* As many as viv-vm takes. */
#define DEVICES_MOST 8
/* A PCI address, in full or without the domain, or the UUID of a mediated device. */
#define DEVICE_WORD                                                                                \
    "(vfio=)?(([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}[.][0-7]|"                            \
    "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"

#define DEVICE_ARG                                                                                 \
    {                                                                                              \
        .name = "device", .type = FIELD_STRING, .flags = FIELD_REQUIRED, .min = 7, .max = 41,      \
        .pattern = "^" DEVICE_WORD "$", .help = "its PCI address, or the UUID of a mediated one"   \
    }

#define RESOURCE_DEVICES                                                                           \
    {                                                                                              \
        .name = "devices", .type = FIELD_STRINGS, .place = FIELD_SPEC,                             \
        .flags = FIELD_CREATE | FIELD_UPDATE | FIELD_LIVE | FIELD_ADMIN, .min = 1,                 \
        .max = DEVICES_MOST, .pattern = "^" DEVICE_WORD "$", .standard = "[]",                     \
        .help = "devices of the host that are its own meanwhile: PCI addresses (0000:03:00.0), "   \
                "UUIDs of mediated ones; 'viv host devices' lists them. One that runs has them "   \
                "at once. For admins"                                                              \
    }

#define RESOURCE_DEVICES_SEEN                                                                      \
    {.name = "host_devices",                                                                       \
     .type = FIELD_STRINGS,                                                                        \
     .place = FIELD_STATUS,                                                                        \
     .min = 1,                                                                                     \
     .max = DEVICES_MOST,                                                                          \
     .help = "devices of the host that it has now"},                                               \
        {.name = "device_errors",                                                                  \
         .type = FIELD_OBJECT,                                                                     \
         .place = FIELD_STATUS,                                                                    \
         .help = "devices of the host that cannot be plugged in or let go of now, and why; it is " \
                 "tried again"},                                                                   \
    {                                                                                              \
        .name = "lent", .type = FIELD_OBJECT, .place = FIELD_STATUS,                               \
        .help = "devices that were taken from a driver of the host for it, and that driver, which" \
                " gets them back"                                                                  \
    }

#define RESOURCE_DEVICES_OPS                                                                       \
    {.name = "device-add",                                                                         \
     .shape = OP_ACTION,                                                                           \
     .status = 200,                                                                                \
     .permission = "vm.lend",                                                                      \
     .help = "Give it a device of the host, at once if it runs, and after each start. A manager "  \
             "that is root takes it from the host's driver, and gives it back afterwards",         \
     .args = {DEVICE_ARG}},                                                                        \
    {                                                                                              \
        .name = "device-remove", .shape = OP_ACTION, .status = 200, .permission = "vm.update",     \
        .help = "Take a device of the host away; the guest of one that runs is asked to let go "   \
                "of it",                                                                           \
        .args = {                                                                                  \
            DEVICE_ARG,                                                                            \
            {.name = "force",                                                                      \
             .type = FIELD_BOOL,                                                                   \
             .standard = "false",                                                                  \
             .help = "pull it out at once, as a card; the guest is not asked"}                     \
        }                                                                                          \
    }

#endif
