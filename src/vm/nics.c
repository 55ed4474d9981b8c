/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The machine's network interfaces: see nics.h. */
#include "vm/nics.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/pci.h"
#include "net/link.h"
#include "net/user.h"

/*
 * Calls (main): openat access
 */

enum { ROM_MAX = 4 << 20, FIRMWARE_MTU = 9000 };

/* The images of Debian's package ipxe-qemu have a part for BIOS and one for UEFI. */
static const struct {
    const char *name, *rom;
} models[] = {
    [MACHINE_NIC_VIRTIO] = {"virtio", "/usr/lib/ipxe/qemu/efi-virtio.rom"},
    [MACHINE_NIC_E1000E] = {"e1000e", "/usr/lib/ipxe/qemu/efi-e1000e.rom"},
};

const char *nics_model_name(enum machine_nic_model model) { return models[model].name; }

bool nics_model_find(const char *name, enum machine_nic_model *ret) {
    for (unsigned i = 0; i < sizeof(models) / sizeof(models[0]); i++)
        if (!strcmp(models[i].name, name)) {
            *ret = (enum machine_nic_model)i;
            return true;
        }
    return false;
}

/* Firmware takes seconds to start a ROM: it is there where nothing else could be booted, or where
 * the network is asked for. */
static bool boots_from_network(const struct options *o) {
    if (!o->firmware)
        return false;
    return o->boot_order ? strchr(o->boot_order, 'n') != NULL : !o->disks && !o->cdroms;
}

const char *nics_rom(const struct options *o, unsigned nic) {
    const struct options_nic *n = &o->nic[nic];
    const char *usual = models[n->model].rom;

    if (n->rom || n->no_rom)
        return n->rom;
    return !o->restore && boots_from_network(o) && access(usual, R_OK) == 0 ? usual : NULL;
}

void nics_choose_roms(struct options *o) {
    for (unsigned i = 0; i < o->nics; i++)
        o->nic[i].rom = nics_rom(o, i);
}

bool nics_rom_is_usual(const struct options_nic *n) {
    char given[PATH_MAX], usual[PATH_MAX];

    return n->rom && models[n->model].rom && realpath(n->rom, given) &&
           realpath(models[n->model].rom, usual) && !strcmp(given, usual);
}

static int read_rom(const char *path, uint8_t **ret, uint32_t *ret_size, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r = -EINVAL;
    uint8_t *rom = NULL;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        r = error_set(err, -errno,
                      "the network interface's ROM '%s' cannot be opened: %s; give rom=none to do "
                      "without",
                      path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > ROM_MAX) {
        error_set(err, r, "the network interface's ROM '%s' is no file of at most 4 MiB", path);
        goto out;
    }
    rom = malloc((size_t)st.st_size + 1);
    if (!rom || pread(fd, rom, (size_t)st.st_size, 0) != st.st_size) {
        r = error_set(err, -EIO, "the network interface's ROM '%s' cannot be read", path);
        goto out;
    }
    if (!pci_rom_valid(rom, (size_t)st.st_size)) {
        error_set(err, r,
                  "'%s' is no expansion ROM (55 aa and a PCI data structure are missing): give one "
                  "of package ipxe-qemu, or rom=none",
                  path);
        goto out;
    }
    *ret = rom;
    *ret_size = (uint32_t)st.st_size;
    rom = NULL;
    r = 0;
out:
    free(rom);
    if (fd >= 0)
        close(fd);
    return r;
}

/* Drivers of firmware believe what a network says: iPXE gets eight buffers of that size from half a
 * megabyte, which would be all it has. */
uint16_t nics_mtu(const struct options *o, unsigned nic) {
    const struct options_nic *n = &o->nic[nic];

    return n->mtu || n->link || o->restore || !o->firmware ? n->mtu : FIRMWARE_MTU;
}

static struct net_port *open_port(const struct options *o, unsigned nic, struct loop *loop,
                                  struct error *err) {
    const struct options_nic *n = &o->nic[nic];
    struct net_link_config link = {.path = n->link, .name = o->name, .mtu = n->mtu};
    struct net_user_config user = net_user_standard;

    if (n->link) {
        memcpy(link.mac, n->mac, sizeof(link.mac));
        return net_link_open(loop, &link, err);
    }
    user.mtu = nics_mtu(o, nic);
    user.bootfile = n->bootfile;
    user.tftp = n->tftp;
    return net_user_open_forwards(loop, &user, n->forward, n->forwards, err);
}

int nics_open(const struct options *o, unsigned nic, struct loop *loop, struct machine_nic *ret,
              struct error *err) {
    const struct options_nic *n = &o->nic[nic];
    const char *path = nics_rom(o, nic);
    int r = path ? read_rom(path, &ret->rom, &ret->rom_size, err) : 0;

    if (r < 0)
        return r;
    ret->model = n->model;
    memcpy(ret->mac, n->mac, sizeof(ret->mac));
    ret->port = open_port(o, nic, loop, err);
    return ret->port ? 0 : -EINVAL;
}
