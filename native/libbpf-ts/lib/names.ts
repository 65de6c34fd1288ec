// SPDX-License-Identifier: MIT
// "Did you mean …": what to say when a name is not there.

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitute, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** Up to three of `names` nearest to `wanted`, nearest first; only those that could be a slip. */
export function closestNames(wanted: string, names: Iterable<string>): string[] {
  const lower = wanted.toLowerCase();
  const limit = Math.max(2, Math.floor(wanted.length / 3));
  const scored: { name: string; score: number }[] = [];
  for (const name of new Set(names)) {
    if (Math.abs(name.length - wanted.length) > limit && !name.toLowerCase().includes(lower)) {
      continue;
    }
    const score = name.toLowerCase().includes(lower)
      ? 1
      : distance(lower, name.toLowerCase());
    if (score <= limit) scored.push({ name, score });
  }
  scored.sort((a, b) => a.score - b.score || a.name.localeCompare(b.name));
  return scored.slice(0, 3).map((entry) => entry.name);
}

/** "; did you mean a, b?" or a list of what there is, or nothing. */
export function suggestion(wanted: string, names: Iterable<string>): string {
  const all = [...names];
  const close = closestNames(wanted, all);
  if (close.length > 0) return `; did you mean ${close.join(", ")}?`;
  if (all.length === 0) return "; there are none";
  if (all.length <= 8) return `; there are ${all.join(", ")}`;
  return "";
}
