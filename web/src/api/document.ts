// SPDX-License-Identifier: GPL-2.0-or-later
// What this manager can do, from its OpenAPI document: resources, their fields and operations. Screens are drawn from it,
// so that a resource that comes to the manager comes to the portal as well.
import { signal } from '@preact/signals';
import { call, session } from './client';

export interface Schema {
  type?: string;
  description?: string;
  enum?: string[];
  examples?: string[]; // some of many
  default?: unknown;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  format?: string;
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  'x-unit'?: string; // "bytes"
  'x-column'?: string; // heading in lists
  $ref?: string;
}

interface Operation {
  operationId: string;
  summary: string;
  'x-permission'?: string;
  parameters?: { name: string; in: string; required?: boolean; schema: Schema; description?: string }[];
  requestBody?: { content: { 'application/json': { schema: Schema } } };
}

interface Document {
  info: { version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

export interface Verb {
  name: string;
  method: string;
  help: string;
  permission: string;
  args: Schema; // an object
}

export interface Resource {
  kind: string;
  plural: string;
  help: string;
  item: Schema;
  create?: Schema; // of spec
  update?: Schema;
  named: boolean; // a creation takes a name
  verbs: Record<string, Verb>;
}

export const resources = signal<ReadonlyMap<string, Resource>>(new Map());
export const version = signal('');

const empty: Schema = { type: 'object', properties: {} };

function take(doc: Document, schema: Schema | undefined): Schema | undefined {
  const name = schema?.$ref?.split('/').pop();
  return name ? doc.components.schemas[name] : schema;
}

function argsOf(doc: Document, op: Operation): Schema {
  const body = take(doc, op.requestBody?.content['application/json'].schema);
  if (body) return body;
  const query = (op.parameters ?? []).filter((p) => p.in === 'query');
  return {
    type: 'object',
    properties: Object.fromEntries(query.map((p) => [p.name, { description: p.description, ...p.schema }])),
    required: query.filter((p) => p.required).map((p) => p.name),
  };
}

export async function loadDocument(): Promise<void> {
  const doc = await call<Document>('GET', '/openapi.json');
  const found = new Map<string, Resource>();
  for (const [path, methods] of Object.entries(doc.paths)) {
    const plural = path.split('/')[2] ?? '';
    for (const [method, op] of Object.entries(methods)) {
      if (!op.operationId) continue;
      const [kind, name] = op.operationId.split('.') as [string, string];
      const type = kind.replace(/(^|[_-])(\w)/g, (_, __, c: string) => c.toUpperCase());
      const item = doc.components.schemas[type] ?? empty;
      const r = found.get(kind) ?? { kind, plural, help: item.description ?? '', item, named: false, verbs: {} };
      const args = argsOf(doc, op);
      if (name === 'create') {
        r.create = args.properties?.spec ?? empty;
        r.named = !!args.properties?.name;
      }
      if (name === 'update') r.update = args.properties?.spec ?? empty;
      r.verbs[name] = { name, method: method.toUpperCase(), help: op.summary, permission: op['x-permission'] ?? '', args };
      found.set(kind, r);
    }
  }
  version.value = doc.info.version;
  resources.value = found;
}

export const resource = (...kinds: string[]): Resource | undefined =>
  kinds.map((k) => resources.value.get(k)).find((r) => r !== undefined);

/** Whether there is such an operation and whoever is signed in may use it. */
export function can(kind: string, verb: string): boolean {
  const permission = resources.value.get(kind)?.verbs[verb]?.permission;
  const may = session.value?.may;
  return permission !== undefined && (!may || may.includes(permission));
}

/** Operations on one item that are not the portal's own words: what may be done with it. */
export const actionsOf = (kind: string): Verb[] =>
  Object.values(resources.value.get(kind)?.verbs ?? {}).filter((v) => v.method === 'POST' && v.name !== 'create' && can(kind, v.name));
