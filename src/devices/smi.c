/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System management interrupts of the ICH9. Source: Intel I/O Controller Hub 9 datasheet (316972),
 * 13.7 (APM_CNT, APM_STS), 13.8.3 (SMI_EN, SMI_STS); files: QEMU docs/specs (fw_cfg) and the
 * comments of EDK II's OvmfPkg/SmmControl2Dxe.
 *
 *   30 SMI_EN   0 GBL_SMI_EN (kept once the bridge's SMI_LOCK is set), 5 APMC_EN
 *   34 SMI_STS  5 APM_STS; bits are cleared by writing ones
 *
 * Departures: of the sources of SMIs there is APM_CNT only, the enables of the others are storage;
 * EOS too: SMIs are not held until it is set.
 */
#include "devices/smi.h"

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/fw_cfg.h"
#include "devices/lpc.h"

enum { GBL_SMI_EN = 1 << 0, APMC = 1 << 5, EN_KEPT = 0x0806687f, STS_APM = APMC };
enum { FEATURES_SIZE = 8 };

struct smi {
    struct device dev;
    struct smi_config to;
    uint32_t en, sts;
    uint8_t apm_cnt, apm_sts;
    uint8_t requested[FEATURES_SIZE], features_ok;
    bool broadcast; /* was negotiated */
};

/* ---- registers ---- */

static uint64_t control_read(void *dev, uint64_t offset, unsigned size) {
    const struct smi *s = dev;
    uint64_t both = s->en | (uint64_t)s->sts << 32;

    return both >> 8 * offset & (size == 4 ? 0xffffffff : (1u << 8 * size) - 1);
}

static void control_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct smi *s = dev;
    uint64_t mask = (size == 4 ? 0xffffffffull : (1u << 8 * size) - 1) << 8 * offset;
    uint64_t bits = value << 8 * offset & mask;
    uint32_t changes = (uint32_t)mask & EN_KEPT;

    trace(smi_write, (unsigned)offset, (unsigned)value);
    if (s->to.lpc && lpc_smi_locked(s->to.lpc))
        changes &= ~(uint32_t)GBL_SMI_EN;
    s->en = (s->en & ~changes) | ((uint32_t)bits & changes);
    s->sts &= ~(uint32_t)(bits >> 32);
}

static uint64_t apm_read(void *dev, uint64_t offset, unsigned size) {
    const struct smi *s = dev;

    return offset ? s->apm_sts : s->apm_cnt;
}

static void apm_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct smi *s = dev;

    trace(smi_apm, (unsigned)offset, (unsigned)value);
    if (offset) {
        s->apm_sts = (uint8_t)value;
        return;
    }
    s->apm_cnt = (uint8_t)value;
    if ((s->en & (GBL_SMI_EN | APMC)) != (GBL_SMI_EN | APMC))
        return;
    s->sts |= STS_APM;
    if (s->to.raise)
        s->to.raise(s->to.opaque, s->broadcast);
}

/* ---- negotiation ---- */

/* The guest reads features-ok after it has written what it wants: once all of that is known, it is
 * in force until the next reset. */
static void judge(void *opaque) {
    struct smi *s = opaque;
    uint64_t wanted = load_le64(s->requested);

    if (s->features_ok || (wanted & ~(uint64_t)SMI_FEATURE_BROADCAST))
        return;
    s->broadcast = wanted & SMI_FEATURE_BROADCAST;
    s->features_ok = 1;
}

int smi_add_files(struct device *dev, struct device *fw_cfg, struct error *err) {
    struct smi *s = (struct smi *)dev;
    struct fw_cfg_shared wanted = {s->requested, sizeof(s->requested), true, NULL, NULL};
    struct fw_cfg_shared ok = {&s->features_ok, 1, false, judge, s};
    uint8_t known[FEATURES_SIZE];
    int r;

    store_le64(known, SMI_FEATURE_BROADCAST);
    r = fw_cfg_set_file(fw_cfg, "etc/smi/supported-features", known, sizeof(known), err);
    if (r == 0)
        r = fw_cfg_share_file(fw_cfg, "etc/smi/requested-features", &wanted, err);
    return r < 0 ? r : fw_cfg_share_file(fw_cfg, "etc/smi/features-ok", &ok, err);
}

/* ---- the device ---- */

static int smi_init(struct device *dev, struct error *err) {
    struct smi *s = (struct smi *)dev;

    if (dev->env.config)
        s->to = *(const struct smi_config *)dev->env.config;
    return 0;
}

static void smi_reset(struct device *dev) {
    struct smi *s = (struct smi *)dev;

    s->en = s->sts = 0;
    s->apm_cnt = s->apm_sts = 0;
    memset(s->requested, 0, sizeof(s->requested));
    s->features_ok = 0;
    s->broadcast = false;
}

static const struct state_desc smi_state = {
    .name = "smi",
    .version = 1,
    .struct_size = sizeof(struct smi),
    .fields = (const struct state_field[]){STATE_MAX(struct smi, en, EN_KEPT),
                                           STATE_MAX(struct smi, sts, STS_APM),
                                           STATE(struct smi, apm_cnt), STATE(struct smi, apm_sts),
                                           STATE_BYTES(struct smi, requested),
                                           STATE_MAX(struct smi, features_ok, 1),
                                           STATE(struct smi, broadcast), STATE_END},
};

static const struct io_ops control_ops = {control_read, control_write, 1, 4};
static const struct io_ops apm_ops = {apm_read, apm_write, 1, 1};

static const struct device_region smi_regions[] = {
    {"smi", DEVICE_PIO, 8, &control_ops}, {"apm", DEVICE_PIO, 2, &apm_ops}, {0}};

const struct device_class smi_class = {
    .name = "smi",
    .help = "system management interrupts by software (ports 0x630 and 0xb2)",
    .size = sizeof(struct smi),
    .state = &smi_state,
    .regions = smi_regions,
    .init = smi_init,
    .reset = smi_reset,
};
