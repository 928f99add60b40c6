/**
 * The shape of records. A record that was damaged can still be JSON, with a field that is missing or is something else:
 * it counts as corrupt, before anything is done by it.
 */

/** What a field is: a number of a record is never negative and never later than the last date. */
type FieldKind = 'text' | 'number' | 'record' | 'list';

const LAST_DATE = 8.64e15;

function isOfKind(value: unknown, kind: FieldKind): boolean {
  switch (kind) {
    case 'text':
      return typeof value === 'string';
    case 'number':
      return typeof value === 'number' && value >= 0 && value <= LAST_DATE;
    case 'list':
      return Array.isArray(value);
    case 'record':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
  }
}

type Fields = Readonly<Record<string, FieldKind>>;

/** Whether `value` is a record with all these fields, each of its kind. It may lack the `optional` ones, and have more. */
export function hasFields(value: unknown, fields: Fields, optional: Fields = {}): boolean {
  if (!isOfKind(value, 'record')) return false;
  const record = value as Readonly<Record<string, unknown>>;
  for (const name in fields) if (!isOfKind(record[name], fields[name] ?? 'record')) return false;
  for (const name in optional)
    if (record[name] !== undefined && !isOfKind(record[name], optional[name] ?? 'record')) return false;
  return true;
}

/** Whether `value` names a process. */
export function isProcessId(value: unknown): boolean {
  return hasFields(value, { pid: 'number', start: 'text' });
}
