/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine is built of and how it boots, as declared to everybody: a part of resource_vm.c.
 * host/vm_hardware.c makes it true.
 */
#ifndef PROTO_RESOURCE_HARDWARE_H
#define PROTO_RESOURCE_HARDWARE_H

#define HARDWARE_CHANGE (FIELD_CREATE | FIELD_UPDATE | FIELD_ALWAYS)
#define HARDWARE_START  (HARDWARE_CHANGE | FIELD_START)

#define RESOURCE_HARDWARE                                                                          \
    {.name = "firmware",                                                                           \
     .type = FIELD_STRING,                                                                         \
     .place = FIELD_SPEC,                                                                          \
     .flags = HARDWARE_START | FIELD_FILE,                                                         \
     .min = 1,                                                                                     \
     .max = 4000,                                                                                  \
     .pattern = "^(auto|none|bios|uefi|uefi-secure|/.*)$",                                         \
     .standard = "\"auto\"",                                                                       \
     .help = "what boots it: none is the image's kernel, directly; bios (SeaBIOS); uefi (OVMF); "  \
             "uefi-secure, which starts only what is signed; "                                     \
             "a file with a ROM image; auto takes what the image needs"},                          \
        {.name = "boot",                                                                           \
         .type = FIELD_STRING,                                                                     \
         .place = FIELD_SPEC,                                                                      \
         .flags = HARDWARE_CHANGE | FIELD_LIVE | FIELD_JOIN,                                       \
         .min = 0,                                                                                 \
         .max = 80,                                                                                \
         .pattern = "^((volume:[a-z0-9][a-z0-9.-]*|disk|cdrom|network)"                            \
                    "(,(disk|cdrom|network)){0,3})?$",                                             \
         .standard = "\"\"",                                                                       \
         .help = "what firmware tries, in this order: disk, cdrom, network, with commas between; " \
                 "without it disk,cdrom,network; volume:NAME in front is a volume of it that "     \
                 "comes before all. Of one that runs from its next reset on"},                     \
        {.name = "cdrom",                                                                          \
         .type = FIELD_STRING,                                                                     \
         .place = FIELD_SPEC,                                                                      \
         .flags = HARDWARE_CHANGE | FIELD_FILE,                                                    \
         .min = 1,                                                                                 \
         .max = 4000,                                                                              \
         .pattern = "^(none|empty|/.*)$",                                                          \
         .standard = "\"none\"",                                                                   \
         .help =                                                                                   \
             "medium in its optical drive: the file of an image (ISO); empty: a drive without "    \
             "one; none: no drive. Media may change while it runs, the drive comes and goes "      \
             "with a start"},                                                                      \
        {.name = "vga",                                                                            \
         .type = FIELD_CHOICE,                                                                     \
         .place = FIELD_SPEC,                                                                      \
         .flags = HARDWARE_START,                                                                  \
         .choices = "none|std|virtio",                                                             \
         .standard = "\"none\"",                                                                   \
         .help = "its display adapter: std is a VGA that every guest knows, virtio is for guests " \
                 "with a driver; both with keyboard and pointer"},                                 \
        {.name = "bus",                                                                            \
         .type = FIELD_CHOICE,                                                                     \
         .place = FIELD_SPEC,                                                                      \
         .flags = HARDWARE_START,                                                                  \
         .choices = "virtio|scsi|nvme|sata|ide",                                                   \
         .standard = "\"virtio\"",                                                                 \
         .help = "where its own disk hangs: scsi is virtio's; sata, nvme and ide are for guests "  \
                 "without drivers for virtio"},                                                    \
    {                                                                                              \
        .name = "smbios", .type = FIELD_STRINGS, .place = FIELD_SPEC, .flags = HARDWARE_START,     \
        .min = 1, .max = 32, .pattern = "^[a-z]+(-[a-z]+)?=.*$", .standard = "[]",                 \
        .help = "what its dmidecode shows, each FIELD=TEXT: manufacturer, product, version, "      \
                "serial, sku, family, uuid, oem, board-serial, chassis-asset and so on; the UUID " \
                "is the machine's own without it"                                                  \
    }

#define RESOURCE_HARDWARE_SEEN                                                                     \
    {.name = "uuid",                                                                               \
     .type = FIELD_STRING,                                                                         \
     .place = FIELD_STATUS,                                                                        \
     .max = 36,                                                                                    \
     .help = "that its firmware tables tell the guest"},                                           \
        {.name = "boots_by",                                                                       \
         .type = FIELD_STRING,                                                                     \
         .place = FIELD_STATUS,                                                                    \
         .max = 4000,                                                                              \
         .help = "what booted it last: kernel, bios, uefi or a file with a ROM image"},            \
        {.name = "cpu_used",                                                                       \
         .type = FIELD_CHOICE,                                                                     \
         .place = FIELD_STATUS,                                                                    \
         .choices = "kvm|soft|ref",                                                                \
         .help = "what executes its guest's instructions now"},                                    \
        {.name = "cpu_why",                                                                        \
         .type = FIELD_STRING,                                                                     \
         .place = FIELD_STATUS,                                                                    \
         .max = 400,                                                                               \
         .help = "why it is that one"},                                                            \
        {.name = "medium",                                                                         \
         .type = FIELD_STRING,                                                                     \
         .place = FIELD_STATUS,                                                                    \
         .max = 4000,                                                                              \
         .help = "that is in its optical drive now"},                                              \
    {                                                                                              \
        .name = "medium_error", .type = FIELD_STRING, .place = FIELD_STATUS, .max = 2000,          \
        .help = "why the medium is not the one that is wanted; it is tried again and again"        \
    }

#define RESOURCE_HARDWARE_OPS                                                                      \
    {.name = "insert",                                                                             \
     .shape = OP_ACTION,                                                                           \
     .status = 200,                                                                                \
     .permission = "vm.update",                                                                    \
     .help = "Put a medium into its optical drive, in the place of the one that is there",         \
     .args = {{.name = "file",                                                                     \
               .type = FIELD_STRING,                                                               \
               .flags = FIELD_REQUIRED,                                                            \
               .min = 1,                                                                           \
               .max = 4000,                                                                        \
               .pattern = "^/",                                                                    \
               .help = "image of the medium (ISO)"},                                               \
              {.name = "force",                                                                    \
               .type = FIELD_BOOL,                                                                 \
               .standard = "false",                                                                \
               .help = "also when the guest has locked the tray"}}},                               \
    {                                                                                              \
        .name = "eject", .shape = OP_ACTION, .status = 200, .permission = "vm.update",             \
        .help = "Take the medium out of its optical drive", .args = {                              \
            {.name = "force",                                                                      \
             .type = FIELD_BOOL,                                                                   \
             .standard = "false",                                                                  \
             .help = "also when the guest has locked the tray"}                                    \
        }                                                                                          \
    }

#endif
