/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors of other programs and of our own, archives with them, and such as lie. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/tar.h"
#include "host/ova.h"
#include "support/test.h"

#define HEAD "<?xml version='1.0'?>\n<Envelope xmlns:ovf='http://schemas.dmtf.org/ovf/envelope/1'>"
#define END  "</Envelope>"

/* ------------------------------------------------------------------ descriptors */

/* Read where nothing lies behind it. */
static int read_it(const char *text, struct ovf *o, struct error *e) {
    size_t n = strlen(text);
    char *exact = malloc(n + !n);
    int r;

    assert_non_null(exact);
    memcpy(exact, text, n);
    *e = (struct error){0};
    r = ovf_read(exact, n, o, e);
    free(exact);
    return r;
}

static struct ovf *expect(const char *text, unsigned disks) {
    static struct ovf o;
    struct error e;

    assert_int_equal(read_it(text, &o, &e), 0);
    assert_int_equal(o.disks, disks);
    return &o;
}

static void disks_are_found_by_their_references(void **state) {
    struct ovf *o = expect(HEAD "<References>"
                                "<File ovf:href='two.vmdk' ovf:id='f2'/>"
                                "<File ovf:id='iso' ovf:href='tools.iso'/>"
                                "<File ovf:id='f1' ovf:href='one.vmdk' ovf:compression='gzip'/>"
                                "</References><DiskSection>"
                                "<Disk ovf:diskId='d1' ovf:fileRef='f1' ovf:capacity='1'/>"
                                "<Disk ovf:diskId='empty' ovf:capacity='5'/>"
                                "<Disk ovf:diskId='lost' ovf:fileRef='nowhere'/>"
                                "<Disk ovf:fileRef='f2'></Disk>"
                                "</DiskSection>" END,
                           2);

    (void)state;
    assert_string_equal(o->disk[0].file, "one.vmdk");
    assert_true(o->disk[0].gzip);
    assert_string_equal(o->disk[1].file, "two.vmdk");
    assert_false(o->disk[1].gzip);
}

static void disks_in_parts_and_differences_are_told(void **state) {
    struct ovf *o = expect(HEAD "<File id='a' href='a.vmdk' chunkSize='1000'/>"
                                "<File id='b' href='b.vmdk'/>"
                                "<Disk fileRef='a'/><Disk fileRef='b' parentRef='a'/>" END,
                           2);

    (void)state;
    assert_true(o->disk[0].parts && !o->disk[0].delta);
    assert_true(o->disk[1].delta && !o->disk[1].parts);
}

static void any_prefix_any_quotes_and_any_blanks(void **state) {
    struct ovf *o =
        expect("<!DOCTYPE e [<!ENTITY x 'y'>]>\n<o:Envelope\n>\n<o:File\t x:id = \"a>b\"\r\n"
               " x:href='it&apos;s &lt;&#49;&#x32;&gt; &amp;&quot;&bogus;&#0;.vmdk' / >"
               "<!-- <Disk fileRef='a>b'/> --><![CDATA[<Disk fileRef='a>b'/>]]>"
               "<?pi <Disk fileRef='a>b'/> ?><o:Disk fileRef='a>b'/></o:Envelope>",
               1);

    (void)state;
    assert_string_equal(o->disk[0].file, "it's <12> &\"&bogus;&#0;.vmdk");
}

static void ours_says_what_it_was_given(void **state) {
    static const char name[] = "a \"b\" <c> & 'd'";
    struct buf b = {0};
    struct ovf *o;

    (void)state;
    ovf_write(&b, name, name, 1 << 30, 12345);
    buf_put(&b, "", 1);
    assert_non_null(strstr((char *)b.data, "ovf:capacity=\"1073741824\""));
    assert_non_null(strstr((char *)b.data, "ovf:size=\"12345\""));
    o = expect((char *)b.data, 1);
    assert_string_equal(o->disk[0].file, name);
    buf_done(&b);
}

static void what_is_no_descriptor_is_refused(void **state) {
    static const char *const texts[] = {
        "",
        "<",
        "<>",
        "text",
        "<!--",
        "<![CDATA[",
        "<?",
        "</Envelope>",
        "<envelope>",
        "<EnvelopeX/>",
        "<!-- <Envelope> -->",
        "{\"Envelope\": 1}",
        "<File id='a' href='b'/><Disk fileRef='a'/>",
    };
    struct error e;
    struct ovf o;

    (void)state;
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(read_it(texts[i], &o, &e), -EINVAL);
        assert_non_null(strstr(e.text, "no descriptor"));
    }
}

static void what_is_cut_off_or_crooked_says_less(void **state) {
    static const char *const ends[] = {
        "<File",
        "<File ",
        "<File id",
        "<File id=",
        "<File id=a",
        "<File id='a",
        "<File id='a'",
        "<File =",
        "<File ='x'/>",
        "<Disk fileRef='",
        "<Disk fileRef=''/>",
        "<Disk fileRef='&#x41;'/>",
        "<File id='&",
        "<File id='&#'",
        "<File id='&#xffffffff;' href='&;'/>",
        "<:",
        "<a:::/>",
        "<File :='x'",
    };
    char text[300];

    (void)state;
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        snprintf(text, sizeof(text), "%s%s", "<Envelope>", ends[i]);
        expect(text, 0);
    }
}

static void entities_do_not_grow(void **state) {
    struct ovf *o =
        expect("<!DOCTYPE e [<!ENTITY a 'xxxxxxxxxx'><!ENTITY b '&a;&a;&a;'>]><Envelope>"
               "<File id='f' href='&b;'/><Disk fileRef='f'/></Envelope>",
               1);

    (void)state;
    assert_string_equal(o->disk[0].file, "&b;");
}

static void names_and_numbers_are_bounded(void **state) {
    struct buf b = {0};
    struct ovf *o;

    (void)state;
    buf_printf(&b, "<Envelope>");
    for (unsigned i = 0; i < 3 * OVF_FILES; i++)
        buf_printf(&b, "<File id='%u' href='disk%u'/>", i, i);
    for (unsigned i = 0; i < 3 * OVF_FILES; i++)
        buf_printf(&b, "<Disk fileRef='%u'/>", i % 2);
    buf_put(&b, "", 1);
    o = expect((char *)b.data, OVF_FILES);
    assert_string_equal(o->disk[OVF_FILES - 1].file, "disk1");
    b.len = 0;
    buf_printf(&b, "<Envelope><File id='%0*d' %0*d='x' href='%0*d'/><Disk fileRef='%0*d'/>", 300, 1,
               300, 2, 300, 3, 300, 1);
    buf_put(&b, "", 1);
    o = expect((char *)b.data, 1);
    assert_int_equal(strlen(o->disk[0].file), OVF_NAME - 1);
    buf_done(&b);
}

/* ------------------------------------------------------------------ archives */

struct box {
    struct buf b;
    struct error e;
    struct ova_disk disk;
    char path[64];
};

static void put(struct box *x, const char *name, const char *text) {
    size_t at = x->b.len, n = strlen(text);

    buf_grow(&x->b, TAR_BLOCK);
    tar_head(x->b.data + at, name, n, 0);
    buf_put(&x->b, text, n);
    buf_grow(&x->b, -n & (TAR_BLOCK - 1));
}

static int find_stopped(struct box *x, const char *wanted, int stop) {
    int fd = memfd_create("ova", MFD_CLOEXEC), r;
    int64_t done = 0, of = 0;
    struct transfer t = {.file = x->path, .done = &done, .of = &of, .stop = &stop};

    assert_true(fd >= 0);
    assert_int_equal(write(fd, x->b.data, x->b.len), x->b.len);
    snprintf(x->path, sizeof(x->path), "/proc/self/fd/%d", fd);
    x->e = (struct error){0};
    r = ova_find(&t, wanted, &x->disk, &x->e);
    assert_true(r == 0 || (r < 0 && x->e.code < 0 && *x->e.text));
    close(fd);
    return r;
}

static int find(struct box *x, const char *wanted) { return find_stopped(x, wanted, 0); }

static void expect_disk(struct box *x, const char *wanted, const char *name, const char *text) {
    assert_int_equal(find(x, wanted), 0);
    assert_string_equal(x->disk.name, name);
    assert_int_equal(x->disk.size, strlen(text));
    assert_memory_equal(x->b.data + x->disk.offset, text, strlen(text));
    buf_done(&x->b);
}

static void expect_refused(struct box *x, const char *wanted, const char *why) {
    assert_true(find(x, wanted) < 0);
    assert_non_null(strstr(x->e.text, why));
    buf_done(&x->b);
}

#define ONE HEAD "<File id='f' href='one.vmdk'/><Disk fileRef='f'/>" END
#define TWO                                                                                        \
    HEAD "<File id='f' href='one.vmdk'/><File id='g' href='two.vmdk'/><Disk fileRef='f'/>"         \
         "<Disk fileRef='g'/>" END

static void the_disk_of_an_archive(void **state) {
    struct box x = {0};

    (void)state;
    put(&x, "m.ovf", ONE);
    put(&x, "one.vmdk", "the disk");
    expect_disk(&x, "", "one.vmdk", "the disk");
    put(&x, "./m.ovf", ONE); /* as other programs of tar call them */
    put(&x, "./one.vmdk", "the disk");
    expect_disk(&x, "", "one.vmdk", "the disk");
    put(&x, "other.vmdk", "not this");
    put(&x, "one.vmdk", "the disk");
    put(&x, "m.OVF", ONE); /* in any order */
    expect_disk(&x, "", "one.vmdk", "the disk");
}

static void several_disks_want_a_name(void **state) {
    struct box x = {0};

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        put(&x, "m.ovf", TWO);
        put(&x, "one.vmdk", "first");
        put(&x, "two.vmdk", "second");
        if (round == 0)
            expect_refused(&x, "", "one.vmdk, two.vmdk");
        else if (round == 1)
            expect_refused(&x, "three.vmdk", "no disk 'three.vmdk'");
        else
            expect_disk(&x, "two.vmdk", "two.vmdk", "second");
    }
}

/* References are URIs (clause 7.1), names in the archive are not. */
static void references_may_be_escaped(void **state) {
    struct box x = {0};

    (void)state;
    put(&x, "m.ovf", HEAD "<File id='f' href='my%20disk%2D1.vmdk'/><Disk fileRef='f'/>" END);
    put(&x, "my disk-1.vmdk", "the disk");
    expect_disk(&x, "", "my disk-1.vmdk", "the disk");
    put(&x, "m.ovf", HEAD "<File id='f' href='100%25.vmdk'/><Disk fileRef='f'/>" END);
    put(&x, "100%.vmdk", "other");
    put(&x, "100%25.vmdk", "the disk"); /* a name that is the same comes first */
    expect_disk(&x, "", "100%25.vmdk", "the disk");
    put(&x, "m.ovf", HEAD "<File id='f' href='a%zz%4%'/><Disk fileRef='f'/>" END);
    put(&x, "a%zz%4%", "the disk");
    expect_disk(&x, "", "a%zz%4%", "the disk");
    put(&x, "m.ovf", HEAD "<File id='f' href='a%00b'/><Disk fileRef='f'/>" END);
    put(&x, "a", "short");
    expect_refused(&x, "", "is not in it");
}

static void without_a_descriptor_the_name_tells(void **state) {
    struct box x = {0};

    (void)state;
    put(&x, "read.me", "text");
    put(&x, "disk.VMDK", "the disk");
    expect_disk(&x, "", "disk.VMDK", "the disk");
    put(&x, "m.ovf", HEAD END);
    put(&x, "disk.vhd", "the disk");
    expect_disk(&x, "", "disk.vhd", "the disk");
}

static void sums_are_compared(void **state) {
    char line[300];
    struct box x = {0};

    (void)state;
    for (unsigned round = 0; round < 4; round++) {
        struct sha256 s;
        char real[SHA256_TEXT];

        sha256_begin(&s);
        sha256_put(&s, "the disk", 8);
        sha256_end_text(&s, real);
        if (round == 1)
            real[5] = real[5] == '0' ? '1' : '0';
        snprintf(line, sizeof(line),
                 round == 3 ? "SHA1(one.vmdk)= 00\nSHA256(other.vmdk)= %s\n"
                            : "SHA256(m.ovf)= 00\nSHA256 (one.vmdk) = %s\n",
                 real);
        if (round == 2)
            line[60] = 0;
        put(&x, "m.ovf", ONE);
        put(&x, "m.mf", line);
        put(&x, "one.vmdk", "the disk");
        if (round == 1)
            expect_refused(&x, "", "is damaged");
        else
            expect_disk(&x, "", "one.vmdk", "the disk");
    }
}

static void archives_that_lie_are_refused(void **state) {
    struct box x = {0};

    (void)state;
    put(&x, "m.ovf", ONE);
    expect_refused(&x, "", "is not in it");
    put(&x, "m.ovf", "no descriptor");
    put(&x, "one.vmdk", "the disk");
    expect_refused(&x, "", "no descriptor");
    put(&x, "m.ovf", HEAD "<File id='f' href='../../etc/passwd'/><Disk fileRef='f'/>" END);
    put(&x, "one.vmdk", "the disk");
    expect_refused(&x, "", "is not in it");
    put(&x, "m.ovf", HEAD "<File id='f' href='one.vmdk' chunkSize='1'/><Disk fileRef='f'/>" END);
    put(&x, "one.vmdk", "the disk");
    expect_refused(&x, "", "several files");
    put(&x, "m.ovf", HEAD "<File id='f' href='one.vmdk'/><Disk fileRef='f' parentRef='g'/>" END);
    put(&x, "one.vmdk", "the disk");
    expect_refused(&x, "", "differs from another");
    put(&x, "nothing", "");
    expect_refused(&x, "", "holds no disk");
    expect_refused(&x, "", "no tar archive");
    put(&x, "m.ovf", ONE);
    put(&x, "one.vmdk", "the disk");
    x.b.len -= TAR_BLOCK;
    expect_refused(&x, "", "cut off");
}

static void sums_can_be_cancelled(void **state) {
    struct box x = {0};

    (void)state;
    put(&x, "m.ovf", ONE);
    put(&x, "m.mf",
        "SHA256(one.vmdk)= "
        "0000000000000000000000000000000000000000000000000000000000000000\n");
    put(&x, "one.vmdk", "the disk");
    assert_true(find_stopped(&x, "", 1) < 0);
    assert_non_null(strstr(x.e.text, "cancelled"));
    buf_done(&x.b);
}

static void more_disks_than_anybody_has(void **state) {
    struct box x = {0};
    char name[40];

    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "a-rather-long-name-%u.vmdk", i);
        put(&x, name, "disk");
    }
    expect_refused(&x, "", "several disks");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disks_are_found_by_their_references),
        cmocka_unit_test(disks_in_parts_and_differences_are_told),
        cmocka_unit_test(any_prefix_any_quotes_and_any_blanks),
        cmocka_unit_test(ours_says_what_it_was_given),
        cmocka_unit_test(what_is_no_descriptor_is_refused),
        cmocka_unit_test(what_is_cut_off_or_crooked_says_less),
        cmocka_unit_test(entities_do_not_grow),
        cmocka_unit_test(names_and_numbers_are_bounded),
        cmocka_unit_test(the_disk_of_an_archive),
        cmocka_unit_test(several_disks_want_a_name),
        cmocka_unit_test(references_may_be_escaped),
        cmocka_unit_test(without_a_descriptor_the_name_tells),
        cmocka_unit_test(sums_are_compared),
        cmocka_unit_test(archives_that_lie_are_refused),
        cmocka_unit_test(sums_can_be_cancelled),
        cmocka_unit_test(more_disks_than_anybody_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
