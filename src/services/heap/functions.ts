/**
 * Owns: which functions of an allocator are observed and by which program.
 */

export interface ObservedFunction {
  /** BPF program at entry (bpf/modules/mem.bpf.c). */
  readonly program: string;
  /** Whether the outcome is known only at return. */
  readonly returns: boolean;
}

const allocates = (program: string): ObservedFunction => ({ program, returns: true });
const frees: ObservedFunction = { program: "mem_free", returns: false };

const c: Readonly<Record<string, ObservedFunction>> = {
  malloc: allocates("mem_malloc"),
  valloc: allocates("mem_malloc"),
  pvalloc: allocates("mem_malloc"),
  calloc: allocates("mem_calloc"),
  memalign: allocates("mem_memalign"),
  aligned_alloc: allocates("mem_memalign"),
  posix_memalign: allocates("mem_posix_memalign"),
  realloc: allocates("mem_realloc"),
  reallocarray: allocates("mem_reallocarray"),
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
  if (/^_Zn[wa][mj]/.test(name)) return allocates("mem_malloc");
  if (/^_Zd[la]Pv/.test(name)) return frees;
  return undefined;
}

export const heapPrograms: readonly string[] = [
  ...new Set(Object.values(c).map((each) => each.program)),
  "mem_return",
];

export function observed(name: string): ObservedFunction | undefined {
  return c[name] ?? operator(name);
}

/** What makes a file an allocator: it defines these itself. */
export function isAllocator(names: ReadonlySet<string>): boolean {
  return names.has("malloc") && names.has("free");
}
