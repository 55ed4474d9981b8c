/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A folder of the host for the guest: class `virtio_fs`. */
#ifndef DEVICES_VIRTIO_VIRTIO_FS_H
#define DEVICES_VIRTIO_VIRTIO_FS_H

struct share;

struct virtio_fs_config { /* NULL: every request fails */
    const char *tag;      /* what the guest mounts; cut at SHARE_TAG_MAX bytes */
    struct share *share;  /* the caller's, outlives the device; NULL allowed */
};

#endif
