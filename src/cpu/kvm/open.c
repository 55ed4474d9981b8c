/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's KVM: whether there is one, and what it must be able to do. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpu/kvm/kvm.h"

static const struct {
    int capability;
    const char *name;
} needed[] = {
    {KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"},
    {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
    {KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
    {KVM_CAP_XCRS, "KVM_CAP_XCRS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK"},
};

/* For tests of hosts that are not as this one. */
static const char *device(void) {
    const char *other = getenv("VIV_KVM_DEVICE");

    return other && *other ? other : "/dev/kvm";
}

static int refuse(struct error *err, int code) {
    if (code == -ENOENT)
        return error_set(err, code, "the host has no %s", device());
    if (code == -EACCES || code == -EPERM)
        return error_set(err, code,
                         "the host's %s cannot be opened by this user; join its group (kvm)",
                         device());
    if (code == -ENOTTY)
        return error_set(err, -ENODEV, "the host's %s is not KVM's", device());
    return error_set(err, code, "the host's %s cannot be opened: %s", device(), strerror(-code));
}

int kvm_open(struct error *err) {
    struct stat st;
    int fd, version;

    /* Others could block, or do something. */
    if (stat(device(), &st) < 0)
        return refuse(err, -errno);
    if (!S_ISCHR(st.st_mode))
        return refuse(err, -ENOTTY);
    fd = open(device(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return refuse(err, -errno);
    version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version == KVM_API_VERSION)
        return fd;
    close(fd);
    return version < 0
               ? refuse(err, -ENOTTY)
               : error_set(err, -ENOTSUP, "the host's KVM speaks another version of its API");
}

int kvm_check_capabilities(int kvm, struct error *err) {
    for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        if (ioctl(kvm, KVM_CHECK_EXTENSION, needed[i].capability) <= 0)
            return error_set(err, -ENOTSUP, "the host's KVM lacks %s; use a newer kernel",
                             needed[i].name);
    return 0;
}

const char *kvm_missing(void) {
    static _Thread_local char text[160];
    struct error err = {0};
    int fd = kvm_open(&err);

    if (fd >= 0) {
        kvm_check_capabilities(fd, &err);
        close(fd);
    }
    snprintf(text, sizeof(text), "%.150s", err.text);
    return err.code ? text : NULL;
}
