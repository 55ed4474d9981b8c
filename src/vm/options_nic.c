/* SPDX-License-Identifier: GPL-2.0-or-later */
/* --nic. */
#include "vm/options_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "net/forward.h"
#include "net/link.h"
#include "vm/nics.h"

enum { BOOTFILE_MAX = 127 };

/* A switch's socket; properties follow. */
static int set_link(struct options *o, struct options_nic *n, const char *path, struct error *err) {
    if (!*path || strlen(path) > 107)
        return error_set(err, -EINVAL,
                         "the path of a switch's socket must have 1 to 107 characters, not '%s'",
                         path);
    n->link = path;
    n->mtu = LINK_MTU_MAX;
    return 0;
}

static int set_mtu(struct options_nic *n, const char *s, struct error *err) {
    unsigned long v;

    if (!n->link)
        return error_set(err, -EINVAL, "mtu= belongs to a link: --nic link=PATH,mtu=1500");
    if (option_parse_number(s, LINK_MTU_MIN, LINK_MTU_MAX, &v, err) < 0)
        return error_prefix(err, "mtu=%s", s);
    n->mtu = (uint16_t)v;
    return 0;
}

/* What belongs to booting over the network. 1: something else. */
static int set_nic_boot(struct options_nic *n, const char *part, struct error *err) {
    const char *value = strchr(part, '=');
    struct stat st;

    if (!strncmp(part, "rom=", 4)) {
        n->no_rom = !strcmp(part, "rom=none");
        n->rom = n->no_rom ? NULL : part + 4;
    } else if (!strncmp(part, "bootfile=", 9)) {
        n->bootfile = part + 9;
    } else if (!strncmp(part, "tftp=", 5)) {
        n->tftp = part + 5;
    } else {
        return 1;
    }
    if (!value[1])
        return error_set(err, -EINVAL, "'%s' lacks its value", part);
    if (n->link && part[0] != 'r')
        return error_set(err, -EINVAL, "'%s': the servers of a link's network say what to boot",
                         part);
    if (n->bootfile && strlen(n->bootfile) > BOOTFILE_MAX)
        return error_set(err, -EINVAL, "bootfile= has at most %d characters in DHCP", BOOTFILE_MAX);
    if (n->tftp && (stat(n->tftp, &st) < 0 || !S_ISDIR(st.st_mode)))
        return error_set(err, -EINVAL, "tftp=%s is no folder", n->tftp);
    return 0;
}

static int set_nic_property(struct options_nic *n, const char *part, struct error *err) {
    int r = set_nic_boot(n, part, err);

    if (r <= 0)
        return r;
    if (!strncmp(part, "model=", 6)) {
        if (nics_model_find(part + 6, &n->model))
            return 0;
        return error_set(err, -EINVAL, "'%s': a network interface is model=virtio or model=e1000e",
                         part);
    }
    n->mac_given |= !strncmp(part, "mac=", 4);
    if (!strncmp(part, "mac=", 4))
        return mac_parse(part + 4, n->mac, err);
    if (!strncmp(part, "mtu=", 4))
        return set_mtu(n, part + 4, err);
    if (strncmp(part, "forward=", 8) != 0)
        return error_set(
            err, -EINVAL,
            "'%s' is no property of a network interface: use mac=, mtu=, forward=, model=, "
            "rom=, bootfile= or tftp=",
            part);
    if (n->link)
        return error_set(err, -EINVAL, "'%s': the switch of a link forwards ports, not the machine",
                         part);
    if (n->forwards == OPTIONS_MAX_FORWARDS)
        return error_set(err, -EINVAL, "a network interface has at most %d forwards",
                         OPTIONS_MAX_FORWARDS);
    return net_forward_parse(part + 8, &n->forward[n->forwards++], err);
}

int option_nic(struct options *o, const char *v, struct error *err) {
    struct options_nic *n = &o->nic[o->nics];
    char *rest, *part;
    int r = 0;

    if (!strcmp(v, "none"))
        return 0;
    if (o->nics == MACHINE_MAX_NICS)
        return error_set(err, -EINVAL, "a machine has at most %d network interfaces",
                         MACHINE_MAX_NICS);
    /* Stable across runs, as the guest's network configuration may be keyed by it. */
    *n = (struct options_nic){.mac = {0x52, 0x54, 0x00, 0x12, 0x34, (uint8_t)(0x56 + o->nics)}};
    rest = n->kept = options_keep(o, v);
    part = option_next_part(&rest);
    if (part && !strncmp(part, "link=", 5))
        r = set_link(o, n, part + 5, err);
    else if (!part || strcmp(part, "user") != 0)
        r = error_set(err, -EINVAL,
                      "'%s' is no kind of network: use --nic user, --nic link=PATH or --nic none",
                      part ? part : "");
    while (r == 0 && (part = option_next_part(&rest)))
        r = set_nic_property(n, part, err);
    if (r < 0)
        return r;
    o->nics++;
    return 0;
}

void options_unplug_nic(struct options *o, unsigned i) {
    options_drop(o, o->nic[i].kept);
    options_drop(o, o->nic[i].id);
    options_drop(o, o->nic[i].device);
    o->nic[i] = (struct options_nic){.absent = true};
}

int options_plug_nic(struct options *o, const char *text, const char *id, struct error *err) {
    unsigned count = o->nics, i = 0;
    int r = strcmp(text, "none") != 0 ? 0 : error_set(err, -EINVAL, "'none' adds no interface");

    while (i < count && !o->nic[i].absent)
        i++;
    o->nics = i;
    if (r == 0)
        r = option_nic(o, text, err);
    o->nics = count;
    if (r == 0 && id && !(o->nic[i].id = options_keep(o, id)))
        r = error_set(err, -ENOMEM, "out of memory");
    if (r < 0) {
        if (i < MACHINE_MAX_NICS)
            options_unplug_nic(o, i);
        return r;
    }
    if (i == count)
        o->nics++;
    return (int)i;
}

int option_check_nics(const struct options *o, struct error *err) {
    for (unsigned i = 0; i < o->nics; i++)
        for (unsigned k = 0; k < i; k++)
            if (!memcmp(o->nic[i].mac, o->nic[k].mac, sizeof(o->nic[i].mac)))
                return error_set(err, -EINVAL,
                                 "--nic: the interfaces %u and %u have the same MAC address: give "
                                 "one of them another",
                                 k, i);
    return 0;
}
