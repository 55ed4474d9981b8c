/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host that may be given to a machine.
 * Source: Linux Documentation/driver-api/vfio.rst (groups; what makes one viable),
 * driver-api/vfio-mediated-device.rst.
 *
 * The unit of isolation is the IOMMU group: all its members are given away, or none. A bridge stays
 * with the host's port driver: it does no DMA of its own.
 */
#include "vfio/group.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "vfio/host_devices.h"

/* With a driver of this family a device does nothing for the host. Drivers of one maker's devices
 * (mlx5-vfio-pci) are named alike. */
static bool gives_away(const char *driver) {
    static const char tail[] = "vfio-pci";
    size_t n = strlen(driver), t = sizeof(tail) - 1;

    return (n >= t && !strcmp(driver + n - t, tail)) || !strcmp(driver, "pci-stub") ||
           strstr(driver, "_vfio_pci") || !strncmp(driver, "vfio_", 5);
}

/* ------------------------------------------------------------------ names */

static bool has_shape(const char *s, const char *shape) {
    if (strlen(s) != strlen(shape))
        return false;
    for (; *s; s++, shape++)
        if (*shape == 'x'   ? !isxdigit((unsigned char)*s)
            : *shape == '7' ? *s < '0' || *s > '7'
                            : *s != *shape)
            return false;
    return true;
}

bool vfio_name(const char *text, char ret[VFIO_NAME]) {
    bool whole =
        has_shape(text, "xxxx:xx:xx.7") || has_shape(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");

    if (!whole && !has_shape(text, "xx:xx.7"))
        return false;
    snprintf(ret, VFIO_NAME, "%s%s", whole ? "" : "0000:", text);
    for (char *c = ret; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return true;
}

/* ------------------------------------------------------------------ the inventory */

struct vfio_inventory {
    json_t *all;
    char sysfs[]; /* where it was read */
};

struct vfio_inventory *vfio_inventory_read(const char *sysfs) {
    size_t n = strlen(sysfs) + 1;
    struct vfio_inventory *v = calloc(1, sizeof(*v) + n);

    if (!v)
        return NULL;
    memcpy(v->sysfs, sysfs, n);
    v->all = host_devices_read(sysfs);
    if (v->all)
        return v;
    free(v);
    return NULL;
}

void vfio_inventory_free(struct vfio_inventory *v) {
    if (!v)
        return;
    json_decref(v->all);
    free(v);
}

int vfio_group_of(const char *sysfs, const char *name) {
    char path[PATH_MAX], to[PATH_MAX], *last, *end;
    ssize_t n;
    long group;

    snprintf(path, sizeof(path), "%s/bus/%s/devices/%s/iommu_group", sysfs,
             strchr(name, ':') ? "pci" : "mdev", name);
    n = readlink(path, to, sizeof(to) - 1);
    if (n <= 0)
        return -1;
    to[n] = 0;
    last = strrchr(to, '/');
    last = last ? last + 1 : to;
    group = strtol(last, &end, 10);
    return end == last || *end || group < 0 || group > 999999 ? -1 : (int)group;
}

static const json_t *find_device(const json_t *all, const char *address) {
    const json_t *d;
    size_t i;

    json_array_foreach(json_object_get(all, "devices"), i, d)
        if (!strcmp(json_string_value(json_object_get(d, "address")), address))
            return d;
    return NULL;
}

static const json_t *members(const json_t *all, int group) {
    const json_t *g;
    size_t i;

    json_array_foreach(json_object_get(all, "iommu_groups"), i, g)
        if (json_integer_value(json_object_get(g, "group")) == group)
            return json_object_get(g, "devices");
    return NULL;
}

static const char *text(const json_t *d, const char *key) {
    const char *s = json_string_value(json_object_get(d, key));

    return s ? s : "";
}

static int check_driver(const char *name, const json_t *d, struct error *err) {
    const char *driver = text(d, "driver");

    if (!strcmp(text(d, "kind"), "bridge"))
        return error_set(err, -EINVAL,
                         "device %s: it is a bridge, which stays with the host: give the machine "
                         "the devices behind it",
                         name);
    if (!*driver)
        return error_set(err, -EBUSY,
                         "device %s: no driver has it: bind it to vfio-pci (modprobe vfio-pci; "
                         "echo vfio-pci > /sys/bus/pci/devices/%s/driver_override; echo %s > "
                         "/sys/bus/pci/drivers_probe)",
                         name, name, name);
    if (!gives_away(driver) || !strcmp(driver, "pci-stub"))
        return error_set(err, -EBUSY,
                         "device %s: the host's driver '%s' uses it: take it away from that (echo "
                         "%s > /sys/bus/pci/drivers/%s/unbind) and bind it to vfio-pci "
                         "(driver_override, then drivers_probe)",
                         name, driver, name, driver);
    return 0;
}

/* All of a group, or none. */
static int check_group(const json_t *all, const char *name, int group, struct error *err) {
    const json_t *m;
    size_t i;

    json_array_foreach(members(all, group), i, m) {
        const char *other = json_string_value(m);
        const json_t *d = find_device(all, other);

        if (!d || !strcmp(other, name) || !*text(d, "driver") || gives_away(text(d, "driver")) ||
            !strcmp(text(d, "kind"), "bridge"))
            continue;
        return error_set(err, -EBUSY,
                         "device %s: it shares the IOMMU group %d with %s, which the host's driver "
                         "'%s' uses: bind that to vfio-pci as well, or put the device into a slot "
                         "with a group of its own",
                         name, group, other, text(d, "driver"));
    }
    return 0;
}

static int find_pci(const json_t *all, const char *sysfs, struct vfio_place *p, struct error *err) {
    const json_t *d = find_device(all, p->name), *group = json_object_get(d, "iommu_group");
    int r;

    if (!d)
        return error_set(err, -ENOENT,
                         "device %s: the host has no PCI device of this address (%s/bus/pci/"
                         "devices): 'viv host devices' or lspci -D lists them",
                         p->name, sysfs);
    if (!json_is_integer(group))
        return error_set(
            err, -ENODEV,
            "device %s: it is in no IOMMU group, so nothing would keep it from all of "
            "the host's memory: switch the IOMMU on in the firmware (VT-d, AMD-Vi) and "
            "in the kernel (intel_iommu=on)",
            p->name);
    p->group = (int)json_integer_value(group);
    r = check_driver(p->name, d, err);
    return r < 0 ? r : check_group(all, p->name, p->group, err);
}

/* ------------------------------------------------------------------ mediated devices */

static int find_mediated(const char *sysfs, struct vfio_place *p, struct error *err) {
    char path[PATH_MAX];
    struct stat st;

    p->mediated = true;
    snprintf(path, sizeof(path), "%s/bus/mdev/devices/%s", sysfs, p->name);
    if (stat(path, &st) < 0)
        return error_set(
            err, -ENOENT,
            "device %s: the host has no mediated device of this UUID: make it with "
            "'echo %s > /sys/bus/pci/devices/ADDRESS/mdev_supported_types/TYPE/create'; "
            "'viv host devices' lists the types",
            p->name, p->name);
    p->group = vfio_group_of(sysfs, p->name);
    if (p->group < 0)
        return error_set(err, -ENODEV,
                         "device %s: the mediated device is in no IOMMU group: load the host's "
                         "module vfio_mdev, or on newer kernels that of its vendor",
                         p->name);
    return 0;
}

/* ------------------------------------------------------------------ /dev/vfio */

static int check_nodes(const char *dev, const struct vfio_place *p, struct error *err) {
    char path[PATH_MAX];
    struct stat st;

    snprintf(path, sizeof(path), "%s/vfio/vfio", dev);
    if (stat(path, &st) < 0)
        return error_set(err, -ENODEV,
                         "device %s: the host has no %s: load the module (modprobe vfio-pci)",
                         p->name, path);
    snprintf(path, sizeof(path), "%s/vfio/%d", dev, p->group);
    if (stat(path, &st) < 0)
        return error_set(err, -ENODEV,
                         "device %s: the host has no %s for its IOMMU group: bind the device to "
                         "vfio-pci, and if that is done look whether udev made the file",
                         p->name, path);
    return 0;
}

int vfio_find(const struct vfio_inventory *v, const char *dev, const char *name,
              struct vfio_place *ret, struct error *err) {
    struct vfio_place p = {.group = -1};
    int r;

    if (!vfio_name(name, p.name))
        return error_set(err, -EINVAL,
                         "device '%.60s': write the PCI address as 0000:03:00.0, or the UUID of a "
                         "mediated device",
                         name);
    r = strchr(p.name, ':') ? find_pci(v->all, v->sysfs, &p, err)
                            : find_mediated(v->sysfs, &p, err);
    if (r == 0)
        r = check_nodes(dev, &p, err);
    if (r == 0)
        *ret = p;
    return r;
}
