/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NVM Express controller with one namespace: class `nvme`, a PCI function. Source: NVM Express
 * Base Specification 1.4.
 *
 * BAR 0 (64 bits): registers, doorbells at 1000, MSI-X table at 2000. Interrupts by MSI-X, a vector
 * a queue, or by INTx, pin A.
 */
#ifndef DEVICES_NVME_H
#define DEVICES_NVME_H

struct block;

enum { NVME_MAX_QUEUES = 16, NVME_SERIAL = 20 };

struct nvme_config {     /* NULL: a namespace without blocks */
    struct block *block; /* the caller's, outlives the device */
    unsigned queues;     /* pairs for I/O, 1 .. NVME_MAX_QUEUES; 0 = 1 */
    char serial[NVME_SERIAL + 1];
};

#endif
