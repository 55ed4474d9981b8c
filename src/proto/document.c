/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * YAML through the events of libyaml. A text that begins as JSON does is JSON: what that has and
 * libyaml does not know (pairs of surrogates, several documents behind each other) is rewritten
 * first, without moving a line.
 *
 * Departures from YAML 1.2: keys must be scalars and stand once in a map; tags other than !!str are
 * refused; the merge key << of YAML 1.1 is taken.
 */
#include "proto/document.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/bytes.h"

/* Both are searched from end to end. */
enum { ANCHORS = 200, MEMBERS = 256 };

struct anchor {
    char *name;
    const struct document_node *node; /* NULL: it has not ended yet */
};

struct source {
    yaml_parser_t parser;
    struct anchor anchor[ANCHORS];
    unsigned anchors;
    unsigned nodes, line;
    size_t bytes;
    struct error *err;
};

static int refuse(struct source *r, unsigned line, const char *why) {
    r->line = line;
    return error_set(r->err, -EINVAL, "%s", why);
}

void document_free(struct document_node *n) {
    struct document_node *next;

    for (; n; n = next) {
        next = n->next;
        document_free(n->first);
        free(n->text);
        free(n->key);
        free(n);
    }
}

const struct document_node *document_member(const struct document_node *map, const char *key) {
    for (const struct document_node *n = map->type == DOCUMENT_MAP ? map->first : NULL; n;
         n = n->next)
        if (!strcmp(n->key, key))
            return n;
    return NULL;
}

bool document_is_null(const struct document_node *n) {
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};

    for (unsigned i = 0; n->type == DOCUMENT_SCALAR && n->plain && i < 5; i++)
        if (!strcmp(n->text, words[i]))
            return true;
    return false;
}

/* ------------------------------------------------------------------ nodes */

static struct document_node *node_new(struct source *r, enum document_type type, unsigned line) {
    struct document_node *n = NULL;

    if (++r->nodes > DOCUMENT_NODES)
        refuse(r, line, "it has more parts than a file may have, aliases included");
    else if (!(n = calloc(1, sizeof(*n))))
        refuse(r, line, "out of memory");
    else
        *n = (struct document_node){.type = type, .line = line};
    return n;
}

static char *copy_text(struct source *r, const char *s, size_t len, unsigned line) {
    char *text = NULL;

    r->bytes += len;
    if (memchr(s, 0, len))
        refuse(r, line, "a text holds a zero byte");
    else if (r->bytes > DOCUMENT_COPIES)
        refuse(r, line, "it holds more text than a file may, aliases included");
    else if (!(text = strndup(s, len)))
        refuse(r, line, "out of memory");
    return text;
}

static struct document_node *copy_node(struct source *r, const struct document_node *from,
                                       unsigned line) {
    struct document_node *n = node_new(r, from->type, line), **end;

    if (!n)
        return NULL;
    n->plain = from->plain;
    if (from->text && !(n->text = copy_text(r, from->text, strlen(from->text), line)))
        goto failed;
    end = &n->first;
    for (const struct document_node *c = from->first; c; c = c->next, end = &(*end)->next) {
        *end = copy_node(r, c, line);
        if (!*end || (c->key && !((*end)->key = copy_text(r, c->key, strlen(c->key), line))))
            goto failed;
    }
    return n;

failed:
    document_free(n);
    return NULL;
}

/* How deep it goes: an alias may stand deeper than what it stands for. */
static unsigned depth_of(const struct document_node *n) {
    unsigned most = 0;

    for (const struct document_node *c = n->first; c; c = c->next) {
        unsigned d = depth_of(c);

        most = d > most ? d : most;
    }
    return most + 1;
}

/* ------------------------------------------------------------------ events */

static bool next_event(struct source *r, yaml_event_t *e) {
    char text[200];

    if (yaml_parser_parse(&r->parser, e))
        return true;
    snprintf(text, sizeof(text), "it is no valid YAML: %s%s%s",
             r->parser.problem ? r->parser.problem : "out of memory", r->parser.context ? ", " : "",
             r->parser.context ? r->parser.context : "");
    refuse(r,
           (unsigned)(r->parser.error == YAML_READER_ERROR ? r->parser.mark.line
                                                           : r->parser.problem_mark.line) +
               1,
           text);
    return false;
}

static unsigned line_of(const yaml_event_t *e) { return (unsigned)e->start_mark.line + 1; }

/* The place of an anchor in the table; -1 refused, ANCHORS: it has none. */
static int begin_anchor(struct source *r, const yaml_char_t *name, unsigned line) {
    if (!name)
        return ANCHORS;
    if (r->anchors == ANCHORS) {
        refuse(r, line, "it has too many anchors");
        return -1;
    }
    r->anchor[r->anchors] = (struct anchor){strdup((const char *)name), NULL};
    return (int)r->anchors++;
}

static void end_anchor(struct source *r, int at, const struct document_node *n) {
    if (at < ANCHORS)
        r->anchor[at].node = n;
}

static void forget_anchors(struct source *r) {
    while (r->anchors)
        free(r->anchor[--r->anchors].name);
}

static struct document_node *read_alias(struct source *r, const yaml_event_t *e, unsigned depth) {
    const char *name = (const char *)e->data.alias.anchor;

    for (unsigned i = r->anchors; i-- > 0;) { /* the last one of the name counts */
        if (!r->anchor[i].name || strcmp(r->anchor[i].name, name) != 0)
            continue;
        if (!r->anchor[i].node)
            refuse(r, line_of(e), "an alias stands in what it stands for");
        else if (depth + depth_of(r->anchor[i].node) > DOCUMENT_DEPTH)
            refuse(r, line_of(e), "it is nested too deep");
        else
            return copy_node(r, r->anchor[i].node, line_of(e));
        return NULL;
    }
    refuse(r, line_of(e), "an alias has no anchor");
    return NULL;
}

static bool is_string_tag(const yaml_char_t *tag) {
    return !strcmp((const char *)tag, YAML_STR_TAG) || !strcmp((const char *)tag, "!");
}

static struct document_node *read_scalar(struct source *r, const yaml_event_t *e) {
    const yaml_char_t *tag = e->data.scalar.tag;
    struct document_node *n;

    if (tag && !is_string_tag(tag)) {
        refuse(r, line_of(e), "tags are not taken: write the value without one");
        return NULL;
    }
    n = node_new(r, DOCUMENT_SCALAR, line_of(e));
    if (!n)
        return NULL;
    n->plain = !tag && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->text = copy_text(r, (const char *)e->data.scalar.value, e->data.scalar.length, n->line);
    if (n->text)
        return n;
    document_free(n);
    return NULL;
}

static struct document_node *read_node(struct source *r, yaml_event_t *e, unsigned depth);

/* What the map has itself holds against what is merged in. */
static int merge(struct source *r, struct document_node *map, const struct document_node *from,
                 unsigned line) {
    struct document_node **end = &map->first;

    if (from->type == DOCUMENT_LIST) {
        for (const struct document_node *c = from->first; c; c = c->next)
            if (c->type != DOCUMENT_MAP || merge(r, map, c, line) < 0)
                return r->err->code ? -EINVAL : refuse(r, line, "'<<' wants maps");
        return 0;
    }
    if (from->type != DOCUMENT_MAP)
        return refuse(r, line, "'<<' wants a map");
    while (*end)
        end = &(*end)->next;
    for (const struct document_node *c = from->first; c; c = c->next) {
        if (document_member(map, c->key))
            continue;
        *end = copy_node(r, c, line);
        if (!*end)
            return -ENOMEM;
        (*end)->key = copy_text(r, c->key, strlen(c->key), line);
        if (!(*end)->key) {
            document_free(*end);
            *end = NULL;
            return -ENOMEM;
        }
        end = &(*end)->next;
    }
    return 0;
}

static int merge_all(struct source *r, struct document_node *map) {
    for (struct document_node **p = &map->first; *p;) {
        struct document_node *n = *p;
        int bad;

        if (strcmp(n->key, "<<") != 0) {
            p = &n->next;
            continue;
        }
        *p = n->next;
        n->next = NULL;
        bad = merge(r, map, n, n->line);
        document_free(n);
        if (bad < 0)
            return bad;
    }
    return 0;
}

static char *read_key(struct source *r, const yaml_event_t *e, const struct document_node *map) {
    char *key;

    if (e->type != YAML_SCALAR_EVENT) {
        refuse(r, line_of(e), "the name of a field must be a word");
        return NULL;
    }
    key = copy_text(r, (const char *)e->data.scalar.value, e->data.scalar.length, line_of(e));
    if (key && document_member(map, key)) {
        char why[140];

        snprintf(why, sizeof(why), "'%.60s' stands twice in the same place", key);
        refuse(r, line_of(e), why);
        free(key);
        return NULL;
    }
    return key;
}

/* The members of a list or map whose first event has been read. */
static int read_members(struct source *r, struct document_node *n, unsigned depth) {
    bool map = n->type == DOCUMENT_MAP;
    yaml_event_type_t last = map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    struct document_node **end = &n->first;
    yaml_event_t e;

    for (unsigned count = 0;; count++) {
        char *key = NULL;
        bool over;

        if (!next_event(r, &e))
            return -EINVAL;
        over = e.type == last;
        if (map && count > MEMBERS) {
            refuse(r, line_of(&e), "a map has more members than are taken");
            yaml_event_delete(&e);
            return -EINVAL;
        }
        if (!over && map) {
            key = read_key(r, &e, n);
            yaml_event_delete(&e);
            if (!key)
                return -EINVAL;
            if (!next_event(r, &e)) {
                free(key);
                return -EINVAL;
            }
        }
        if (!over)
            *end = read_node(r, &e, depth + 1);
        yaml_event_delete(&e);
        if (over)
            return map ? merge_all(r, n) : 0;
        if (!*end) {
            free(key);
            return -EINVAL;
        }
        (*end)->key = key;
        end = &(*end)->next;
    }
}

static struct document_node *read_node(struct source *r, yaml_event_t *e, unsigned depth) {
    bool map = e->type == YAML_MAPPING_START_EVENT;
    const yaml_char_t *tag, *name;
    struct document_node *n;
    int anchor;

    if (depth > DOCUMENT_DEPTH) {
        refuse(r, line_of(e), "it is nested too deep");
        return NULL;
    }
    if (e->type == YAML_ALIAS_EVENT)
        return read_alias(r, e, depth - 1);
    tag = map ? e->data.mapping_start.tag : e->data.sequence_start.tag;
    name = e->type == YAML_SCALAR_EVENT ? e->data.scalar.anchor
           : map                        ? e->data.mapping_start.anchor
                                        : e->data.sequence_start.anchor;
    anchor = begin_anchor(r, name, line_of(e));
    if (anchor < 0)
        return NULL;
    if (e->type == YAML_SCALAR_EVENT)
        n = read_scalar(r, e);
    else if (tag)
        refuse(r, line_of(e), "tags are not taken: write the value without one"), n = NULL;
    else
        n = node_new(r, map ? DOCUMENT_MAP : DOCUMENT_LIST, line_of(e));
    if (n && n->type != DOCUMENT_SCALAR && read_members(r, n, depth) < 0) {
        document_free(n);
        return NULL;
    }
    if (n)
        end_anchor(r, anchor, n);
    return n;
}

/* ------------------------------------------------------------------ JSON */

static unsigned hex4(const char *s) {
    unsigned v = 0;

    for (unsigned i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *d = s[i] ? strchr(digits, tolower((unsigned char)s[i])) : NULL;

        if (!d)
            return 0;
        v = v << 4 | (unsigned)(d - digits);
    }
    return v;
}

/* "\ud83d\ude00" is "\U0001F600". */
static size_t put_pair(struct buf *out, const char *s, size_t left) {
    unsigned high = left >= 12 ? hex4(s + 2) : 0, low = 0;

    if (high >= 0xd800 && high < 0xdc00 && s[6] == '\\' && s[7] == 'u')
        low = hex4(s + 8);
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    buf_printf(out, "\\U%08X", 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
    return 12;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static bool begins_as_json(const char *text, size_t len) {
    while (len && is_blank(*text))
        text++, len--;
    return len && (*text == '{' || *text == '[');
}

static void begin_document(struct buf *out) {
    if (out->len && out->data[out->len - 1] != '\n')
        buf_put(out, "\n", 1);
    buf_put(out, "--- ", 4);
}

static void put_json(struct buf *out, const char *text, size_t len) {
    bool string = false;
    int depth = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        size_t n;

        if (string && c == '\\' && i + 1 < len) {
            n = text[i + 1] == 'u' ? put_pair(out, text + i, len - i) : 0;
            if (!n)
                buf_put(out, text + i, n = 2);
            i += n - 1;
            continue;
        }
        if (c == '"')
            string = !string;
        else if (!string && (c == '{' || c == '[') && depth++ == 0)
            begin_document(out);
        else if (!string && (c == '}' || c == ']'))
            depth--;
        /* In front of a document a blank would be read as an indentation. */
        if (string || depth || c == '}' || c == ']' || c == '"' || !is_blank(c) || c == '\n')
            buf_put(out, &c, 1);
    }
}

/* ------------------------------------------------------------------ files */

static int read_documents(struct source *r, struct document_node **end) {
    yaml_event_t e;
    bool over = false;

    while (!over) {
        if (!next_event(r, &e))
            return -EINVAL;
        over = e.type == YAML_STREAM_END_EVENT;
        if (e.type == YAML_DOCUMENT_END_EVENT) {
            forget_anchors(r);
        } else if (!over && e.type != YAML_STREAM_START_EVENT &&
                   e.type != YAML_DOCUMENT_START_EVENT) {
            *end = read_node(r, &e, 1);
            if (!*end) {
                yaml_event_delete(&e);
                return -EINVAL;
            }
            end = &(*end)->next;
        }
        yaml_event_delete(&e);
    }
    return 0;
}

/* Between documents, or behind the last one, may be nothing. */
static void drop_nulls(struct document_node **p) {
    while (*p) {
        struct document_node *n = *p;

        if (!document_is_null(n)) {
            p = &n->next;
            continue;
        }
        *p = n->next;
        n->next = NULL;
        document_free(n);
    }
}

struct document_node *document_read(const char *text, size_t len, unsigned *ret_line,
                                    struct error *err) {
    struct document_node *all = NULL;
    struct error own = {0};
    struct source *r;
    struct buf json = {0};

    *ret_line = 1;
    if (len > DOCUMENT_BYTES) {
        error_set(err, -EFBIG, "the file is larger than the %d MiB that are taken",
                  DOCUMENT_BYTES >> 20);
        return NULL;
    }
    r = calloc(1, sizeof(*r));
    if (!r || !yaml_parser_initialize(&r->parser)) {
        free(r);
        error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    r->err = &own;
    if (begins_as_json(text, len)) {
        put_json(&json, text, len);
        text = (const char *)json.data;
        len = json.len;
    }
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, len);
    if (read_documents(r, &all) < 0) {
        document_free(all);
        all = NULL;
        *ret_line = r->line;
        error_set(err, own.code ? own.code : -EINVAL, "%s", own.code ? own.text : "out of memory");
    }
    drop_nulls(&all);
    forget_anchors(r);
    yaml_parser_delete(&r->parser);
    buf_done(&json);
    free(r);
    return all;
}
