/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI machine language, written from the outside in: open a package, add to it, close it.
 * Source: ACPI 6.5 section 20 (AML), 6.4 (resource descriptors). Any thread; grows the caller's
 * buffer.
 */
#ifndef MACHINE_AML_H
#define MACHINE_AML_H

#include "base/bytes.h"

/* A package whose length is known when it is closed: returns the mark for aml_close. */
size_t aml_scope(struct buf *b, const char *path);
size_t aml_device(struct buf *b, const char *name);
size_t aml_method(struct buf *b, const char *name, unsigned args);
size_t aml_package(struct buf *b, unsigned elements); /* value of a Name or an element */
size_t aml_resources(struct buf *b);                  /* a Buffer; close with aml_close_resources */
void aml_close(struct buf *b, size_t mark);
void aml_close_resources(struct buf *b, size_t mark);

void aml_name(struct buf *b, const char *name); /* NameOp: the value follows */
void aml_integer(struct buf *b, uint64_t v);
void aml_string(struct buf *b, const char *s);
void aml_eisa_id(struct buf *b, const char *id); /* "PNP0A08" */
void aml_return_arg(struct buf *b, unsigned n);
void aml_return_name(struct buf *b, const char *name);
void aml_store_arg(struct buf *b, unsigned n, const char *name);
/* Notify (\PARENT.NAME, value) */
void aml_notify(struct buf *b, const char *parent, const char *name, unsigned value);
size_t aml_if(struct buf *b, const char *name); /* if it is not 0; close with aml_close */

/* Ports that methods read and write, and names for them, each of 32 bits, one behind the other. */
void aml_ports(struct buf *b, const char *name, uint16_t base, uint8_t length);
void aml_fields32(struct buf *b, const char *ports, const char *const *names, unsigned count);
void aml_store_integer(struct buf *b, uint64_t v, const char *name);
void aml_store_local(struct buf *b, const char *name, unsigned local); /* local = name */
size_t aml_if_bits(struct buf *b, unsigned local, uint32_t mask);      /* if any of them is set */
/* name = v | (arg0 & 0xff) << 8 | (arg1 & 0xff) << 16 */
void aml_store_packed(struct buf *b, uint32_t v, const char *name);
/* Calls \_SB.DEVICE.METHOD without arguments. */
void aml_call_here(struct buf *b, const char *method); /* \\_SB.METHOD */
void aml_call(struct buf *b, const char *device, const char *method);
void aml_return_integer(struct buf *b, uint64_t v);
void aml_bytes(struct buf *b, const uint8_t *bytes, unsigned n); /* a Buffer, of less than 256 */
/* Notify (name, value), found from here. */
void aml_notify_near(struct buf *b, const char *name, unsigned value);

/* Resource descriptors inside aml_resources. */
void aml_io(struct buf *b, uint16_t base, uint8_t length);
void aml_irq(struct buf *b, unsigned irq);
void aml_bus_range(struct buf *b, uint16_t first, uint16_t last);
void aml_io_range(struct buf *b, uint16_t first, uint16_t last);
void aml_memory_range32(struct buf *b, uint32_t first, uint32_t last);
void aml_memory_range64(struct buf *b, uint64_t first, uint64_t last);
void aml_fixed_memory(struct buf *b, uint32_t base, uint32_t length);

#endif
