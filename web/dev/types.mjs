// SPDX-License-Identifier: GPL-2.0-or-later
// TypeScript types of the API's schemas, out of the OpenAPI document.
// usage: node types.mjs OPENAPI.json OUTPUT.d.ts
import { readFileSync, writeFileSync } from 'node:fs';

const [input, output] = process.argv.slice(2);
const { schemas } = JSON.parse(readFileSync(input, 'utf8')).components;
const indent = (depth) => '  '.repeat(depth);

function type(schema, depth) {
  if (schema.$ref) return schema.$ref.split('/').pop();
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(' | ');
  switch (schema.type) {
    case 'integer':
    case 'number':
      return 'number';
    case 'string':
    case 'boolean':
      return schema.type;
    case 'array':
      return `(${type(schema.items, depth)})[]`;
    case 'object':
      return schema.properties ? members(schema, depth) : 'Record<string, unknown>';
    default:
      return 'unknown';
  }
}

function members(schema, depth) {
  const lines = Object.entries(schema.properties).flatMap(([name, property]) => [
    ...(property.description ? [`${indent(depth + 1)}/** ${property.description.replaceAll('*/', '*')} */`] : []),
    `${indent(depth + 1)}${JSON.stringify(name)}${schema.required?.includes(name) ? '' : '?'}: ${type(property, depth + 1)};`,
  ]);
  return `{\n${lines.join('\n')}\n${indent(depth)}}`;
}

const text = Object.entries(schemas).map(([name, schema]) =>
  schema.type === 'object' && schema.properties
    ? `export interface ${name} ${members(schema, 0)}\n`
    : `export type ${name} = ${type(schema, 0)};\n`);
writeFileSync(output, `// Made by dev/types.mjs from the manager's OpenAPI document.\n${text.join('\n')}`);
