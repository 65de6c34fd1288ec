/**
 * Owns: where the server listens: the configured name as an address, whether others can reach it, which
 * names a client may call it by.
 * Owns not: listening.
 */
import { lookup } from "node:dns/promises";
import * as net from "node:net";
import { errors } from "../core/errors.js";
import type { HttpSettings } from "../core/onlooker.js";

const loopback = new net.BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

const loopbackNames = ["localhost", "127.0.0.1", "[::1]"];

export interface Address {
  readonly address: string;
  readonly family: number;
  /** Only from this machine. */
  readonly local: boolean;
}

const lookups: Readonly<Record<string, string>> = {
  ENOTFOUND: "there is no such name or address",
  EAI_AGAIN: "the name cannot be looked up now",
};

/** Looked up once: what is checked is what is listened on. */
export async function resolve({ host, port, token }: HttpSettings): Promise<Address> {
  let found: { address: string; family: number };
  try {
    found = await lookup(host);
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    throw errors.cannotListen(host, port, lookups[code] ?? message, 'http.host is a name or an address, as "127.0.0.1".');
  }
  const local = loopback.check(found.address, found.family === 6 ? "ipv6" : "ipv4");
  if (!local && token === undefined) throw errors.noToken(host);
  return { ...found, local };
}

const reasons: Readonly<Record<string, [reason: string, hint: string]>> = {
  EADDRINUSE: ["something else listens there", "Set another http.port; ss -ltnp shows who has which."],
  EADDRNOTAVAIL: ["this machine does not have that address", "ip address shows those it has."],
  EACCES: ["permission denied", "Set another http.port."],
};

export function listenFailure(error: unknown, { host, port }: HttpSettings): Error {
  const { code = "", message } = error as NodeJS.ErrnoException;
  return errors.cannotListen(host, port, ...(reasons[code] ?? ([message, ""] as const)));
}

function bracketed(name: string): string {
  return net.isIPv6(name) ? `[${name}]` : name.toLowerCase();
}

/** As a URL has it. */
export function urlOf(host: string, port: number): string {
  return `http://${bracketed(host)}:${String(port)}/`;
}

/**
 * Whether a Host header, or what is behind the scheme of an Origin, is us. A page of somebody else's can
 * have its own name point to this machine (DNS rebinding), but cannot make the browser say another name.
 * `reached`: the address the client has connected to, which no name hides.
 */
export function isOurs(said: string, host: string, port: number, reached: string | undefined): boolean {
  const [, name = "", saidPort = "80"] = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/i.exec(said) ?? [];
  if (Number(saidPort) !== port) return false;
  const names = [...loopbackNames, bracketed(host)];
  if (reached !== undefined) names.push(bracketed(reached.replace(/^::ffff:/, "")));
  return names.includes(name.toLowerCase());
}
