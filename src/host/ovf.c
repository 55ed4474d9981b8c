/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DSP0243 1.1: clause 7 (References), 9.1 (DiskSection), 8 (VirtualSystem).
 *
 * Only as much of XML is read as descriptors need: elements with their attributes, whose names
 * count without prefix; comments, CDATA, processing instructions and text are skipped. Entities of
 * documents (<!ENTITY>) are not expanded, so that nothing can grow.
 */
#include "host/ovf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct file {
    char id[OVF_NAME], href[OVF_NAME];
    bool gzip, parts;
};

struct scan {
    struct file file[OVF_FILES];
    unsigned files;
    bool envelope;
};

/* ------------------------------------------------------------------ XML */

struct xml {
    const char *at, *end;
};

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static void skip_past(struct xml *x, const char *word) {
    const char *p = memmem(x->at, (size_t)(x->end - x->at), word, strlen(word));

    x->at = p ? p + strlen(word) : x->end;
}

static bool begins(const struct xml *x, const char *word) {
    size_t n = strlen(word);

    return (size_t)(x->end - x->at) >= n && !memcmp(x->at, word, n);
}

/* The name of the next element that is opened, without its prefix; false: there is none. */
static bool next_element(struct xml *x, char name[OVF_NAME]) {
    size_t n = 0;

    for (;;) {
        skip_past(x, "<");
        if (x->at == x->end)
            return false;
        if (begins(x, "!--"))
            skip_past(x, "-->");
        else if (begins(x, "![CDATA["))
            skip_past(x, "]]>");
        else if (*x->at == '?')
            skip_past(x, "?>");
        else if (*x->at != '/' && *x->at != '!')
            break;
    }
    for (; x->at < x->end && !is_space(*x->at) && *x->at != '>' && *x->at != '/'; x->at++)
        if (*x->at == ':')
            n = 0;
        else if (n < OVF_NAME - 1)
            name[n++] = *x->at;
    name[n] = 0;
    return true;
}

/* What "&amp;", "&#38;" or "&#x26;" stands for; 0: it is none of these, or no ASCII. */
static char entity(const char *s, size_t n) {
    static const struct {
        const char *word;
        char means;
    } known[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    static const char digits[] = "0123456789abcdefABCDEF";
    bool hex = n > 2 && s[1] == 'x';
    unsigned code = 0;

    if (n > 1 && n < 8 && s[0] == '#') {
        for (size_t i = hex ? 2 : 1; i < n; i++) {
            const char *digit = s[i] ? strchr(digits, s[i]) : NULL;
            unsigned v = digit ? (unsigned)(digit - digits) : 99;

            v = v > 15 && v < 22 ? v - 6 : v;
            if (v >= (hex ? 16u : 10u))
                return 0;
            code = code * (hex ? 16 : 10) + v;
        }
        return code < 128 ? (char)code : 0;
    }
    for (unsigned e = 0; e < sizeof(known) / sizeof(known[0]); e++)
        if (n == strlen(known[e].word) && !memcmp(s, known[e].word, n))
            return known[e].means;
    return 0;
}

static void decode(const char *s, size_t n, char out[OVF_NAME]) {
    size_t k = 0;

    for (size_t i = 0; i < n && k < OVF_NAME - 1; k++) {
        const char *end = s[i] == '&' ? memchr(s + i, ';', n - i) : NULL;
        char c = end ? entity(s + i + 1, (size_t)(end - s) - i - 1) : 0;

        out[k] = c ? c : s[i];
        i = c ? (size_t)(end - s) + 1 : i + 1;
    }
    out[k] = 0;
}

/* The next attribute of the element; false: its head ends. */
static bool next_attribute(struct xml *x, char name[OVF_NAME], char value[OVF_NAME]) {
    const char *close;
    size_t n = 0;
    char quote;

    while (x->at < x->end && (is_space(*x->at) || *x->at == '/'))
        x->at++;
    if (x->at == x->end || *x->at == '>')
        return false;
    for (; x->at < x->end && *x->at != '=' && !is_space(*x->at) && *x->at != '>'; x->at++)
        if (*x->at == ':')
            n = 0;
        else if (n < OVF_NAME - 1)
            name[n++] = *x->at;
    name[n] = 0;
    while (x->at < x->end && (is_space(*x->at) || *x->at == '='))
        x->at++;
    if (x->at == x->end || (*x->at != '"' && *x->at != '\''))
        return false;
    quote = *x->at++;
    close = memchr(x->at, quote, (size_t)(x->end - x->at));
    if (!close)
        return false;
    decode(x->at, (size_t)(close - x->at), value);
    x->at = close + 1;
    return true;
}

/* ------------------------------------------------------------------ descriptors */

static void read_file(struct scan *s, struct xml *x) {
    char name[OVF_NAME], value[OVF_NAME];
    struct file f = {0};

    while (next_attribute(x, name, value))
        if (!strcmp(name, "id"))
            snprintf(f.id, sizeof(f.id), "%s", value);
        else if (!strcmp(name, "href"))
            snprintf(f.href, sizeof(f.href), "%s", value);
        else if (!strcmp(name, "compression"))
            f.gzip = !strcmp(value, "gzip");
        else if (!strcmp(name, "chunkSize"))
            f.parts = true;
    if (s->files < OVF_FILES)
        s->file[s->files++] = f;
}

static void read_disk(const struct scan *s, struct xml *x, struct ovf *ret) {
    char name[OVF_NAME], value[OVF_NAME], reference[OVF_NAME] = "";
    struct ovf_disk d = {0};

    while (next_attribute(x, name, value))
        if (!strcmp(name, "fileRef"))
            snprintf(reference, sizeof(reference), "%s", value);
        else if (!strcmp(name, "parentRef"))
            d.delta = *value;
    for (unsigned i = 0; i < s->files && *reference; i++)
        if (!strcmp(s->file[i].id, reference) && ret->disks < OVF_FILES) {
            snprintf(d.file, sizeof(d.file), "%s", s->file[i].href);
            d.gzip = s->file[i].gzip;
            d.parts = s->file[i].parts;
            ret->disk[ret->disks++] = d;
            return;
        }
}

int ovf_read(const char *text, size_t n, struct ovf *ret, struct error *err) {
    struct scan *s = calloc(1, sizeof(*s));
    struct xml x = {text, text + n};
    char name[OVF_NAME];
    bool good;

    *ret = (struct ovf){0};
    if (!s)
        return error_set(err, -ENOMEM, "the descriptor: out of memory");
    while (next_element(&x, name))
        if (!strcmp(name, "Envelope"))
            s->envelope = true;
        else if (!strcmp(name, "File"))
            read_file(s, &x);
        else if (!strcmp(name, "Disk"))
            read_disk(s, &x, ret);
    good = s->envelope;
    free(s);
    return good ? 0
                : error_set(err, -EINVAL, "the archive's .ovf file is no descriptor of a machine");
}

/* ------------------------------------------------------------------ ours */

static void put_text(struct buf *out, const char *s) {
    for (; *s; s++)
        if (strchr("&<>\"'", *s))
            buf_printf(out, "&#%d;", *s);
        else
            buf_put(out, s, 1);
}

static void put_item(struct buf *out, int id, int type, const char *name, const char *more) {
    buf_printf(out,
               "      <Item>\n"
               "        <rasd:ElementName>%s</rasd:ElementName>\n"
               "        <rasd:InstanceID>%d</rasd:InstanceID>\n%s"
               "        <rasd:ResourceType>%d</rasd:ResourceType>\n"
               "      </Item>\n",
               name, id, more, type);
}

void ovf_write(struct buf *out, const char *name, const char *file, uint64_t size,
               uint64_t stored) {
    buf_printf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                    "<Envelope ovf:version=\"1.0\" xml:lang=\"en-US\"\n"
                    "    xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\"\n"
                    "    xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"\n"
                    "    xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
                    "CIM_ResourceAllocationSettingData\"\n"
                    "    xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
                    "CIM_VirtualSystemSettingData\"\n"
                    "    xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n"
                    "  <References>\n    <File ovf:id=\"file1\" ovf:href=\"");
    put_text(out, file);
    buf_printf(out,
               "\" ovf:size=\"%llu\"/>\n  </References>\n"
               "  <DiskSection>\n    <Info>Virtual disks</Info>\n"
               "    <Disk ovf:diskId=\"disk1\" ovf:fileRef=\"file1\" ovf:capacity=\"%llu\" "
               "ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html"
               "#streamOptimized\"/>\n  </DiskSection>\n"
               "  <NetworkSection>\n    <Info>Networks</Info>\n    <Network ovf:name=\"NAT\">\n"
               "      <Description>behind address translation</Description>\n    </Network>\n"
               "  </NetworkSection>\n  <VirtualSystem ovf:id=\"",
               (unsigned long long)stored, (unsigned long long)size);
    put_text(out, name);
    buf_printf(out, "\">\n    <Info>A virtual machine</Info>\n    <Name>");
    put_text(out, name);
    buf_printf(out, "</Name>\n"
                    "    <OperatingSystemSection ovf:id=\"101\">\n"
                    "      <Info>Linux, 64 bits</Info>\n    </OperatingSystemSection>\n"
                    "    <VirtualHardwareSection>\n      <Info>Hardware</Info>\n"
                    "      <System>\n        <vssd:ElementName>Virtual Hardware Family"
                    "</vssd:ElementName>\n        <vssd:InstanceID>0</vssd:InstanceID>\n"
                    "        <vssd:VirtualSystemType>vmx-07</vssd:VirtualSystemType>\n"
                    "      </System>\n");
    put_item(out, 1, 3, "1 processor", "        <rasd:VirtualQuantity>1</rasd:VirtualQuantity>\n");
    put_item(out, 2, 4, "1024 MiB of memory",
             "        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>\n"
             "        <rasd:VirtualQuantity>1024</rasd:VirtualQuantity>\n");
    put_item(out, 3, 20, "SATA controller",
             "        <rasd:Address>0</rasd:Address>\n"
             "        <rasd:ResourceSubType>AHCI</rasd:ResourceSubType>\n");
    put_item(out, 4, 17, "disk 1",
             "        <rasd:AddressOnParent>0</rasd:AddressOnParent>\n"
             "        <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource>\n"
             "        <rasd:Parent>3</rasd:Parent>\n");
    put_item(out, 5, 10, "network card",
             "        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>\n"
             "        <rasd:Connection>NAT</rasd:Connection>\n"
             "        <rasd:ResourceSubType>E1000</rasd:ResourceSubType>\n");
    buf_printf(out, "    </VirtualHardwareSection>\n  </VirtualSystem>\n</Envelope>\n");
}
