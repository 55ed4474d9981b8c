// SPDX-License-Identifier: GPL-2.0-or-later
// Forms drawn from the API's schemas: each field with its help, limits and what was wrong with it. A field of the name of
// another resource offers that resource's names.
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useMemo, useRef, useState } from 'preact/hooks';
import { Failure } from '../api/client';
import { resources, type Schema } from '../api/document';
import { bytes, label, readSize, shortSize } from '../format';
import { collection } from '../store';
import { FailureNote, Note } from './bits';

export type Values = Record<string, unknown>;

export interface Group {
  title: string;
  fields: string[]; // '*': all that no other group has
  open?: boolean;
}

const isSize = (s: Schema) => s['x-unit'] === 'bytes';
const isText = (s: Schema) => s.type === 'string' && (s.maxLength ?? 0) > 4096;
const isTime = (s: Schema) => s.format === 'date-time';
const isList = (s: Schema) => s.type === 'array';

/** As <input type="datetime-local"> has it. */
function localTime(time: string): string {
  const at = new Date(time);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** As it stands in an input. */
function shown(schema: Schema, value: unknown): string {
  if (value === undefined || value === null) return '';
  if (isList(schema)) return (value as unknown[]).join('\n');
  if (isSize(schema)) return typeof value === 'number' ? shortSize(value) : String(value);
  if (schema.type === 'object') return JSON.stringify(value, null, 2);
  if (isTime(schema)) return localTime(String(value));
  return String(value);
}

/** What the words of an input mean; undefined: not given. Throws a sentence. */
function meant(schema: Schema, text: string): unknown {
  if (isList(schema)) {
    const lines = text.split('\n').map((l) => l.trim()).filter(Boolean);
    const pattern = schema.items?.pattern;
    const wrong = pattern && lines.find((l) => !new RegExp(pattern).test(l));
    if (wrong) throw new Error(`'${wrong}' is not of that form`);
    return lines;
  }
  if (text === '') return schema.default !== undefined && schema.type === 'string' ? '' : undefined;
  if (schema.type === 'integer') {
    const n = isSize(schema) ? readSize(text) : Number(text);
    if (!Number.isInteger(n)) throw new Error(isSize(schema) ? 'write a size such as 512M or 2G' : 'write a whole number');
    const say = (m: number) => (isSize(schema) ? bytes(m) : String(m));
    if (schema.minimum !== undefined && n < schema.minimum) throw new Error(`at least ${say(schema.minimum)}`);
    if (schema.maximum !== undefined && n > schema.maximum) throw new Error(`at most ${say(schema.maximum)}`);
    return n;
  }
  if (schema.type === 'object') return JSON.parse(text);
  if (isTime(schema)) return new Date(text).toISOString();
  if (schema.pattern && !new RegExp(schema.pattern).test(text)) throw new Error('this is not of the form that it takes');
  return text;
}

function limits(s: Schema): string {
  if (s.type !== 'integer' || s.minimum === undefined || s.maximum === undefined) return '';
  const say = (m: number) => (isSize(s) ? shortSize(m) : String(m));
  return s.maximum > 2 ** 52 ? `at least ${say(s.minimum)}` : `${say(s.minimum)} to ${say(s.maximum)}`;
}

/* What is in such a state cannot be referred to. */
const NOT_THERE = ['building', 'creating', 'failed', 'deleting'];

interface FieldProps {
  name: string;
  title?: string;
  schema: Schema;
  value: string | boolean;
  wrong?: string;
  required?: boolean;
  placeholder?: string;
  set?: boolean; // it has a value already, which is changed here
  onChange: (v: string | boolean) => void;
}

export function Field({ name, title, schema, value, wrong, required, placeholder, set, onChange }: FieldProps) {
  const id = useId();
  const other = resources.value.get(name);
  const offers = other?.verbs.list && schema.type === 'string' ? [...collection(name).use().items.value.values()].filter((i) => !NOT_THERE.includes(String(i.status?.state))).map((i) => i.name) : (schema.examples ?? null);
  const help = [schema.description, limits(schema), isList(schema) ? 'one a line' : ''].filter(Boolean).join('; ');
  const common = {
    id,
    name,
    required,
    'aria-describedby': `${id}-help`,
    'aria-invalid': wrong ? true : undefined,
    spellcheck: false,
    autocomplete: 'off',
  };
  const input = (e: { currentTarget: { value: string } }) => onChange(e.currentTarget.value);
  let control: ComponentChildren;

  if (schema.type === 'boolean')
    return (
      <label class="check">
        <input type="checkbox" checked={value === true} onChange={(e) => onChange(e.currentTarget.checked)} />
        <span>
          {title ?? label(name)}
          <small>{schema.description}</small>
        </span>
      </label>
    );
  // One of those that there are, or the word of the standard value; what has a form of its own is more than a name.
  const one = offers && (required || (schema.default !== undefined && !schema.pattern));
  const words = schema.enum ?? (schema.default !== undefined && offers ? [String(schema.default), ...offers] : offers);
  if (schema.enum || one)
    control = (
      <select {...common} value={value as string} onChange={input}>
        {(!required || value === '') && schema.default === undefined && !(set && value !== '') && <option value="">{required ? 'choose …' : '–'}</option>}
        {words!.map((w) => (
          <option key={w} value={w}>
            {w}
          </option>
        ))}
      </select>
    );
  else if (isText(schema) || isList(schema) || schema.type === 'object')
    control = <textarea {...common} rows={isText(schema) ? 4 : 2} value={value as string} onInput={input} placeholder={placeholder} />;
  else
    control = (
      <>
        <input
          {...common}
          value={value as string}
          onInput={input}
          type={isTime(schema) ? 'datetime-local' : undefined}
          inputMode={schema.type === 'integer' && !isSize(schema) ? 'numeric' : undefined}
          placeholder={placeholder ?? (schema.default !== undefined && schema.default !== '' ? shown(schema, schema.default) : undefined)}
          list={offers ? `${id}-offers` : undefined}
        />
        {offers && (
          <datalist id={`${id}-offers`}>
            {offers.map((w) => (
              <option key={w} value={w} />
            ))}
          </datalist>
        )}
      </>
    );
  return (
    <div class={`field ${wrong ? 'wrong' : ''}`}>
      <label for={id}>
        {title ?? label(name)}
        {!required && !set && schema.default === undefined && <small aria-hidden="true">optional</small>}
      </label>
      {control}
      <small id={`${id}-help`} class="help">
        {wrong ? <span class="wrong-text">{wrong}</span> : help}
      </small>
    </div>
  );
}

interface FormProps {
  schema: Schema; // of an object
  start?: Values;
  groups?: Group[];
  verb: string;
  withName?: boolean;
  nameHelp?: string;
  placeholders?: Record<string, string>;
  changesOnly?: boolean; // hand over only what differs from `start`
  hidden?: string[];
  before?: ComponentChildren;
  after?: ComponentChildren;
  onSubmit: (name: string, values: Values) => Promise<unknown>;
  onCancel?: () => void;
}

const NAME: Schema = { type: 'string', description: "small letters, digits, '-' and '.'", minLength: 1, maxLength: 63, pattern: '^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$' };

export function Form({ schema, start = {}, groups, verb, withName, nameHelp, placeholders, changesOnly, hidden = [], before, after, onSubmit, onCancel }: FormProps) {
  const properties = schema.properties ?? {};
  const names = Object.keys(properties).filter((n) => !hidden.includes(n));
  const first = useMemo(() => {
    const v: Record<string, string | boolean> = {};
    for (const n of names) {
      const s = properties[n]!;
      const given = start[n] ?? s.default;
      v[n] = s.type === 'boolean' ? given === true : shown(s, given);
    }
    return v;
  }, []);
  const [name, setName] = useState('');
  const [values, setValues] = useState(first);
  const [wrong, setWrong] = useState<Record<string, string>>({});
  const [failure, setFailure] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const own = useRef<HTMLFormElement>(null);

  // A form that comes into an open dialog takes the focus from its close button.
  useEffect(() => {
    const dialog = own.current?.closest('dialog');
    if (dialog) own.current?.querySelector<HTMLElement>('input, select, textarea')?.focus();
  }, []);

  const gather = (): Values | null => {
    const errors: Record<string, string> = {};
    const out: Values = {};
    if (withName && !new RegExp(NAME.pattern!).test(name)) errors.name = name ? 'small letters, digits, - and . only' : 'it needs a name';
    for (const n of names) {
      const s = properties[n]!;
      const v = values[n];
      if (changesOnly && v === first[n]) continue;
      try {
        const value = typeof v === 'boolean' ? v : meant(s, v ?? '');
        if (value === undefined && schema.required?.includes(n)) throw new Error('it is needed');
        // What is as it would be anyway is left out, so that the manager's standard holds.
        if (value !== undefined && (changesOnly || JSON.stringify(value) !== JSON.stringify(s.default))) {
          if (!(Array.isArray(value) && value.length === 0 && !changesOnly)) out[n] = value;
        } else if (value === undefined && changesOnly) out[n] = null;
      } catch (e) {
        errors[n] = (e as Error).message;
      }
    }
    setWrong(errors);
    return Object.keys(errors).length ? null : out;
  };

  const submit = async (e: Event) => {
    e.preventDefault();
    const form = e.currentTarget as HTMLFormElement;
    const focusWrong = () => requestAnimationFrame(() => form.querySelector<HTMLElement>('[aria-invalid]')?.focus());
    const out = gather();
    if (!out) return focusWrong();
    setBusy(true);
    setFailure(null);
    try {
      await onSubmit(name, out);
    } catch (error) {
      const field = error instanceof Failure ? error.field.replace(/^spec\./, '').split(/[.[]/)[0]! : '';
      if (field && (field in properties || (field === 'name' && withName))) {
        setWrong({ [field]: [(error as Failure).reason, (error as Failure).remedy].filter(Boolean).join(': ') });
        focusWrong();
      }
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };

  const draw = (n: string) => (
    <Field
      key={n}
      name={n}
      schema={properties[n]!}
      value={values[n]!}
      wrong={wrong[n]}
      required={schema.required?.includes(n)}
      placeholder={placeholders?.[n]}
      set={changesOnly}
      onChange={(v) => setValues({ ...values, [n]: v })}
    />
  );
  const mentioned = new Set((groups ?? []).flatMap((g) => g.fields));
  const rest = names.filter((n) => !mentioned.has(n));
  const parts = (groups ?? [{ title: '', fields: ['*'], open: true }])
    .map((g) => ({ ...g, list: g.fields.flatMap((f) => (f === '*' ? rest : names.includes(f) ? [f] : [])) }))
    .filter((g) => g.list.length || g.open);

  return (
    <form ref={own} onSubmit={(e) => void submit(e)} noValidate>
      <div class="dialog-body">
        {before}
        {parts.map((g, i) => {
          const fields = (
            <div class="fields">
              {i === 0 && withName && (
                <Field name="name" schema={nameHelp ? { ...NAME, description: nameHelp } : NAME} value={name} wrong={wrong.name} required onChange={(v) => setName(v as string)} />
              )}
              {g.list.map(draw)}
            </div>
          );
          if (g.open) return <div key={g.title}>{fields}</div>;
          const bad = g.list.some((n) => wrong[n]);
          return (
            <details key={g.title} open={bad || undefined}>
              <summary>{g.title}</summary>
              {fields}
            </details>
          );
        })}
        {after}
        {failure !== null && <FailureNote failure={failure} />}
        {Object.keys(wrong).length > 1 && <Note tone="bad" text={`${Object.keys(wrong).length} fields need another look.`} />}
      </div>
      <footer>
        {onCancel && (
          <button type="button" onClick={onCancel}>
            Cancel
          </button>
        )}
        <button type="submit" class="primary" disabled={busy}>
          {busy ? 'Working …' : verb}
        </button>
      </footer>
    </form>
  );
}
