/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on backups of the manager's store. */
#include "cli/cli.h"

int do_backup_create(struct cli *c) {
    json_t *made = NULL;
    int r = remote_call(c->remote, "POST", NULL, &made, &c->failure, "/v1/hosts/local/backup");

    if (r == 0 && c->json)
        show_json(made);
    else if (r == 0)
        puts(item_text(made, NULL, "file"));
    json_decref(made);
    return r;
}

int do_backup_list(struct cli *c) {
    json_t *list = NULL, *one;
    int r = remote_call(c->remote, "GET", NULL, &list, &c->failure, "/v1/hosts/local/backups");
    size_t i;

    if (r == 0 && c->json)
        show_json(list);
    else if (r == 0 && !json_array_size(json_object_get(list, "files")))
        show_note(c, "there is no backup yet; 'viv backup create' makes one");
    else if (r == 0)
        json_array_foreach(json_object_get(list, "files"), i, one)
            puts(json_string_value(one));
    json_decref(list);
    return r;
}
