/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How software asks for a system management interrupt: class `smi`, of the ICH9 the SMI control
 * and status registers and the ports of advanced power management.
 *
 * Regions, with the place that PMBASE 0x600 gives them: 0 = SMI_EN and SMI_STS, 8 ports (0x630),
 * 1 = APM_CNT and APM_STS, 2 ports (0xb2). A write to APM_CNT calls config->raise if SMI_EN lets
 * it. Firmware may negotiate by files of its configuration (smi_add_files) that such an SMI goes to
 * all processors, not only to the one that wrote.
 */
#ifndef DEVICES_SMI_H
#define DEVICES_SMI_H

#include "devices/device.h"

struct smi_config { /* NULL: nobody is told, and nothing is locked */
    /* Machine lock held, on the thread that wrote. `all`: every processor. */
    void (*raise)(void *opaque, bool all);
    void *opaque;
    const struct device *lpc; /* whose SMI_LOCK holds GBL_SMI_EN, NULL: none */
};

enum { SMI_FEATURE_BROADCAST = 1 }; /* what can be negotiated, a bit each */

/* The three files of the negotiation; `fw_cfg` must not be used after this device is gone. */
int smi_add_files(struct device *dev, struct device *fw_cfg, struct error *err);

#endif
