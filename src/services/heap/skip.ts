/**
 * Owns: where exactly to put a probe at the start of a function. The kernel emulates a breakpoint on
 * push, nop, call and jmp; any other instruction it must single-step, which costs twelve times as much
 * (docs/mem.md has the measurement). So a probe may move forward to the first emulated instruction,
 * past instructions that change neither an argument register nor the stack pointer nor the flow.
 */

/** Machines whose code is decoded; elsewhere the probe stays at the first instruction. */
export type Machine = "x86_64" | "aarch64" | "other";

const argumentRegisters = new Set([7, 6, 2, 1, 8, 9]); // rdi rsi rdx rcx r8 r9 (System V ABI)
const stackPointer = 4;

interface Instruction {
  readonly length: number;
  readonly kind: "emulated" | "harmless" | "null-check" | "branch-if-zero";
}

/** One instruction at the start of `code`, or undefined for one that must not be passed. */
function decode(code: Uint8Array): Instruction | undefined {
  const [b0 = 0, b1 = 0, b2 = 0, b3 = 0] = code;
  if (b0 === 0xf3 && b1 === 0x0f && b2 === 0x1e && b3 === 0xfa) {
    return { length: 4, kind: "harmless" }; // endbr64
  }
  const rex = b0 >= 0x40 && b0 <= 0x4f ? b0 : 0;
  const opcode = rex ? b1 : b0;
  const start = rex ? 2 : 1;
  // push reg; nop; call; jmp: arch/x86/kernel/uprobes.c, push_setup_xol_ops and branch_setup_xol_ops
  if (opcode >= 0x50 && opcode <= 0x57) return { length: start, kind: "emulated" };
  if (!rex && [0x90, 0xe8, 0xe9, 0xeb].includes(b0)) return { length: 1, kind: "emulated" };
  // je: taken for a null argument after the test below
  if (!rex && b0 === 0x74) return { length: 2, kind: "branch-if-zero" };
  if (!rex && b0 === 0x0f && b1 === 0x84) return { length: 6, kind: "branch-if-zero" };
  const modrm = code[start] ?? 0;
  const registers = modrm >> 6 === 3;
  const reg = ((modrm >> 3) & 7) | ((rex & 4) << 1);
  const rm = (modrm & 7) | ((rex & 1) << 3);
  if (!registers) return undefined;
  if (opcode === 0x85) {
    return { length: start + 1, kind: reg === 7 && rm === 7 && rex === 0x48 ? "null-check" : "harmless" };
  }
  const writable = (register: number): boolean =>
    !argumentRegisters.has(register) && register !== stackPointer;
  // mov r/m, r; xor r/m, r: harmless when the register written is nobody's argument
  if ((opcode === 0x89 || opcode === 0x31) && writable(rm)) return { length: start + 1, kind: "harmless" };
  return undefined;
}

/**
 * Bytes from the start of a function to where its probe goes; 0 when that is nowhere better.
 * A branch is passed in one case only: `test %rdi,%rdi; je`, when a null first argument is none of our
 * business (`nullIsNothing`, true for free).
 */
export function probeOffset(code: Uint8Array, machine: Machine, nullIsNothing: boolean): number {
  if (machine !== "x86_64") return 0;
  let at = 0;
  let nullChecked = false;
  while (at < code.length) {
    const instruction = decode(code.subarray(at));
    if (!instruction) return 0;
    if (instruction.kind === "emulated") return at;
    if (instruction.kind === "branch-if-zero" && !(nullChecked && nullIsNothing)) return 0;
    nullChecked = instruction.kind === "null-check";
    at += instruction.length;
  }
  return 0;
}
