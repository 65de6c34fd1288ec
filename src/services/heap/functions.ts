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
function operator(name: string): ObservedFunction | undefined {
  if (/^_Zn[wa][mj]/.test(name)) return allocates("malloc");
  if (/^_Zd[la]Pv/.test(name)) return frees;
  return undefined;
}

export function observed(name: string): ObservedFunction | undefined {
  return c[name] ?? operator(name);
}

/** What makes a file an allocator: it defines these itself. */
export function isAllocator(names: ReadonlySet<string>): boolean {
  return names.has("malloc") && names.has("free");
}
