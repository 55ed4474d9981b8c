/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot that a machine wrote which its guest had taken over: what it names of the host. */
#include "vm/restore_only.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/snapshot.h"
#include "support/test.h"
#include "vm/options.h"
#include "vm/restore.h"

static const char plain[] =
    "{\"name\": \"web\", \"cpu_model\": \"host\", \"kernel\": \"/etc/passwd\", \"initrd\": null,"
    " \"append\": null, \"console\": null, \"serial\": \"none\", \"cpus\": 1,"
    " \"memory\": 67108864, \"disks\": [], \"nics\": []}";

/* 0, or the error of a restore with these words of the command line and this said besides. */
static int restore(const char *words, const char *more, struct error *err) {
    char line[400], *argv[20] = {"viv-vm", "--restore", "s"};
    static struct options o;
    struct snapshot s = {.dir = "s"};
    json_t *v = json_loads(plain, 0, NULL), *add = json_loads(more, 0, NULL);
    int argc = 3, r;

    assert_non_null(v);
    assert_non_null(add);
    json_object_update(v, add);
    s.json = json_dumps(v, 0);
    snprintf(line, sizeof(line), "%s", words);
    for (char *rest = line, *w; *line && (w = strsep(&rest, " "));)
        argv[argc++] = w;
    memset(err, 0, sizeof(*err));
    assert_int_equal(options_parse(&o, argc, argv, err), 0);
    r = restore_options(&o, &s, err);
    if (r == 0 && o.cdroms)
        assert_true(!o.cdrom[0] || !o.restore_onlys);
    if (r == 0)
        assert_true(!o.displays || !o.restore_onlys);
    options_done(&o);
    free(s.json);
    json_decref(v);
    json_decref(add);
    return r;
}

static const struct {
    const char *what, *json, *given; /* the option that makes it harmless; NULL: there is none */
} named[] = {
    {"a folder", "{\"shares\": [{\"tag\": \"x\", \"path\": \"/\", \"readonly\": false}]}", NULL},
    {"a disk",
     "{\"disks\": [{\"path\": \"/etc/shadow\", \"format\": \"raw\", \"properties\": \"\"}]}", NULL},
    {"the kernel", "{\"kernel\": \"/etc/shadow\"}", NULL},
    {"the initrd", "{\"initrd\": \"/etc/shadow word\"}", "--initrd /etc/passwd"},
    {"one more initrd", "{\"initrd\": [\"/etc/passwd\", \"/etc/shadow\"]}", NULL},
    {"the firmware",
     "{\"firmware\": {\"rom\": \"/etc/shadow\", \"uefi_vars\": null, \"boot_order\": null}}", NULL},
    {"the variables",
     "{\"firmware\": {\"rom\": \"bios\", \"uefi_vars\": \"/etc/x\", \"boot_order\": null}}",
     "--uefi-vars vars"},
    {"a serial line", "{\"serial\": \"file:/etc/cron.d/x\"}", "--serial none"},
    {"one more serial line", "{\"more_serials\": [\"unix:/run/x\"]}",
     "--serial none --serial none"},
    {"the console", "{\"console\": \"file:/root/.bashrc\"}", "--console none"},
    {"the socket", "{\"vsock\": \"/run/x\", \"vsock_cid\": 3}", "--vsock unix:v"},
    {"a network",
     "{\"nics\": [{\"mac\": \"52:54:00:00:00:01\", \"forwards\": [], \"link\": \"/run/x\","
     " \"mtu\": 1500}]}",
     "--nic none"},
    {"a folder of TFTP",
     "{\"nics\": [{\"mac\": \"52:54:00:00:00:01\", \"forwards\": [], \"tftp\": \"/\"}]}",
     "--nic user"},
    {"a ROM",
     "{\"nics\": [{\"mac\": \"52:54:00:00:00:01\", \"forwards\": [], \"rom\": \"/etc/shadow\"}]}",
     NULL},
};

static void what_it_names_is_not_opened(void **state) {
    struct error e;
    char words[200];

    for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
        if (restore("--restore-only /etc/passwd", named[i].json, &e) == 0)
            fail_msg("%s is taken", named[i].what);
        if (!strstr(e.text, "--restore-only") && !strstr(e.text, "written after"))
            fail_msg("%s: %s", named[i].what, e.text);
        snprintf(words, sizeof(words), "--restore-only /etc/passwd %s", named[i].given);
        if (named[i].given && restore(words, named[i].json, &e) < 0)
            fail_msg("%s, with %s: %s", named[i].what, named[i].given, e.text);
    }
}

static void what_is_given_otherwise_is(void **state) {
    struct error e;

    assert_int_equal(restore("--restore-only none --restore-only /etc/../etc/passwd", "{}", &e), 0);
    assert_int_equal(restore("--restore-only none --kernel vmlinuz", "{}", &e), 0);
    assert_true(restore("--restore-only none", "{}", &e) < 0);
    assert_int_equal(restore("", "{\"serial\": \"file:/tmp/x\"}", &e), 0);
}

static void a_medium_and_a_screen_are_taken_out(void **state) {
    struct error e;

    assert_int_equal(restore("--restore-only /etc/passwd",
                             "{\"cdroms\": [\"/etc/shadow\"], \"vga\": \"std\", \"display\": "
                             "\"vnc=0.0.0.0:5900\"}",
                             &e),
                     0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_names_is_not_opened),
        cmocka_unit_test(what_is_given_otherwise_is),
        cmocka_unit_test(a_medium_and_a_screen_are_taken_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
