/**
 * Comparing JSON values by what they mean.
 *
 * @module
 */

/** JSON with sorted keys, since jsonb reorders them. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => {
    if (typeof item !== "object" || item === null || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).toSorted(([a], [b]) => a < b ? -1 : 1));
  });
}
