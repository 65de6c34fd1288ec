/**
 * Owns: what somebody who wrote a name that does not exist perhaps meant.
 */
import { distance } from "fastest-levenshtein";

/** The known names closest to the word by edit distance, nearest first, and how far each is. */
export function nearest(
  word: string,
  known: Iterable<string>,
  most: number,
): { readonly name: string; readonly far: number }[] {
  return [...new Set(known)]
    .map((name) => ({ name, far: distance(word, name) }))
    .sort((a, b) => a.far - b.far)
    .slice(0, most);
}
