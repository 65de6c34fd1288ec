/**
 * Owns: `additional_var`: the declared parameters of the probed functions, and how one that lies in an
 * argument register is shown.
 */
import type { FieldFormat } from "libbpf-ts";
import { RunError } from "../../core/module.js";

/** As LEAK_ARGUMENTS and LEAK_TEXT in memleak_probes.bpf.c. */
const registers = 6;
const maxParameters = process.arch === "x64" ? 8 : registers;
const maxText = 127;

type Width = 8 | 16 | 32 | 64;

export interface Parameter {
  readonly name: string;
  readonly kind: "integer" | "boolean" | "pointer" | "text";
  /** Bits of an integer. */
  readonly bits: Width;
  readonly signed: boolean;
  /** Longest text that is read, bytes. */
  readonly text: number;
}

const long = process.arch === "ia32" || process.arch === "arm" ? 32 : 64;

/** Widths of the System V data models (LP64, ILP32). */
const integers: Readonly<Record<string, readonly [bits: Width, signed: boolean]>> = {
  char: [8, process.arch === "x64" || process.arch === "ia32"], // unsigned on arm
  "signed char": [8, true],
  "unsigned char": [8, false],
  short: [16, true],
  "unsigned short": [16, false],
  int: [32, true],
  "unsigned int": [32, false],
  long: [long, true],
  "unsigned long": [long, false],
  "long long": [64, true],
  "unsigned long long": [64, false],
  int8_t: [8, true],
  uint8_t: [8, false],
  int16_t: [16, true],
  uint16_t: [16, false],
  int32_t: [32, true],
  uint32_t: [32, false],
  int64_t: [64, true],
  uint64_t: [64, false],
  size_t: [long, false],
  ssize_t: [long, true],
  intptr_t: [long, true],
  uintptr_t: [long, false],
  ptrdiff_t: [long, true],
  off_t: [long, true],
  pid_t: [32, true],
  uid_t: [32, false],
  gid_t: [32, false],
};

const refuse = (declaration: string, reason: string, hint = ""): RunError =>
  new RunError(2, `memleak_probes.additional_var: ${JSON.stringify(declaration)} ${reason}.`, hint);

/** `unsigned`, `long unsigned int`, `const int`: the ways C lets one write a type, in one form. */
function canonical(type: string): string {
  const words = type.split(/\s+/).filter((word) => !["const", "volatile", "register"].includes(word));
  const unsigned = words.includes("unsigned");
  const rest = words.filter((word) => word !== "unsigned" && word !== "signed");
  const signedChar = words.includes("signed") && rest.join(" ") === "char";
  const width = rest.filter((word) => word !== "int").join(" ");
  const base = width === "" ? "int" : width;
  return `${unsigned ? "unsigned " : signedChar ? "signed " : ""}${base}`;
}

function parseOne(declaration: string): Parameter {
  const parts = /^(.*?)(\[(\d+)\])?\s*((?:\*\s*(?:const\s+)?)*)\s*([A-Za-z_]\w*)(\[(\d+)\])?$/s.exec(
    declaration,
  );
  const [, type = "", , before, stars = "", name = "", , after] = parts ?? [];
  if (!parts || type.trim() === "") {
    throw refuse(declaration, "is not a declaration", 'Write it as in C: "int n, char[10] s, void *p".');
  }
  const base = canonical(type.trim());
  const pointers = stars.replace(/[^*]/g, "").length;
  const length = before ?? after;
  const plain = { name, bits: 64, signed: false, text: 0 } as const;
  if (length !== undefined || (pointers === 1 && /^(signed |unsigned )?char$/.test(base))) {
    if (!/^(signed |unsigned )?char$/.test(base)) {
      throw refuse(declaration, "is an array of something else than char");
    }
    const bytes = length === undefined ? maxText : Number(length);
    if (bytes < 1 || bytes > maxText) {
      throw refuse(declaration, `asks for ${String(bytes)} bytes of text, 1 to ${String(maxText)} can be read`);
    }
    return { ...plain, kind: "text", text: bytes };
  }
  if (pointers > 0) return { ...plain, kind: "pointer" };
  if (/^(bool|_Bool)$/.test(base)) return { ...plain, kind: "boolean", bits: 8 };
  if (/\b(float|double|long double)\b/.test(base)) {
    throw refuse(declaration, "is a floating-point number, which is not passed in a general register");
  }
  if (/^(struct|union)\b/.test(base)) {
    throw refuse(
      declaration,
      `is a ${base.split(" ")[0] ?? "struct"} by value, which is not passed in one general register`,
      "Declare a pointer in its place.",
    );
  }
  const enumeration = /^enum\b/.test(base) ? integers["unsigned int"] : undefined;
  const integer = enumeration ?? integers[base];
  if (!integer) {
    throw refuse(declaration, `has an unknown type, ${JSON.stringify(base)}`, `Known: ${Object.keys(integers).join(", ")}, bool, pointers, char*, char[N].`);
  }
  const [bits, signed] = integer;
  return { name, kind: "integer", bits, signed, text: 0 };
}

/** The parameters of a declaration such as "int n, char[10] s". */
export function parseParameters(text: string): Parameter[] {
  const parameters = text
    .split(",")
    .map((part) => part.trim())
    .filter((part, index, all) => part !== "" || all.length > 1)
    .map(parseOne);
  if (parameters.length > maxParameters) {
    throw refuse(text, `names ${String(parameters.length)} parameters; the first ${String(maxParameters)} can be read`);
  }
  const names = new Set(parameters.map((parameter) => parameter.name));
  if (names.size < parameters.length) throw refuse(text, "names a parameter twice");
  return parameters;
}

/** Whether some are passed on the stack. */
export function onStack(parameters: readonly Parameter[]): boolean {
  return parameters.length > registers;
}

/** The cell of a parameter: what the register's bits mean in its type. */
export function parameterFormat(parameter: Parameter): FieldFormat {
  switch (parameter.kind) {
    case "text":
      return "text";
    case "pointer":
      return "hex";
    case "boolean":
      return { bits: 8, signed: false }; // 0 or 1 by every ABI; what is above is anything
    case "integer":
      return { bits: parameter.bits, signed: parameter.signed };
  }
}
