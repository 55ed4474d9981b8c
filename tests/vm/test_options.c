/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line: defaults, values and what they become, and that help is made from the same
 * table. */
#include "vm/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

static struct options o;
static struct error err;

/* Words separated by '|', since values contain blanks; the kernel is given. */
static int parse(const char *line) {
    static char words[4096];
    char *argv[100] = {"viv-vm", "--kernel", "k"};
    int argc = 3;

    memset(&err, 0, sizeof(err));
    snprintf(words, sizeof(words), "%s", line);
    for (char *rest = words, *w; *line && (w = strsep(&rest, "|"));)
        argv[argc++] = w;
    return options_parse(&o, argc, argv, &err);
}

static void good(const char *line) {
    if (parse(line) < 0)
        fail_msg("'%s': %s", line, err.text);
}

static void bad(const char *line, const char *text) {
    assert_true(parse(line) < 0);
    if (!strstr(err.text, text))
        fail_msg("'%s' says nothing of '%s'", err.text, text);
    options_done(&o);
}

static void defaults_are_sensible(void **state) {
    good("");
    assert_string_equal(o.kernel, "k");
    assert_string_equal(o.cpu, "auto");
    assert_int_equal(o.serials, 1);
    assert_string_equal(o.serial[0], "stdio");
    assert_string_equal(o.name, "");
    assert_null(o.console);
    assert_int_equal(o.initrds, 0);
    assert_int_equal(o.cpus, 1);
    assert_int_equal(o.memory, 512 << 20);
    assert_int_equal(o.disks + o.nics + o.traces, 0);
    assert_false(o.no_reboot || o.debug_exit || o.stats);
    options_done(&o);
}

static void memory_may_come_later(void **state) {
    good("--memory|1G,max=8G");
    assert_true(o.memory == 1ull << 30 && o.memory_max == 8ull << 30);
    options_done(&o);
    good("--memory|63M,max=65M"); /* whole blocks */
    assert_true(o.memory == 64ull << 20 && o.memory_max == 66ull << 20);
    options_done(&o);
    good("--memory|1G,max=8G|--memory|2G");
    assert_true(o.memory == 2ull << 30 && !o.memory_max);
    options_done(&o);
    bad("--memory|2G,max=1G", "max=1G is less");
    bad("--memory|2G,max=129G", "16M to 128G");
    bad("--memory|2G,most=4G", "'most=4G' is no property");
    bad("--memory|2G,max=4G,max=5G", "too much");
    bad("--memory|,max=4G", "is no size");
}

static void processors_may_come_later(void **state) {
    good("--cpus|2");
    assert_int_equal(o.cpus, 2);
    assert_int_equal(options_all_cpus(&o), 2);
    assert_int_equal(o.cpus_max, 0);
    options_done(&o);
    good("--cpus|2,max=8|--disk|d.raw");
    assert_int_equal(o.cpus, 2);
    assert_int_equal(options_all_cpus(&o), 8);
    assert_int_equal(options_disk_queues(&o, 0), 8); /* each of them has one */
    options_done(&o);
    good("--cpus|2,max=8|--cpus|3");
    assert_int_equal(options_all_cpus(&o), 3);
    options_done(&o);
    bad("--cpus|4,max=3", "from 4 to 32");
    bad("--cpus|4,max=33", "from 4 to 32");
    bad("--cpus|4,most=8", "'most=8' is no property of processors");
    bad("--cpus|4,max=8,max=9", "is too much");
    bad("--cpus|,max=8", "is not a number");
}

static void both_forms_of_a_value_are_understood_and_the_last_one_counts(void **state) {
    good("--name=web|--append|quiet root=/dev/vda|--append=--init");
    assert_string_equal(o.name, "web");
    assert_string_equal(o.append, "--init");
    options_done(&o);
    good("--append|--|--kernel=--kernel"); /* no option is called so, or the = says that it is none
                                            */
    assert_string_equal(o.append, "--");
    assert_string_equal(o.kernel, "--kernel");
    options_done(&o);
    bad("--append|--stats", "--append needs a value");
    bad("--append", "--append needs a value");
}

static void
parts_of_the_translator_can_be_left_out_by_name_or_as_options_of_their_own(void **state) {
    good("--cpu|soft|--soft-debug|no-chain,no-tier2|--no-coalesce");
    assert_int_equal(o.cpu_debug.off, JIT_NO_CHAIN | JIT_NO_TIER2 | JIT_NO_COALESCE);
    options_done(&o);
    good("");
    assert_int_equal(o.cpu_debug.off, 0);
    options_done(&o);
    bad("--soft-debug|no-chain,", "--soft-debug: '' is no part");
    bad("--soft-debug|no-brain", "'no-brain' is no part");
    bad("--no-brain", "there is no option '--no-brain'");
    bad("--no-chain,no-sites", "there is no option");
    bad("--no-chain=1", "there is no option");
    bad("--cpu|ref|--no-chain", "use --cpu soft");
    bad("--append|--no-chain", "--append needs a value");
}

static void what_to_dump_is_named_with_a_range_or_a_number(void **state) {
    good("--cpu|soft|--dump|guest,host");
    assert_int_equal(o.cpu_debug.dump, DUMP_GUEST | DUMP_HOST);
    assert_int_equal(o.cpu_debug.dump_hot, 10);
    options_done(&o);
    good("--cpu|soft|--dump|host:hot:25");
    assert_int_equal(o.cpu_debug.dump, DUMP_HOST);
    assert_int_equal(o.cpu_debug.dump_hot, 25);
    assert_true(o.cpu_debug.dump_last == 0);
    options_done(&o);
    good("--cpu|soft|--dump|guest:ffffffff81000000-ffffffff81000fff");
    assert_int_equal(o.cpu_debug.dump, DUMP_GUEST);
    assert_true(o.cpu_debug.dump_first == 0xffffffff81000000);
    assert_true(o.cpu_debug.dump_last == 0xffffffff81000fff);
    assert_int_equal(o.cpu_debug.dump_hot, 0);
    options_done(&o);
    good("--cpu|soft|--dump|guest:0x401000|--check");
    assert_true(o.cpu_debug.dump_first == 0x401000 && o.cpu_debug.dump_last == 0x401000);
    assert_true(o.cpu_debug.check && !o.cpu_debug.check_all);
    options_done(&o);
    good("--cpu|soft|--check-all");
    assert_true(o.cpu_debug.check && o.cpu_debug.check_all);
    options_done(&o);
    good("--cpu|soft|--count|--perf-map");
    assert_true(o.stats && o.cpu_debug.stats && o.cpu_debug.count && o.cpu_debug.perf_map);
    options_done(&o);
    good("--cpu|ref|--stats"); /* the interpreter has some, too */
    options_done(&o);
    bad("--cpu|ref|--count", "use --cpu soft");
    bad("--cpu|ref|--check", "use --cpu soft");
    bad("--cpu|ref|--dump|host", "use --cpu soft");
    const char *const words[] = {
        "",          "hosts",     "guest,",       "guest;host",
        "host:",     "host:hot:", "host:hot:0",   "host:hot:-1",
        "host:hot5", "host:2-1",  "host:0x10-zz", "host:hot:9999999",
        "host:-5",   ":hot",      "guest:1-2-3",  "host:11111111111111111"};
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        char line[80];
        snprintf(line, sizeof(line), "--cpu|soft|--dump=%s", words[i]);
        bad(line, "says not what to print");
    }
}

static void sizes_have_units_and_are_whole_huge_pages(void **state) {
    static const struct {
        const char *line;
        uint64_t bytes;
    } sizes[] = {{"--memory|16M", 16ull << 20},    {"--memory|2g", 2ull << 30},
                 {"--memory|128G", 128ull << 30},  {"--memory|33554432", 32ull << 20},
                 {"--memory|16385k", 18ull << 20}, {"--memory|16777217", 18ull << 20},
                 {"--memory|00512M", 512ull << 20}};

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        good(sizes[i].line);
        assert_int_equal(o.memory, sizes[i].bytes);
        options_done(&o);
    }
    bad("--memory|16777215", "from 16M to 128G");
    bad("--memory|137438953473", "from 16M to 128G");
    bad("--memory|0x200M", "is no size");
    bad("--memory| 512M", "is no size");
    bad("--memory|512MB", "is no size");
    bad("--memory|M", "is no size");
    bad("--memory|18446744073709551616", "is no size");
    bad("--memory|17592186044416M", "is no size");
}

static void a_disk_is_a_path_and_properties(void **state) {
    good("--disk|a.raw|--disk|b,,c.raw,readonly,format=raw|--disk|d,readonly=off|--disk|,,");
    assert_int_equal(o.disks, 4);
    assert_string_equal(o.disk[0].path, "a.raw");
    assert_string_equal(o.disk[0].format, "raw");
    assert_false(o.disk[0].readonly);
    assert_string_equal(o.disk[1].path, "b,c.raw");
    assert_true(o.disk[1].readonly);
    assert_false(o.disk[2].readonly);
    assert_string_equal(o.disk[3].path, ",");
    options_done(&o);
    good("--disk|a,cache=none,aio=threads,discard=ignore|--disk|b,cache=unsafe,aio=io_uring"
         "|--disk|c,cache=writeback,aio=auto,discard=unmap");
    assert_int_equal(o.disk[0].cache, BLOCK_CACHE_NONE);
    assert_int_equal(o.disk[0].engine, BLOCK_ENGINE_THREADS);
    assert_true(o.disk[0].keep_discarded);
    assert_int_equal(o.disk[1].cache, BLOCK_CACHE_UNSAFE);
    assert_int_equal(o.disk[1].engine, BLOCK_ENGINE_URING);
    assert_int_equal(o.disk[2].cache, BLOCK_CACHE_WRITEBACK);
    assert_int_equal(o.disk[2].engine, BLOCK_ENGINE_AUTO);
    assert_false(o.disk[2].keep_discarded);
    options_done(&o);
    good("--disk|a,on-error=pause,iops=500,iops-read=7,bps-write=2M,burst=60|--disk|b,on-error="
         "report"
         "|--disk|c,bps=1G,bps-read=1,iops-write=3,on-error=enospc");
    assert_int_equal(o.disk[0].on_error, BLOCK_ON_ERROR_PAUSE);
    assert_int_equal(o.disk[0].limits.iops[0], 500);
    assert_int_equal(o.disk[0].limits.iops[1], 7);
    assert_int_equal(o.disk[0].limits.bps[2], 2 << 20);
    assert_int_equal(o.disk[0].limits.burst_ns, 60000000000);
    assert_int_equal(o.disk[1].on_error, BLOCK_ON_ERROR_REPORT);
    assert_int_equal(o.disk[2].limits.bps[0], 1 << 30);
    assert_int_equal(o.disk[2].limits.bps[1], 1);
    assert_int_equal(o.disk[2].limits.iops[2], 3);
    options_done(&o);
    good("--disk|a,queues=4|--disk|b|--disk|c,queues=8,readonly");
    assert_int_equal(o.disk_queues[0], 4);
    assert_int_equal(o.disk_queues[1], 0);
    assert_int_equal(o.disk_queues[2], 8);
    options_done(&o);
    good("--disk|a,serial=data-1.x_Y|--disk|b,serial=12345678901234567890");
    options_done(&o);
    bad("--disk|a,serial=", "'' is no serial number");
    bad("--disk|a,serial=123456789012345678901", "is no serial number: use 1 to 20");
    bad("--disk|a,serial=a/b", "'a/b' is no serial number");
    good("--log-format|json");
    options_done(&o);
    bad("--log-format|xml", "--log-format is text or json, not 'xml'");
    bad("--disk|a,queues=0", "queues=: '0' is not a number from 1 to 8");
    bad("--disk|a,queues=9", "not a number from 1 to 8");
    bad("--disk|a,iops=fast", "iops=fast: 'fast' is no size");
    bad("--disk|a,burst=3601", "not a number from 0 to 3600");
    bad("--disk|a,on-error=ignore", "is no property");
    bad("--disk|a,readonly=maybe", "'readonly=maybe' is no property");
    bad("--disk|a,cache=some", "'cache=some' is no property");
    bad("--disk|a,aio=", "'aio=' is no property");
    bad("--disk|a,discard=Unmap", "'discard=Unmap' is no property");
    bad("--disk|a,", "'' is no property");
}

static void system_management_mode_is_on_off_or_as_firmware_needs(void **state) {
    char *argv[] = {"viv-vm", "--firmware", "uefi", "--smm", "on"};

    good("");
    assert_int_equal(o.smm, SMM_AUTO);
    options_done(&o);
    good("--smm|off");
    assert_int_equal(o.smm, SMM_OFF);
    options_done(&o);
    assert_int_equal(options_parse(&o, 5, argv, &err), 0);
    assert_int_equal(o.smm, SMM_ON);
    options_done(&o);
    bad("--smm|maybe", "on, off or auto");
    bad("--smm|on", "for firmware");
}

static void the_hpet_is_on_or_off(void **state) {
    good("--kernel|k");
    assert_false(o.hpet);
    options_done(&o);
    good("--kernel|k|--hpet|on");
    assert_true(o.hpet);
    options_done(&o);
    bad("--hpet|maybe", "on or off");
}

static void a_network_has_an_address_and_forwards(void **state) {
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0xab, 0xCD, 0xef};

    good("--nic|none|--nic|user,mac=52:54:00:ab:CD:eF,forward=tcp:127.0.0.1:2222:22,"
         "forward=udp::53:5353,forward=tcp:[::1]:80:8080|--nic|user");
    assert_int_equal(o.nics, 2);
    assert_memory_equal(o.nic[0].mac, mac, 6);
    assert_int_equal(o.nic[0].forwards, 3);
    assert_string_equal(o.nic[0].forward[0].host, "127.0.0.1");
    assert_int_equal(o.nic[0].forward[0].host_port, 2222);
    assert_int_equal(o.nic[0].forward[0].guest_port, 22);
    assert_false(o.nic[0].forward[0].udp);
    assert_string_equal(o.nic[0].forward[1].host, "0.0.0.0");
    assert_true(o.nic[0].forward[1].udp);
    assert_string_equal(o.nic[0].forward[2].host, "::1");
    assert_int_equal(o.nic[0].forward[2].guest_port, 8080);
    assert_int_equal(o.nic[1].mac[5], 0x57);
    options_done(&o);
    bad("--nic|user,mac=52:54:00:12:34:57|--nic|user", "interfaces 0 and 1 have the same");
    good("--boot|order=dc,first=data,menu=on|--display|vnc=unix:/"
         "a|--display|vnc=127.0.0.1:5901,tls=/t");
    assert_string_equal(o.boot_order, "dc");
    assert_string_equal(o.boot_first, "data");
    assert_int_equal(o.displays, 2);
    assert_string_equal(o.vnc[0].path, "/a");
    assert_string_equal(o.vnc[1].tls, "/t");
    options_done(&o);
    bad("--boot|first=", "none of order=LETTERS, first=SERIAL");
    bad("--display|none|--display|none|--display|none", "at most 2");
    bad("--vga|none|--display|none|--display|vnc=unix:/a", "--vga none takes it away");
    good("--nic|user,bootfile=http://10.0.2.2/a,,b,rom=none,model=virtio,tftp=/|--boot|order=n");
    assert_string_equal(o.nic[0].bootfile, "http://10.0.2.2/a,b");
    assert_true(o.nic[0].no_rom && !o.nic[0].rom);
    options_done(&o);
    bad("--nic|user,model=ne2000", "model=virtio or model=e1000e");
    bad("--nic|user,rom=", "lacks its value");
    bad("--nic|user,tftp=/nonexistent", "is no folder");
    bad("--nic|link=/a,bootfile=x", "say what to boot");
    bad("--nic|user,forward=tcp:[::1:80:80", "no address");
    bad("--nic|user,forward=tcp:[::1]80:80", "lacks a port");
    bad("--nic|user,forward=tcp:127.0.0.1:80:80:80", "is no port");
    bad("--nic|user,forward=tcp:127.0.0.1::80", "is no port");
    bad("--nic|user,forward=tcp:127.0.0.1:123456789012345678:80", "lacks a port");
    bad("--nic|user,forward=tcp:1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1:1:1",
        "ad");
    bad("--nic|user,mac=52:54:00:12:34:5", "is no MAC");
    bad("--nic|user,mac=52:54:00:12:34:5g", "is no MAC");
    bad("--nic|user,mac=52:54:00:12:34:567", "is no MAC");
    bad("--nic|user,mac=0x:54:00:12:34:56", "is no MAC");
    bad("--nic|", "is no kind of network");
}

static void a_network_may_be_a_link_to_a_switch(void **state) {
    good("--nic|link=/run/lan/ports,mac=02:00:00:00:00:01|--nic|link=b,mtu=1500");
    assert_string_equal(o.nic[0].link, "/run/lan/ports");
    assert_int_equal(o.nic[0].mtu, 65520);
    assert_int_equal(o.nic[0].mac[0], 2);
    assert_int_equal(o.nic[1].mtu, 1500);
    options_done(&o);
    bad("--nic|link=", "1 to 107 characters");
    bad("--nic|link=a,mtu=100", "mtu=100");
    bad("--nic|user,mtu=1500", "belongs to a link");
    bad("--nic|link=a,forward=tcp::1:1", "the switch of a link forwards ports");
    bad("--nic|link=a,b=c", "is no property");
}

static void too_many_forwards_are_refused(void **state) {
    char line[2000] = "--nic|user";

    for (unsigned i = 0; i < OPTIONS_MAX_FORWARDS; i++)
        strcat(line, ",forward=tcp::1:1");
    good(line);
    options_done(&o);
    strcat(line, ",forward=tcp::1:1");
    bad(line, "at most 32 forwards");
}

static void help_needs_no_kernel_and_lists_what_is_understood(void **state) {
    char *argv[] = {"viv-vm", "--help"}, *text, *line, *rest;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    unsigned options = 0;

    assert_int_equal(options_parse(&o, 2, argv, &err), 0);
    assert_true(o.help);
    options_done(&o);
    options_help(f);
    fclose(f);
    /* Every option that help shows is one that the parser knows, with or without a value as shown.
     */
    for (rest = text; (line = strsep(&rest, "\n"));) {
        char name[200], word[100], value[100];
        int words;

        if (strncmp(line, "  --", 4) != 0)
            continue;
        words = sscanf(line, "  --%99s %99s", word, value);
        assert_in_range(words, 1, 2);
        options++;
        snprintf(name, sizeof(name), words == 2 ? "--%s" : "--%s=x", word);
        assert_true(parse(name) < 0);
        assert_non_null(strstr(err.text, words == 2 ? "needs a value" : "takes no value"));
        options_done(&o);
    }
    assert_true(options >= 17);
    free(text);
}

/* Whatever stands on the command line, there is an answer, and nothing leaks (ASan watches). */
static void rubbish_is_answered_with_a_sentence(void **state) {
    static const char alphabet[] = "-=,:|.[]/0123456789abcdefMG";
    struct rng rng = rng_seed(1);

    for (unsigned i = 0; i < 20000; i++) {
        static const char *const heads[] = {"--disk|",
                                            "--nic|user,",
                                            "--memory|",
                                            "--nic|user,mac=",
                                            "--nic|user,forward=tcp:",
                                            "--",
                                            "",
                                            "--serial|"};
        char line[200];
        size_t n = (size_t)snprintf(line, sizeof(line), "%s", heads[rng_below(&rng, 8)]);

        for (uint64_t more = rng_below(&rng, 40); more; more--)
            line[n++] = alphabet[rng_below(&rng, sizeof(alphabet) - 1)];
        line[n] = 0;
        if (parse(line) < 0)
            assert_true(*err.text && err.code < 0);
        options_done(&o);
    }
}

static void what_is_about_a_snapshot_needs_one(void **state) {
    good("--restore|s|--renew-identity|--prefetch");
    assert_true(o.renew_identity && o.prefetch);
    options_done(&o);
    good("--restore|s|--record-working-set|10");
    assert_int_equal(o.record_working_set, 10);
    options_done(&o);
    bad("--renew-identity", "--restore");
    bad("--prefetch", "--restore");
    good("--restore|s|--template|--control|unix:t");
    assert_true(o.template);
    options_done(&o);
    bad("--template|--control|unix:t", "--restore");
    bad("--restore|s|--template", "--control");
    bad("--record-working-set|10", "--restore");
    bad("--restore|s|--record-working-set|0", "not a number from 1 to 3600");
    bad("--restore|s|--record-working-set|10|--prefetch", "one of the two");
}

static void there_are_up_to_four_serial_ports(void **state) {
    good("--serial|none|--serial|unix:/tmp/a|--serial|none|--serial|stdio");
    assert_int_equal(o.serials, 4);
    assert_string_equal(o.serial[1], "unix:/tmp/a");
    assert_string_equal(o.serial[3], "stdio");
    options_done(&o);
    bad("--serial|none|--serial|none|--serial|none|--serial|none|--serial|none",
        "at most 4 serial ports");
    bad("--serial|unix:x|--serial|none|--serial|unix:x", "--serial and another --serial both want");
    bad("--serial|none|--serial|unix:x|--console|unix:x",
        "--serial and --console both want unix:x");
}

static void shared_folders_have_tags_and_paths(void **state) {
    good("--share|src=/home/me|--share|a,,b=/x,,y,ro");
    assert_int_equal(o.shares, 2);
    assert_string_equal(o.share[0].tag, "src");
    assert_string_equal(o.share[0].path, "/home/me");
    assert_false(o.share[0].readonly);
    assert_string_equal(o.share[1].tag, "a,b");
    assert_string_equal(o.share[1].path, "/x,y");
    assert_true(o.share[1].readonly);
    options_done(&o);
    bad("--share|src", "'src' has no path: use TAG=PATH");
    bad("--share|=/x", "a tag of 1 to 36 characters");
    bad("--share|src=", "a tag of 1 to 36 characters");
    bad("--share|src=/x,rw", "'rw' is nothing a shared folder knows");
    bad("--share|a=/x|--share|a=/y", "two folders have the tag 'a'");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_sensible),
        cmocka_unit_test(processors_may_come_later),
        cmocka_unit_test(memory_may_come_later),
        cmocka_unit_test(both_forms_of_a_value_are_understood_and_the_last_one_counts),
        cmocka_unit_test(
            parts_of_the_translator_can_be_left_out_by_name_or_as_options_of_their_own),
        cmocka_unit_test(what_to_dump_is_named_with_a_range_or_a_number),
        cmocka_unit_test(sizes_have_units_and_are_whole_huge_pages),
        cmocka_unit_test(a_disk_is_a_path_and_properties),
        cmocka_unit_test(the_hpet_is_on_or_off),
        cmocka_unit_test(system_management_mode_is_on_off_or_as_firmware_needs),
        cmocka_unit_test(there_are_up_to_four_serial_ports),
        cmocka_unit_test(shared_folders_have_tags_and_paths),
        cmocka_unit_test(a_network_has_an_address_and_forwards),
        cmocka_unit_test(a_network_may_be_a_link_to_a_switch),
        cmocka_unit_test(too_many_forwards_are_refused),
        cmocka_unit_test(help_needs_no_kernel_and_lists_what_is_understood),
        cmocka_unit_test(what_is_about_a_snapshot_needs_one),
        cmocka_unit_test(rubbish_is_answered_with_a_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
