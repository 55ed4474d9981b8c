/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making, resetting and mounting devices, and the list of all classes (devices.def). */
#include "devices/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/zero.h"

#define DEVICE(name) extern const struct device_class name##_class;
#include "devices/devices.def"
#undef DEVICE

#define DEVICE(name) &name##_class,
const struct device_class *const device_classes[] = {
#include "devices/devices.def"
    NULL,
};
#undef DEVICE

const struct device_class *device_class_find(const char *name) {
    for (unsigned i = 0; device_classes[i]; i++)
        if (!strcmp(device_classes[i]->name, name))
            return device_classes[i];
    return NULL;
}

static void set_up_regions(struct device *dev) {
    const struct device_region *r = dev->cls->regions;

    for (unsigned i = 0; r && r[i].name && i < DEVICE_MAX_REGIONS; i++)
        dev->region[i] =
            (struct io_region){.size = r[i].size, .ops = r[i].ops, .dev = dev, .name = r[i].name};
}

struct device *device_new(const struct device_class *cls, const char *name,
                          const struct device_env *env, struct error *err) {
    struct device *dev = zero_alloc(cls->size);

    if (!dev) {
        error_set(err, -ENOMEM, "device '%s': out of memory", name);
        return NULL;
    }
    dev->cls = cls;
    dev->env = *env;
    snprintf(dev->name, sizeof(dev->name), "%s", name);
    set_up_regions(dev);
    if (cls->init && cls->init(dev, err) < 0) {
        device_free(dev);
        return NULL;
    }
    dev->env.config = NULL;
    device_reset(dev);
    return dev;
}

void device_free(struct device *dev) {
    if (!dev)
        return;
    if (dev->cls->done)
        dev->cls->done(dev);
    zero_free(dev, dev->cls->size);
}

void device_reset(struct device *dev) { dev->cls->reset(dev); }

int device_mount(struct device *dev, unsigned i, struct io_space *space, uint64_t base,
                 struct error *err) {
    dev->region[i].base = base;
    return io_map(space, &dev->region[i], err);
}
