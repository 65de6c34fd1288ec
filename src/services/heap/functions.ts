/**
 * Owns: which functions of an allocator are observed, and how they are told apart.
 */

/** As enum heap_function in mem.bpf.c. */
const sites = {
  malloc: 1,
  calloc: 2,
  memalign: 3,
  posix_memalign: 4,
  realloc: 5,
  reallocarray: 6,
  free: 7,
} as const;

export interface ObservedFunction {
  /** How the entry program tells it. */
  readonly site: number;
  /** Whether the outcome is known only at return. */
  readonly returns: boolean;
}

const allocates = (name: keyof typeof sites): ObservedFunction => ({
  site: sites[name],
  returns: true,
});
const frees: ObservedFunction = { site: sites.free, returns: false };

const c: Readonly<Record<string, ObservedFunction>> = {
  malloc: allocates("malloc"),
  valloc: allocates("malloc"),
  pvalloc: allocates("malloc"),
  calloc: allocates("calloc"),
  memalign: allocates("memalign"),
  aligned_alloc: allocates("memalign"),
  posix_memalign: allocates("posix_memalign"),
  realloc: allocates("realloc"),
  reallocarray: allocates("reallocarray"),
  free: frees,
  cfree: frees,
  free_sized: frees, // C23
  free_aligned_sized: frees, // C23
};

/**
 * The C++ operators (Itanium mangling) of a library that brings its own malloc: jemalloc and tcmalloc
 * inline the fast path into them. libstdc++'s only call malloc and are left alone.
 */
const operators: readonly (readonly [string, ObservedFunction])[] = [
  ...["_Znwm", "_Znam"].flatMap((name) =>
    ["", "RKSt9nothrow_t", "St11align_val_t", "St11align_val_tRKSt9nothrow_t"].map(
      (suffix) => [name + suffix, allocates("malloc")] as const,
    ),
  ),
  ...["_ZdlPv", "_ZdaPv"].flatMap((name) =>
    ["", "m", "RKSt9nothrow_t", "St11align_val_t", "mSt11align_val_t", "St11align_val_tRKSt9nothrow_t"].map(
      (suffix) => [name + suffix, frees] as const,
    ),
  ),
];

const byName: ReadonlyMap<string, ObservedFunction> = new Map([...Object.entries(c), ...operators]);

/** Every name that is looked for. */
export const observedNames: readonly string[] = [...byName.keys()];

export function observed(name: string): ObservedFunction | undefined {
  return byName.get(name);
}

/** What makes a file an allocator: it defines these itself. */
export function isAllocator(names: ReadonlySet<string>): boolean {
  return names.has("malloc") && names.has("free");
}
