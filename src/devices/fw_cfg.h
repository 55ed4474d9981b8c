/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What firmware asks its machine: class `fw_cfg`. Source: QEMU docs/specs/fw_cfg.
 *
 * Regions: 0 = selector (16 bit) and data (8 bit), 2 ports (0x510); 1 = address of a DMA request,
 * big-endian, 8 ports (0x514). Items are numbered; those with a name stand in the directory. The
 * board sets them while it is built, in the same order in each machine with the same
 * configuration: numbers of files, and so the selection in a saved state, follow from the order.
 * The contents are the board's and no part of the state.
 */
#ifndef DEVICES_FW_CFG_H
#define DEVICES_FW_CFG_H

#include "devices/device.h"

enum { FW_CFG_FILES = 40, FW_CFG_NAME_MAX = 55, FW_CFG_ANSWER_SIZE = 8 };
enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_NUMA = 0x0d,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_IRQ0_OVERRIDE = 0x8002,
};

struct fw_cfg_config {  /* NULL: no such file */
    const char *answer; /* the one file that the guest writes, 8 bytes, zeros after a reset */
};

/* Copies; what had this number or name before is replaced. */
int fw_cfg_set(struct device *dev, unsigned key, const void *data, size_t size, struct error *err);
int fw_cfg_set_file(struct device *dev, const char *name, const void *data, size_t size,
                    struct error *err);
int fw_cfg_set_number(struct device *dev, unsigned key, unsigned bytes, uint64_t value,
                      struct error *err);

/* A file whose bytes belong to somebody else, who also saves and resets them. */
struct fw_cfg_shared {
    uint8_t *data;
    uint32_t size;
    bool writable;                /* by the guest */
    void (*chosen)(void *opaque); /* before the guest reads or writes it; NULL allowed */
    void *opaque;
};
int fw_cfg_share_file(struct device *dev, const char *name, const struct fw_cfg_shared *shared,
                      struct error *err);

/* What the guest has written into the answer. */
const uint8_t *fw_cfg_answer(const struct device *dev);

#endif
