/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations on the screen of a machine, as declared to everybody: a part of resource_vm.c. */
#ifndef PROTO_RESOURCE_SCREEN_H
#define PROTO_RESOURCE_SCREEN_H

#define RESOURCE_SCREEN_OPS(done)                                                                  \
    {.name = "screenshot",                                                                         \
     .shape = OP_LOOK,                                                                             \
     .answer = ANSWER_PICTURE,                                                                     \
     .status = 200,                                                                                \
     .permission = "vm.console",                                                                   \
     .help = "A picture of its screen as it is now, as PNG"},                                      \
        {.name = "send-key",                                                                       \
         .shape = OP_ACTION,                                                                       \
         .status = 200,                                                                            \
         .permission = "vm.console",                                                               \
         .help = "Press keys of its keyboard together and let them go",                            \
         .args = {{.name = "keys",                                                                 \
                   .type = FIELD_STRING,                                                           \
                   .flags = FIELD_REQUIRED,                                                        \
                   .min = 1,                                                                       \
                   .max = 200,                                                                     \
                   .help = "names joined by '-', as in ctrl-alt-del: a to z, 0 to 9, f1 to f12, "  \
                           "enter, esc, tab, space, up, pgdn and so on"},                          \
                  {.name = "hold",                                                                 \
                   .type = FIELD_INT,                                                              \
                   .max = 10000,                                                                   \
                   .help = "ms for which they are held down"}},                                    \
         .result = (done)},                                                                        \
        {.name = "type",                                                                           \
         .shape = OP_ACTION,                                                                       \
         .status = 200,                                                                            \
         .permission = "vm.console",                                                               \
         .help = "Type text on its keyboard, which is a US one",                                   \
         .args = {{.name = "text",                                                                 \
                   .type = FIELD_TEXT,                                                             \
                   .flags = FIELD_REQUIRED,                                                        \
                   .min = 1,                                                                       \
                   .max = 4096,                                                                    \
                   .help = "ASCII characters, tabs and new lines, which are Enter"},               \
                  {.name = "enter",                                                                \
                   .type = FIELD_BOOL,                                                             \
                   .standard = "false",                                                            \
                   .help = "press Enter at its end"}},                                             \
         .result = (done)},                                                                        \
    {                                                                                              \
        .name = "pointer", .shape = OP_ACTION, .status = 200, .permission = "vm.console",          \
        .help = "Move its pointer, press its buttons, turn its wheel",                             \
        .args = {{.name = "x",                                                                     \
                  .type = FIELD_INT,                                                               \
                  .flags = FIELD_REQUIRED,                                                         \
                  .max = 65535,                                                                    \
                  .help = "in pixels of the screen, from the left"},                               \
                 {.name = "y",                                                                     \
                  .type = FIELD_INT,                                                               \
                  .flags = FIELD_REQUIRED,                                                         \
                  .max = 65535,                                                                    \
                  .help = "from the top"},                                                         \
                 {.name = "buttons",                                                               \
                  .type = FIELD_STRINGS,                                                           \
                  .min = 1,                                                                        \
                  .max = 3,                                                                        \
                  .pattern = "^(left|middle|right|none)$",                                         \
                  .help = "those that are down from now on; without it as they were"},             \
                 {.name = "click",                                                                 \
                  .type = FIELD_CHOICE,                                                            \
                  .choices = "left|middle|right|double",                                           \
                  .help = "press that button there and let it go; double: the left one twice"},    \
                 {.name = "wheel",                                                                 \
                  .type = FIELD_INT,                                                               \
                  .min = -100,                                                                     \
                  .max = 100,                                                                      \
                  .help = "notches, up is positive"}},                                             \
        .result = (done)                                                                           \
    }

#endif
